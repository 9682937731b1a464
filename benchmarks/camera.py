"""How exactly the camera comes back out of a spoiled point map: random poses of real meshes.

python benchmarks/camera.py [--poses 200] [--free-focal] mesh [mesh ...]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from refany3d_core.asset import Camera, load_asset, look_at, render  # noqa: E402
from refany3d_core.asset.model import Asset  # noqa: E402
from refany3d_core.pointmap.camera import recover_camera  # noqa: E402

BLUR = 1.2
OUTLIERS = 0.02


def random_camera(rng: np.random.Generator, size: int = 512) -> Camera:
    """Anywhere on the sphere, any roll, 3.5 to 6 away, looking near the asset's middle."""
    direction = rng.normal(size=3)
    eye = direction / np.linalg.norm(direction) * rng.uniform(3.5, 6)
    up = rng.normal(size=3)
    return Camera(look_at(eye, rng.uniform(-0.25, 0.25, 3), up), rng.uniform(35, 55), size, size)


def spoiled_map(asset: Asset, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """The true map with blur, 8 bits a channel, and random pixels."""
    from scipy import ndimage

    out = ndimage.gaussian_filter(render(asset, camera).point_map, (BLUR, BLUR, 0))
    out = np.round(out * 255) / 255
    wrong = rng.random(out.shape[:2]) < OUTLIERS
    out[wrong] = rng.random((int(wrong.sum()), 3))
    return out


def pose_errors(found: Camera, true: Camera) -> tuple[float, float]:
    """Degrees, and the distance of the eyes as a part of the true distance to the origin."""
    turn = found.pose[:3, :3].T @ true.pose[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return float(angle), float(np.linalg.norm(found.eye - true.eye) / np.linalg.norm(true.eye))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", nargs="+", type=Path)
    parser.add_argument("--poses", type=int, default=200, help="in all, shared by the meshes")
    parser.add_argument("--free-focal", action="store_true", help="search the field of view")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    assets = [load_asset(mesh) for mesh in options.meshes]
    rows = []
    for i in range(options.poses):
        asset, mesh = assets[i % len(assets)], options.meshes[i % len(assets)]
        camera = random_camera(rng)
        picture = spoiled_map(asset, camera, rng)
        start = time.perf_counter()
        try:
            fov = None if options.free_focal else camera.fov
            found = recover_camera(picture, asset, fov)
            degrees, distance = pose_errors(found.camera, camera)
        except ValueError as error:
            print(f"{mesh.name}: {error}")
            degrees, distance = np.inf, np.inf
        rows.append((degrees, distance, time.perf_counter() - start))
        if degrees > 0.5 or distance > 0.01:
            print(f"{mesh.name} pose {i}: {degrees:.3f} degrees, {distance:.2%} of the distance")
    degrees, distance, seconds = np.array(rows).T
    good = (degrees < 0.5) & (distance < 0.01)
    print(
        f"{len(rows)} poses: within 0.5 degrees and 1 %: {good.mean():.1%}; "
        f"degrees median {np.median(degrees):.3f}, 95 % {np.quantile(degrees, 0.95):.3f}; "
        f"distance median {np.median(distance):.3%}, 95 % {np.quantile(distance, 0.95):.3%}; "
        f"{np.median(seconds):.2f} s each"
    )
    return 0 if good.mean() >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
