"""The pictures of a camera path as a folder for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor

TRANSFORMS, METADATA = "transforms.json", "metadata.json"


def write_path(
    folder: Path,
    cameras: str,
    pictures: dict[str, Tensor | None],
    references: dict[str, Tensor | None],
    caption: str,
) -> int:
    """Write a camera path.

    transforms.json holds the cameras and names the pictures of `images/`. With references,
    metadata.json lists the folders as GO-Renderer's inference data: reference pictures, their
    coordinate maps frame for frame, and the coordinate maps along the path, white where there is no
    object. Which axes and scale its weights expect is not documented; these maps have x, y, z of
    the asset's box in 0..1 as red, green, blue.

    Args:
        folder: is made.
        cameras: the text of transforms.json.
        pictures: by folder name ("point_maps", "images", ...): [n, H, W, 3] or masks [n, H, W], in
            0..1, or None.
        references: "ref" and "ref_coordmap", [m, H, W, 3] in 0..1, or None.
        caption: of the pictures.

    Returns:
        the number of cameras.

    Raises:
        ValueError: the counts differ, or the cameras are no transforms.json.
    """
    try:
        count = len(json.loads(cameras)["frames"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "'cameras' is not a transforms.json; connect cameras of Lock Camera Path"
        ) from error
    for name, batch in pictures.items():
        if batch is not None and len(batch) != count:
            raise ValueError(
                f"'{name}' holds {len(batch)} pictures for {count} cameras; connect the outputs of "
                "one Lock Camera Path, and the pictures sampled from its latent"
            )
    given = {name: batch for name, batch in references.items() if batch is not None}
    if len({len(batch) for batch in given.values()}) > 1 or len(given) == 1:
        raise ValueError(
            "the reference views and their point maps are not equally many; connect both outputs "
            "of one Render Reference Views, or none"
        )
    folder.mkdir(parents=True)
    (folder / TRANSFORMS).write_text(cameras, encoding="utf-8")
    for name, batch in {**pictures, **given}.items():
        if batch is not None:
            _write_pictures(folder / name, batch)
    if given:
        entry = {"type": "video", "name": folder.name, "mode": "t2v", "text": caption}
        paths = {name: name for name in given} | {"fg_coordmap": "point_maps"}
        text = json.dumps([entry | paths], indent=1, ensure_ascii=False)
        (folder / METADATA).write_text(text, encoding="utf-8")
    return count


def _write_pictures(folder: Path, batch: Tensor) -> None:
    from PIL import Image

    folder.mkdir()
    for i, picture in enumerate(batch):
        values = np.clip(picture.detach().float().cpu().numpy() * 255, 0, 255).round()
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{i:04d}.png")
