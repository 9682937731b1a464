"""Back into the photo: what a placement remembers of its photo, and the picture laid over it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

MAX_SIDE = 32_768
"""Pixels: a longer side is refused. A square of it is 12 GB as ComfyUI holds pictures."""
MAX_STRETCH = 0.02
"""By how much the sides of a picture may differ from those of its window."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a photo, in its pixels. It may reach beyond the photo's border.

    Attributes:
        left, top: of its first pixel, right and down from the photo's first.
        width, height: in pixels, at least 1.
    """

    left: int
    top: int
    width: int
    height: int

    def inside(self, width: int, height: int) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of a photo that the window covers, and where they lie in the window."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom = min(self.top + self.height, height)
        right = min(self.left + self.width, width)
        rows, columns = slice(top, bottom), slice(left, right)
        in_rows = slice(top - self.top, bottom - self.top)
        return rows, columns, in_rows, slice(left - self.left, right - self.left)


@dataclass(frozen=True, eq=False)
class Paste:
    """Where in which photo a generated picture belongs.

    Attributes:
        photo_size: width and height of the photo, pixels.
        window: the part of the photo that the picture shows.
        mask: float32 [h, w] in 0..1 over the window: how much of the picture comes in.
        depth: float32 [h, w] over the window, along the optical axis, units of the scene; infinite
            off the object.
        earlier: the objects that were placed before.
    """

    photo_size: tuple[int, int]
    window: Window
    mask: np.ndarray
    depth: np.ndarray
    earlier: tuple["Paste", ...] = field(default=())


def check_photo(photo: Tensor) -> None:
    """Raise ValueError unless a photo is one RGB picture [1, H, W, 3] of a size that is taken."""
    if photo.ndim != 4 or len(photo) != 1:
        count = len(photo) if photo.ndim == 4 else 0
        raise ValueError(
            f"'photo' holds {count} pictures, but one is taken; pick one with Image From Batch"
        )
    height, width, channels = photo.shape[1:]
    if channels != 3:
        raise ValueError(
            f"'photo' has {channels} channels, an RGB picture has 3; lay a photo with transparency "
            "on a background first (Split Image with Alpha gives its colours)"
        )
    if max(width, height) > MAX_SIDE:
        raise ValueError(
            f"'photo' is {width}x{height}, the longest side may have {MAX_SIDE} pixels; scale the "
            "photo down, or cut out the part that matters (Image Crop)"
        )


def cut_out(photo: Tensor, window: Window, width: int, height: int) -> Tensor:
    """The window of a photo [1, H, W, 3], scaled to [1, height, width, 3].

    Beyond the photo's border its outermost pixels go on.
    """
    rows = torch.arange(window.top, window.top + window.height).clamp(0, photo.shape[1] - 1)
    columns = torch.arange(window.left, window.left + window.width).clamp(0, photo.shape[2] - 1)
    return scaled(photo[:, rows][:, :, columns], width, height)


def scaled(picture: Tensor, width: int, height: int) -> Tensor:
    """Pictures [B, H, W, C] in 0..1 at another size; the same pixels at their own."""
    if picture.shape[1:3] == (height, width):
        return picture
    planes = picture.movedim(-1, 1).float()
    planes = interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return planes.movedim(1, -1).clamp(0.0, 1.0)


def paste_back(photo: Tensor, image: Tensor, paste: Paste) -> tuple[Tensor, Tensor]:
    """The photo with the pictures laid over their window.

    Args:
        photo: IMAGE [1, H, W, 3], the photo of the placement, or one that it was pasted into.
        image: IMAGE [B, h, w, 3], of the window, at any size.
        paste: of the placement.

    Returns:
        ([B, H, W, 3], [H, W]): the photos, and what was replaced, in 0..1. Where that is 0 the
        photo's values are untouched.

    Raises:
        ValueError: another photo's size, or another picture's proportions.
    """
    check_photo(photo)
    height, width = photo.shape[1:3]
    if (width, height) != paste.photo_size:
        raise ValueError(
            f"'photo' is {width}x{height}, but the object was placed in a photo of "
            f"{paste.photo_size[0]}x{paste.photo_size[1]}; connect the photo of Place in Photo"
        )
    window = paste.window
    stretch = image.shape[2] / image.shape[1] * window.height / window.width
    if abs(stretch - 1) > MAX_STRETCH:
        raise ValueError(
            f"'image' is {image.shape[2]}x{image.shape[1]}, but its place in the photo is "
            f"{window.width}x{window.height}; connect the picture that was sampled from Place in "
            "Photo's latent, uncropped (it may be scaled up)"
        )
    rows, columns, in_rows, in_columns = window.inside(width, height)
    picture = scaled(image[..., :3].to(photo), window.width, window.height)[:, in_rows, in_columns]
    weight = torch.from_numpy(paste.mask)[None, None]
    size = (window.height, window.width)
    weight = interpolate(weight, size, mode="bilinear")[0, 0, in_rows, in_columns].to(photo)
    out = photo.expand(len(image), -1, -1, -1).clone()
    under = out[:, rows, columns]
    mixed = under + weight[..., None] * (picture - under)
    out[:, rows, columns] = torch.where(weight[..., None] > 0, mixed, under)
    mask = photo.new_zeros(height, width)
    mask[rows, columns] = weight
    return out, mask
