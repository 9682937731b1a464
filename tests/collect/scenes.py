"""Pictures of bundled meshes over backgrounds, with masks and cameras: a source to collect."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refany3d_core.asset import Camera, load_asset, render
from refany3d_core.asset.cameras import orbit_pose

ROOT = Path(__file__).resolve().parents[2]
MESHES = {
    "cow": ROOT / "assets" / "spot.glb",
    "mushroom": ROOT / "assets" / "mushroom.glb",
    "game controller": ROOT / "tests" / "data" / "meshes" / "touch_controller.glb",
    "milk truck": ROOT / "tests" / "data" / "meshes" / "cesium_milk_truck.glb",
}
FOV = 40.0


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """float32 [size, size, 3], smooth clutter."""
    coarse = Image.fromarray(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255


def picture(
    mesh: Path, azimuth: float, pitch: float, seed: int, size: int = 256, radius: float = 3.8
) -> tuple[np.ndarray, np.ndarray, Camera]:
    """(image float32 [H, W, 3], mask bool [H, W], camera) of a lit mesh before clutter."""
    rng = np.random.default_rng(seed)
    camera = Camera(orbit_pose(azimuth, pitch, radius), FOV, size, size)
    view = render(load_asset(mesh), camera, shading="headlight", supersampling=2)
    image = np.where(view.mask[..., None], view.color, background(rng, size))
    noise = rng.normal(0, 0.01, image.shape)
    return np.clip(image + noise, 0, 1).astype(np.float32), view.mask, camera


def save(image: np.ndarray, path: Path) -> None:
    pixels = np.round(image * 255).astype(np.uint8)
    Image.fromarray(pixels, "L" if pixels.ndim == 2 else "RGB").save(path)


def write_folder(folder: Path, count: int = 12, size: int = 256) -> list[dict[str, Any]]:
    """A folder of pictures with metadata.jsonl: caption, item, mask, mesh, camera, fov."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        item, mesh = list(MESHES.items())[number % len(MESHES)]
        azimuth, pitch = 25 + 67.0 * number % 360, 10 + 12.0 * (number % 3)
        image, mask, camera = picture(mesh, azimuth, pitch, number, size)
        name = f"{number:02d}.png"
        save(image, folder / name)
        save(mask.astype(np.float32), folder / "masks" / name)
        pose = {"camera_to_world": camera.pose.tolist(), "fov": FOV}
        rows.append(
            {
                "file_name": name,
                "caption": f"a {item} before colourful clutter, number {number}",
                "item": item,
                "mask": f"{folder}/masks/{name}",
                "mesh": str(mesh),
                "camera": json.dumps(pose),
                "fov": FOV,
            }
        )
    write_rows(folder, rows)
    return rows


def write_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


GIVEN = """
[source]
path = "{path}"
mask = "mask"
mesh = "mesh"
camera = "camera"
fov = "fov"

[boxes]
method = "none"
[masks]
method = "given"
[asset]
method = "given"
[pose]
method = "{pose}"
"""


def write_config(file: Path, source: Path, pose: str = "given", more: str = "") -> Path:
    file.write_text(GIVEN.format(path=source.as_posix(), pose=pose) + more, encoding="utf-8")
    return file


def write_tars(folder: Path, source: Path) -> Path:
    """A folder's pictures as two tars with all that is given; gives a configuration of them."""
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for row in rows[shard::2]:
                parts = {
                    "png": (source / row["file_name"]).read_bytes(),
                    "mask.png": Path(row["mask"]).read_bytes(),
                    "json": json.dumps(row).encode(),
                }
                for ending, content in parts.items():
                    info = tarfile.TarInfo(row["file_name"].replace("png", ending))
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    text = GIVEN.format(path=(folder / "*.tar").as_posix(), pose="given")
    for column in ("mesh", "camera", "fov"):
        text = text.replace(f'{column} = "{column}"', f'{column} = "json.{column}"', 1)
    source_lines = 'kind = "webdataset"\nimage = "png"\ncaption = "json.caption"\n'
    text = text.replace("[source]\n", f'[source]\n{source_lines}item = "json.item"\n')
    file = folder / "tars.toml"
    file.write_text(text.replace('mask = "mask"', 'mask = "mask.png"', 1), encoding="utf-8")
    return file
