"""The 3D asset of a record: what a ComfyUI graph makes of one picture, or the source's own."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..asset import FORMATS, Asset, Part, load_asset
from ..asset.material import linear_to_srgb
from .config import Config, settings_of
from .graph import Graph, Servers
from .pictures import read_mask
from .stages import Outcome, each_picture
from .store import Record, Refused


def load_mesh(record: Record) -> Asset:
    """The asset of a record whose asset stage is done, with its vertex colours as they look.

    glTF's are linear, and the published renderer draws them as they are: the references of a splat
    turned into a mesh would be darker than the picture that it was made from.

    Raises:
        Refused: it cannot be loaded.
    """
    asset = _checked(mesh_path(record))
    return Asset([_as_seen(part) for part in asset.parts], asset.warnings)


def _as_seen(part: Part) -> Part:
    if part.colors is None or part.srgb_colors:
        return part
    colors = part.colors.copy()
    colors[:, :3] = linear_to_srgb(colors[:, :3])
    return replace(part, colors=colors, srgb_colors=True)


def mesh_path(record: Record) -> Path:
    """The mesh file of a record whose asset stage is done."""
    mesh = Path(record.data("asset")["mesh"])
    return mesh if mesh.is_absolute() else record.file("asset", str(mesh))


def _checked(path: Path) -> Asset:
    try:
        return load_asset(path)
    except ValueError as error:
        raise Refused(f"the mesh does not load: {error}") from error


class GivenAsset:
    """The mesh that the source names or holds."""

    name = "asset"

    def __init__(self, config: Config) -> None:
        self.settings = {"method": config.asset.method}

    def __call__(self, record: Record, folder: Path) -> Outcome:
        mesh = record.data("source").get("mesh")
        if not mesh:
            raise Refused("the source gives no mesh")
        path = Path(mesh) if Path(mesh).is_absolute() else record.file("source", mesh)
        _checked(path)
        return Outcome(each_picture(record, lambda index: {}), {"mesh": str(path.resolve())})


class GraphAsset:
    """A graph on the servers that saves one 3D file, from the picture that shows most."""

    name = "asset"

    def __init__(self, config: Config, servers: Servers) -> None:
        self.config = config.asset
        self._graph, self._servers = Graph(config.path(config.asset.graph)), servers
        self.settings = {**settings_of(config.asset), "graph": self._graph.content}

    def __call__(self, record: Record, folder: Path) -> Outcome:
        index = most_seen(record)
        mask = read_mask(record.file("masks", f"{index}.png"))
        window = square_around(record.picture("masks", index)["box"], self.config.margin)
        with Image.open(record.file("source", f"{index}.png")) as image:
            picture = cut_out(image.convert("RGB"), mask, window)
        content = io.BytesIO()
        picture.save(content, "PNG")
        (folder / "input.png").write_bytes(content.getvalue())
        texts = {"item": record.data("source")["item"]}
        run = self._servers.run(self._graph, content.getvalue(), record.key, texts)
        mesh, name = run.only_file([f".{ending}" for ending in FORMATS], "3D file")
        file = f"mesh{Path(name).suffix.lower()}"
        (folder / file).write_bytes(mesh)
        _checked(folder / file)
        data: dict[str, Any] = {"mesh": file, "reconstructed": index, "window": window}
        camera = run.camera()
        if camera is not None:
            data["camera_info"] = camera
        return Outcome(each_picture(record, lambda index: {}), data)


def most_seen(record: Record) -> int:
    """The picture to reconstruct from: whole before cut off by the border, then the largest."""
    masks = {i: record.picture("masks", i) for i in record.alive()}
    return max(masks, key=lambda i: (not masks[i]["cut"], masks[i]["area"]))


def square_around(box: list[float], margin: float) -> list[float]:
    """[left, top, side] of the square about a box, `margin` times its longer side; whole pixels,
    may reach outside the picture."""
    left, top, right, bottom = box
    side = round(max(right - left, bottom - top) * margin)
    return [round((left + right - side) / 2), round((top + bottom - side) / 2), side]


def cut_out(image: Image.Image, mask: np.ndarray, window: list[float]) -> Image.Image:
    """The window of the picture with the object on white, alpha 255 on it."""
    left, top, side = (int(x) for x in window)
    whole = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    solid = Image.fromarray(mask.astype(np.uint8) * 255)
    image = image.copy()
    image.putalpha(solid)
    whole.paste(image, (-left, -top), solid)
    return whole
