"""Surface detail in pictures, and pictures on surfaces: exact renders spoiled and brought back.

python benchmarks/surface.py [--sections detail,paint] [--pixels 1024] [--output FOLDER] [mesh ...]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.labelled_can import can, label  # noqa: E402
from refany3d_core.asset import Asset, Camera, load_asset, render  # noqa: E402
from refany3d_core.asset.cameras import orbit_pose  # noqa: E402
from refany3d_core.asset.material import Material, Texture, linear_to_srgb, srgb_to_linear  # noqa: E402
from refany3d_core.asset.model import Part  # noqa: E402
from refany3d_core.asset.render import View  # noqa: E402
from refany3d_core.asset.seen_surface import VIEWS  # noqa: E402
from refany3d_core.asset.shade import SurfacePoints, shade  # noqa: E402
from refany3d_core.pointmap.detail import transfer_detail  # noqa: E402
from refany3d_core.pointmap.painting import Painted, paint_mesh  # noqa: E402

MESHES = ("assets/spot.glb", "assets/mushroom.glb", "tests/data/meshes/touch_controller.glb")
BLUR, NOISE = 1.2, 0.01
LIGHT = np.array([0.6, 0.5, 0.7]) / np.linalg.norm([0.6, 0.5, 0.7])
LUMA = np.array([0.2126, 0.7152, 0.0722])
EM = 18.4 / 8
"""Texels of a 4096 texel label to a pixel of the can in a picture of 1024, from its front."""


def relit(view: View, seed: int = 0) -> np.ndarray:
    """The unlit view under a warm lamp from the upper right, before a blurred background."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    light = (0.25 + 0.9 * np.clip(view.normal @ LIGHT, 0, 1)[..., None]) * (1.05, 0.95, 0.8)
    lit = linear_to_srgb(srgb_to_linear(view.color) * light)
    size = view.color.shape[0] / 50
    scene = ndimage.gaussian_filter(rng.random(view.color.shape), (size, size, 0))
    scene = (scene - scene.min()) / np.ptp(scene) * 0.6
    return np.where(view.mask[..., None], lit, scene).astype(np.float32)


def spoil(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With the blur of a VAE, a little noise, and 8 bits a channel."""
    from scipy import ndimage

    out = ndimage.gaussian_filter(picture, (BLUR, BLUR, 0)) + rng.normal(0, NOISE, picture.shape)
    return (np.clip(out, 0, 1) * 255).round().astype(np.float32) / 255


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al., 2004) of the lightness of two pictures, [H, W], in
    Gaussian windows of 1.5 pixels."""
    from scipy import ndimage

    a, b = first @ LUMA, second @ LUMA

    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5)

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return (2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))


def label_area(view: View) -> np.ndarray:
    """bool [H, W], the middle of the can below its title, empty paper included."""
    height, width = view.mask.shape
    out = np.zeros((height, width), bool)
    out[int(0.42 * height) : int(0.8 * height), int(0.38 * width) : int(0.62 * width)] = True
    return out & view.mask


def printed(view: View) -> np.ndarray:
    """bool [H, W], where the label has print: contrast in the unlit picture."""
    from scipy import ndimage

    y = view.color @ LUMA
    deviation = ndimage.gaussian_filter(y * y, 1.5) - ndimage.gaussian_filter(y, 1.5) ** 2
    return label_area(view) & (deviation > 0.05**2)


def enlarged(picture: np.ndarray, factor: int, method: str) -> np.ndarray:
    """A picture upscaled by Pillow's "LANCZOS", "BICUBIC" or "NEAREST"."""
    from PIL import Image

    size = (picture.shape[1] * factor, picture.shape[0] * factor)
    layers = [
        np.asarray(Image.fromarray(picture[..., k]).resize(size, Image.Resampling[method]))
        for k in range(3)
    ]
    return np.clip(np.stack(layers, axis=-1), 0, 1)


def detail(pixels: int, output: Path | None) -> None:
    from scipy import ndimage

    print("detail: structural similarity to the unlit render, printed places and whole label")
    cases = [(1, "NEAREST", 8.0), (2, "LANCZOS", 8.0), (2, "LANCZOS", 16.0), (2, "NEAREST", 16.0)]
    for factor, method, em in cases:
        texels = max(int(em / factor * EM * 1024 / pixels), 6)
        asset = can(label(text_height=texels))
        camera = Camera(orbit_pose(90, 10, 4.0), 45, pixels, pixels)
        view = render(asset, camera, supersampling=2)
        truth = view if factor == 1 else render(asset, camera.scaled(factor), supersampling=2)
        rng = np.random.default_rng(0)
        point_map = spoil(view.point_map, rng)
        image = enlarged(spoil(relit(view), rng), factor, method)
        start = time.perf_counter()
        out = transfer_detail(image, point_map, asset)
        seconds = time.perf_counter() - start
        lit = relit(truth)
        print(
            f"{pixels} -> {pixels * factor} px ({method}), {em:.0f} px print, camera "
            f"{'found' if out.camera else 'not found'}, {seconds:.1f} s"
        )
        for name, picture in (
            ("floor: as sampled", image), ("transferred", out.image), ("ceiling: truth, lit", lit)
        ):  # fmt: skip
            ssim = similarity(picture, truth.color)
            areas = (printed(truth), label_area(truth))
            print(f"  {name:20}", *(f"{ssim[area].mean():.3f}" for area in areas))
        depth = ndimage.distance_transform_edt(truth.mask) / factor
        for low, high in ((0, 1), (1, 2), (2, 4), (4, 8), (8, 16)):
            ring = (depth > low) & (depth <= high)
            before, after = (np.abs(x - lit)[ring].mean() for x in (image, out.image))
            print(f"  {low:2}..{high:2} px inside the outline: error {before:.4f} -> {after:.4f}")
        if output:
            rows = slice(int(0.42 * len(image)), int(0.42 * len(image)) + len(image) // 4)
            columns = slice(int(0.375 * len(image)), int(0.375 * len(image)) + len(image) // 4)
            crops = [x[rows, columns] for x in (image, out.image, truth.color)]
            name = f"detail_{factor}x_{em:.0f}px_{method.lower()}"
            save(output / f"{name}.png", crops)
            save(output / f"{name}_whole.png", [image, out.image])


def save(path: Path, pictures: list[np.ndarray]) -> None:
    """Pictures of one height side by side."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.clip(np.concatenate(pictures, axis=1), 0, 1)
    Image.fromarray((row * 255).round().astype(np.uint8)).save(path)


def four_cameras(pixels: int, distance: float = 3.4) -> list[Camera]:
    """From the corners of a tetrahedron."""
    angles = ((45, 30), (135, -30), (225, 30), (315, -30))
    return [Camera(orbit_pose(a, p, distance), 45, pixels, pixels) for a, p in angles]


def blank(asset: Asset) -> Asset:
    """The asset without its colours, grey, with its texture coordinates."""
    parts = []
    for part in asset.parts:
        old = part.material.texture
        grey = None
        if old is not None:
            grey = Texture(np.full_like(old.pixels, 128), old.wrap)
        parts.append(Part(part.vertices, part.faces, Material((0.5, 0.5, 0.5, 1.0), grey), part.uv))
    return Asset(parts)


def visible(places: SurfacePoints, cameras: list[Camera]) -> np.ndarray:
    """bool [P], the places that some camera sees, at more than 3 degrees."""
    points = places.interpolate(places.asset.vertices)
    seen = np.zeros(len(points), bool)
    for camera in cameras:
        view = render(places.asset, camera)
        x, y, depth = camera.project(points)
        inside = (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
        row = np.clip(y.astype(int), 0, camera.height - 1)
        column = np.clip(x.astype(int), 0, camera.width - 1)
        to_eye = camera.eye - points
        to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
        cosine = np.abs(np.einsum("pc,pc->p", places.normals, to_eye))
        off = np.linalg.norm(view.points[row, column] - points, axis=1)
        seen |= inside & (off < 2 * depth / camera.focal / np.maximum(cosine, 0.05))
    return seen


def round_trip(asset: Asset, cameras: list[Camera], given: bool) -> tuple[Painted, dict]:
    """Pictures of the asset painted on its grey copy, and how near that comes to the asset.

    Returns:
        psnr: dB over the texels that are all paint; psnr_any: over those that are half paint at
        least; floor: of the grey copy; covered: share of what the four cameras see that is at least
        half paint; covered_all: of what is seen from anywhere around.
    """
    rng = np.random.default_rng(0)
    views = [render(asset, camera, supersampling=2) for camera in cameras]
    maps = [spoil(view.point_map, rng) for view in views]
    grey = blank(asset)
    out = paint_mesh(grey, [view.color for view in views], maps, cameras if given else None)
    height, width = out.paint.shape
    from refany3d_core.asset.layout import lay_out

    pixel, places = lay_out(grey, size=2048).texels(width, height)
    places = SurfacePoints(asset, places.face, places.weights)
    wanted = shade(places)[:, :3]
    got = out.texture.reshape(-1, 4)[pixel, :3] / 255
    paint = out.paint.ravel()[pixel]

    def psnr(values: np.ndarray, where: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean((values - wanted)[where] ** 2)))

    around = [Camera(orbit_pose(a, p, 6.0), 33, 640, 640) for a, p in VIEWS]
    return out, {
        "psnr": psnr(got, paint == 1),
        "psnr_any": psnr(got, paint >= 0.5),
        "floor": psnr(np.full_like(wanted, 0.5), paint >= 0.5),
        "covered": float((paint[visible(places, cameras)] >= 0.5).mean()),
        "covered_all": float((paint[visible(places, around)] >= 0.5).mean()),
    }


def paint(pixels: int, meshes: list[Path], output: Path | None) -> None:
    print(
        "paint: dB on texels that are all paint (half paint at least; floor: grey; ceiling: no "
        "difference), share painted of what the four cameras see (of what anyone can see)"
    )
    for mesh in meshes:
        asset = load_asset(mesh)
        for given in (True, False):
            start = time.perf_counter()
            out, found = round_trip(asset, four_cameras(pixels), given)
            print(
                f"  {mesh.name:24} {pixels} px, cameras {'given' if given else 'found'}: "
                f"{found['psnr']:.1f} ({found['psnr_any']:.1f}; {found['floor']:.1f}) dB, "
                f"{found['covered']:.1%} ({found['covered_all']:.1%}), "
                f"texture {out.paint.shape[1]}x{out.paint.shape[0]}, "
                f"{time.perf_counter() - start:.1f} s"
            )
        if output:
            cameras = [*four_cameras(512)[:2], Camera(orbit_pose(45, -60, 3.4), 45, 512, 512)]
            shown = [(painted, c) for painted in (asset, out.asset) for c in cameras]
            views = [render(x, c, supersampling=2).color for x, c in shown]
            save(output / f"paint_{mesh.stem}.png", views)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", nargs="*", type=Path, help="for paint; three bundled ones")
    parser.add_argument("--sections", default="detail,paint")
    parser.add_argument("--pixels", type=int, default=1024, help="of the sampled pictures")
    parser.add_argument("--output", type=Path, help="folder for pictures to look at")
    options = parser.parse_args()
    if "detail" in options.sections:
        detail(options.pixels, options.output)
    if "paint" in options.sections:
        meshes = options.meshes or [ROOT / name for name in MESHES]
        paint(options.pixels, meshes, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
