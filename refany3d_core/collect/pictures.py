"""Pictures as they come in rows, and as the stages see them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .store import Refused

MIN_SIDE = 64
"""Pixels of the shorter side, below which nothing is seen of an object."""


def decode(content: bytes) -> tuple[Image.Image, np.ndarray | None]:
    """An encoded picture as RGB over white, and its alpha as a mask bool [H, W] where it has any.

    Raises:
        Refused: not a picture, too small, of one colour, or with NaN in it.
    """
    if not content:
        raise Refused("the picture cannot be read")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refused(f"not a picture ({type(error).__name__})") from error
    alpha = None
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise Refused("the picture has NaN or infinite values")
        top = 65535 if values.max() > 255 else 255 if values.max() > 1 else 1
        image = Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))
    elif "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image)[..., 3] >= 128
        if alpha.all():
            alpha = None
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    if min(image.size) < MIN_SIDE:
        raise Refused(f"the picture has {image.width}x{image.height} pixels, under {MIN_SIDE}")
    return image, alpha


def check_content(image: Image.Image) -> None:
    """Look whether there can be anything to see.

    Raises:
        Refused: a picture of one colour.
    """
    if (np.ptp(np.asarray(image), axis=(0, 1)) < 2).all():
        raise Refused("the picture has one colour")


def pair_half(image: Image.Image, half: int) -> Image.Image:
    """Half 0 or 1 of two square pictures side by side, with equal padding around and between.

    With squares of s pixels and padding p the picture is 2 s + 3 p wide and s + 2 p high.

    Raises:
        Refused: no such picture.
    """
    padding = 2 * image.height - image.width
    side = image.height - 2 * padding
    if padding < 0 or side < MIN_SIDE:
        raise Refused(f"{image.width}x{image.height} pixels are no pair of squares with padding")
    left = padding + half * (side + padding)
    return image.crop((left, padding, left + side, padding + side))


def read_mask(path: Path) -> np.ndarray:
    """bool [H, W]."""
    with Image.open(path) as image:
        return bright(image)


def bright(image: Image.Image) -> np.ndarray:
    """bool [H, W], where a picture of a mask is bright."""
    return np.asarray(image.convert("L")) >= 128


def write_mask(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(path)


def read_rgb(path: Path) -> np.ndarray:
    """float32 [H, W, 3] in 0..1."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255


def box_of(mask: np.ndarray) -> list[float]:
    """[left, top, right, bottom] of a mask in pixels, right and bottom outside."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    ends = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return [float(x) for x in ends]
