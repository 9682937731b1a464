"""Estimate Pose on pictures with a known camera, beside its floor and its ceiling.

python benchmarks/run.py pose_search [--pictures 40] [--unknown-fov] [--folder DIR]

Pictures are drawn by pose_pictures.py from the bundled meshes, or read from a folder with an
index.json (image, mask, mesh, fov_guess, camera: camera_to_world and fov). Rows: the coarse search
alone (floor), the whole search, the refinement from the true pose (ceiling: what the deformation
and the bad mask leave), and the whole search with another mesh.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.pose_pictures import PosedPicture, draw  # noqa: E402
from refany3d_core.asset import Asset, Camera, load_asset  # noqa: E402
from refany3d_core.pointmap.pnp import Pose  # noqa: E402
from refany3d_core.pose_search import estimate_pose  # noqa: E402
from refany3d_core.pose_search.coarse import make_templates, place, viewpoints  # noqa: E402
from refany3d_core.pose_search.picture import Picture  # noqa: E402
from refany3d_core.pose_search.refine import refine  # noqa: E402
from refany3d_core.pose_search.search import (  # noqa: E402
    AZIMUTH_STEP,
    GUESS_SIGMA,
    PITCHES,
    ROLLS,
    STAGES,
    UNKNOWN_FOV,
    UNKNOWN_SIGMA,
)

MESHES = {
    "spot.glb": ROOT / "assets/spot.glb",
    "touch_controller.glb": ROOT / "tests/data/meshes/touch_controller.glb",
    "cesium_milk_truck.glb": ROOT / "tests/data/meshes/cesium_milk_truck.glb",
    "mushroom.glb": ROOT / "assets/mushroom.glb",
}


def drawn(count: int, seed: int, assets: dict[str, Asset]) -> Iterator[tuple[str, PosedPicture]]:
    rng = np.random.default_rng(seed)
    names = list(assets)
    for i in range(count):
        yield names[i % len(names)], draw(assets[names[i % len(names)]], rng)


def stored(folder: Path) -> Iterator[tuple[str, PosedPicture]]:
    from PIL import Image

    for entry in json.loads((folder / "index.json").read_text()):
        image = np.asarray(Image.open(folder / entry["image"]).convert("RGB")) / 255
        mask = np.asarray(Image.open(folder / entry["mask"]).convert("L")) / 255
        pose, fov = np.array(entry["camera"]["camera_to_world"]), entry["camera"]["fov"]
        camera = Camera(pose, fov, mask.shape[1], mask.shape[0])
        picture = PosedPicture(image, mask, camera, entry["fov_guess"], 0.0)
        yield entry["mesh"], picture


def errors(found: Camera, true: Camera, asset: Asset) -> tuple[float, float]:
    """Degrees, and the mean distance of the vertices in pixels at a width of 512."""
    trace = np.trace(found.pose[:3, :3].T @ true.pose[:3, :3])
    degrees = float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))

    def seen(camera: Camera) -> np.ndarray:
        x = (asset.vertices - camera.eye) @ camera.pose[:3, :3]
        return camera.focal * x[:, :2] / -x[:, 2:] * (1, -1)

    distance = np.linalg.norm(seen(found) - seen(true), axis=1).mean()
    return degrees, float(distance * 512 / true.width)


def coarse(asset: Asset, picture: PosedPicture, fov: float) -> Camera:
    """The best of the coarse renders."""
    target = Picture(picture.image, picture.mask)
    focal = target.focal(fov or UNKNOWN_FOV)
    distance = 2 * focal / target.extent
    templates = make_templates(asset, distance, viewpoints(PITCHES, AZIMUTH_STEP), ROLLS)
    return target.camera(place(target, templates, focal, 1.0)[0].pose)


def from_truth(asset: Asset, picture: PosedPicture, fov: float) -> Camera:
    """The true pose, refined."""
    target = Picture(picture.image, picture.mask)
    rotation = (picture.camera.pose[:3, :3] * (1, -1, -1)).T
    pose = Pose(rotation, -rotation @ picture.camera.eye, picture.camera.focal)
    sigma = GUESS_SIGMA if fov else UNKNOWN_SIGMA
    _, size, steps = STAGES[-1]
    fit = refine(asset, target, pose, size, steps, target.focal(fov or UNKNOWN_FOV), sigma)
    return target.camera(fit.pose)


def line(name: str, rows: list[tuple[float, float, float, bool]]) -> str:
    degrees, pixels, seconds, refused = np.array(rows, float).T
    shares = " | ".join(f"{(degrees < limit).mean():.0%}" for limit in (5, 10, 20))
    kept = f"{refused[degrees < 10].mean():.0%}" if (degrees < 10).any() else ""
    return (
        f"| {name} | {shares} | {np.median(degrees):.1f} | {np.median(pixels):.1f} | "
        f"{seconds.mean():.2f} | {refused.mean():.0%} | {kept} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--unknown-fov", action="store_true")
    parser.add_argument("--folder", type=Path, help="pictures with an index.json")
    options = parser.parse_args()
    assets = {name: load_asset(path) for name, path in MESHES.items()}
    if options.folder:
        source = stored(options.folder)
    else:
        source = drawn(options.pictures, options.seed, assets)
    names = list(assets)
    rows: dict[str, list] = {"coarse (floor)": [], "search": [], "from the truth (ceiling)": []}
    wrong: list[bool] = []
    for number, (name, picture) in enumerate(source):
        asset = assets[name]
        fov = 0.0 if options.unknown_fov else picture.fov_guess
        for row, method in (("coarse (floor)", coarse), ("from the truth (ceiling)", from_truth)):
            start = time.process_time()
            camera = method(asset, picture, fov)
            seconds = time.process_time() - start
            rows[row].append((*errors(camera, picture.camera, asset), seconds, False))
        start = time.process_time()
        found = estimate_pose(asset, picture.image, picture.mask, fov)
        seconds = time.process_time() - start
        scores = (*errors(found.camera, picture.camera, asset), seconds, bool(found.refusal))
        rows["search"].append(scores)
        other = names[(names.index(name) + 1 + number % 3) % len(names)]
        stranger = estimate_pose(assets[other], picture.image, picture.mask, fov)
        wrong.append(bool(stranger.refusal))
        print(
            f"{number} {name}: {scores[0]:.1f} degrees, {scores[1]:.1f} px, iou {found.iou:.2f}, "
            f"ambiguity {found.ambiguity:.2f}; {other}: iou {stranger.iou:.2f}, ambiguity "
            f"{stranger.ambiguity:.2f}",
            file=sys.stderr,
            flush=True,
        )
    shares = "under 5 degrees | under 10 | under 20"
    print(f"| | {shares} | median degrees | median px | CPU s | refused | refused, under 10 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row, values in rows.items():
        print(line(row, values))
    print(f"\nanother mesh: {np.mean(wrong):.0%} of {len(wrong)} refused")


if __name__ == "__main__":
    main()
