"""Pictures laid out to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 4
"""Views in a row."""
CELL, GAP, TEXT = 384, 8, 16
"""Pixels: a cell of the comparison sheet, between cells, and the height of its letters."""
GREY, INK = (200, 200, 200), (20, 20, 20)
HEADINGS = ("reference views", "picture", "point map", "the mesh from the map's camera")

REFUSED = "Camera from Point Map refuses this map"


def mosaic(views: np.ndarray) -> np.ndarray:
    """float [h, w, 3]: views [n, H, W, 3] in rows of COLUMNS on white."""
    columns = min(COLUMNS, len(views))
    missing = -len(views) % columns
    cells = np.concatenate([views, np.ones((missing, *views.shape[1:]), views.dtype)])
    rows = cells.reshape(-1, columns, *views.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a comparison sheet; pictures float [H, W, 3] in 0..1.

    Attributes:
        text: under it.
        views: float [n, H, W, 3].
        image, point_map: the picture.
        render: None where the map gives no camera.
    """

    text: str
    views: np.ndarray
    image: np.ndarray
    point_map: np.ndarray
    render: np.ndarray | None


def comparison(rows: Sequence[Row]) -> Image:
    """The sheet: reference views, picture, point map, render; a row an example."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(TEXT)
    tall, left = CELL + 2 * TEXT + GAP, 2 * CELL + 2 * GAP
    width = left + 3 * (CELL + GAP)
    sheet = Image.new("RGB", (width, 2 * TEXT + tall * len(rows)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    corners = [GAP, *(left + i * (CELL + GAP) for i in range(3))]
    for x, heading in zip(corners, HEADINGS):
        draw.text((x, GAP), heading, INK, font=font)
    for i, row in enumerate(rows):
        y = 2 * TEXT + i * tall
        wide = (2 * CELL, CELL), (CELL, CELL), (CELL, CELL), (CELL, CELL)
        pictures = (mosaic(row.views), row.image, row.point_map, row.render)
        for x, size, picture in zip(corners, wide, pictures):
            if picture is None:
                draw.rectangle((x, y, x + size[0], y + size[1]), GREY)
                draw.text((x + GAP, y + GAP), REFUSED, INK, font=font)
                continue
            shown = as_image(picture)
            shown.thumbnail(size, Image.Resampling.LANCZOS)
            scale = min(size[0] / shown.width, size[1] / shown.height)
            if scale > 1:  # small pictures keep their pixels
                shown = shown.resize((int(shown.width * scale), int(shown.height * scale)), 0)
            sheet.paste(shown, (x, y))
        draw.text((GAP, y + CELL + GAP // 2), row.text, INK, font=font)
    return sheet


def as_image(picture: np.ndarray) -> Image:
    """8-bit picture of float [H, W, 3] in 0..1."""
    from PIL import Image

    return Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))
