"""The picture around its object, at several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..asset.cameras import Camera
from ..pointmap.camera import to_camera
from ..pointmap.pnp import Pose

MARGIN = 1.7
"""Side of the crop by the longest side of the mask: room for what may be hidden."""
ONE_COLOR = 4 / 255
"""A picture whose colours differ by less shows nothing."""
MIN_SIDE = 16
"""Longest side of the mask, in pixels, that a pose needs at least."""
MIN_AREA = 0.0005
"""Of the picture, that the mask covers at least."""


@dataclass(frozen=True, eq=False)
class Level:
    """The crop at one size of S pixels.

    Attributes:
        scale: level pixels for one of the picture's.
        color: float32 [S, S, 3] in 0..1, of the object alone; 0 off the mask.
        mask: bool [S, S].
        known: bool [S, S], inside the picture.
    """

    scale: float
    color: np.ndarray
    mask: np.ndarray
    known: np.ndarray

    @property
    def size(self) -> int:
        """S."""
        return len(self.mask)

    @cached_property
    def distance(self) -> np.ndarray:
        """float32 [S, S], pixels from the mask's outline, below 0 inside."""
        outside = ndimage.distance_transform_edt(~self.mask)
        inside = ndimage.distance_transform_edt(self.mask)
        return np.where(self.mask, 0.5 - inside, outside - 0.5).astype(np.float32)

    @cached_property
    def slope(self) -> np.ndarray:
        """float32 [S, S, 2], gradient of `distance`, right and down."""
        smooth = ndimage.gaussian_filter(self.distance, 1.0)
        down, right = np.gradient(smooth)
        return np.stack([right, down], axis=-1)

    @cached_property
    def color_slope(self) -> np.ndarray:
        """float32 [S, S, 2, 3], gradient of the colour, not across the outline."""
        weight = self.mask.astype(np.float32)[..., None]
        spread = ndimage.gaussian_filter(weight, (0.7, 0.7, 0))
        smooth = ndimage.gaussian_filter(self.color * weight, (0.7, 0.7, 0))
        smooth = smooth / np.maximum(spread, 1e-3)
        down, right = np.gradient(smooth, axis=(0, 1))
        return np.stack([right, down], axis=2) * self.inner[..., None, None]

    @cached_property
    def inner(self) -> np.ndarray:
        """bool [S, S], the mask without its outline, whose colours are mixed."""
        return self.distance < -1.5

    @cached_property
    def outline(self) -> tuple[np.ndarray, np.ndarray]:
        """Outline points float [N, 2] (x, y) on the mask's border, and unit normals outwards. The
        picture's own border is none."""
        near = self.mask & ~ndimage.binary_erosion(self.mask, border_value=1)
        near &= ndimage.binary_erosion(self.known, iterations=2, border_value=0)
        rows, columns = np.nonzero(near)
        normal = self.slope[rows, columns]
        length = np.linalg.norm(normal, axis=1)
        keep = length > 0.3
        normal = normal[keep] / length[keep, None]
        points = np.stack([columns[keep], rows[keep]], axis=1) + 0.5 + 0.5 * normal
        return points, normal


class Picture:
    """An image and its object, cropped around the mask.

    Attributes:
        width, height: of the image.
        centre: float [2], of the crop, image pixels.
        side: of the square crop, image pixels.
        extent: longest side of the mask, image pixels.
    """

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        """`image`: float [H, W, 3] in 0..1; `mask`: float or bool [H, W].

        Raises:
            ValueError: the mask says nothing, or image and mask differ in size.
        """
        if np.isfinite(mask).all() and not (mask > 0.5).any():
            raise ValueError("the mask is empty: nothing is selected; select the object")
        if image.shape[:2] != mask.shape:
            raise ValueError(
                f"the image is {image.shape[1]} x {image.shape[0]}, the mask "
                f"{mask.shape[1]} x {mask.shape[0]}; make them the same size"
            )
        if not (np.isfinite(image).all() and np.isfinite(mask).all()):
            raise ValueError("the image or the mask holds NaN or infinite values; replace them")
        self.height, self.width = mask.shape
        inside = mask > 0.5
        if np.ptp(image, axis=(0, 1)).max() < ONE_COLOR:
            raise ValueError("the picture is of one colour: there is no object in it")
        if inside.all():
            raise ValueError(
                "the mask covers the whole picture; select the object alone (white is the object)"
            )
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        low = np.array([columns[0], rows[0]])
        high = np.array([columns[-1], rows[-1]]) + 1
        self.extent = float((high - low).max())
        if self.extent < MIN_SIDE or inside.mean() < MIN_AREA:
            raise ValueError(
                f"the object is only {high[0] - low[0]} x {high[1] - low[1]} pixels; take a larger "
                "picture, or one in which it is larger"
            )
        self.centre = (low + high) / 2
        self.side = MARGIN * self.extent
        self._color = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
        self._mask = inside
        self._levels: dict[int, Level] = {}

    def level(self, size: int) -> Level:
        """The crop at `size` pixels a side."""
        if size not in self._levels:
            self._levels[size] = self.cropped(self.centre, self.side, size)
        return self._levels[size]

    def cropped(self, centre: np.ndarray, side: float, size: int) -> Level:
        """Any square of the image, at `size` pixels a side."""
        from PIL import Image

        first = np.floor(centre - side / 2).astype(int) - 1
        last = np.ceil(centre + side / 2).astype(int) + 1
        start, stop = np.maximum(first, 0), np.minimum(last, (self.width, self.height))
        part = slice(start[1], stop[1]), slice(start[0], stop[0])
        full = np.zeros((*(last - first)[::-1], 5), np.uint8)
        where = tuple(slice(s - f, e - f) for s, e, f in zip(start[::-1], stop[::-1], first[::-1]))
        full[where][..., :3] = self._color[part] * self._mask[part][..., None]
        full[where][..., 3] = self._mask[part] * 255
        full[where][..., 4] = 255
        corner = centre - side / 2 - first
        box = (*corner, *(corner + side))
        channels = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(full[..., k])).resize(
                    (size, size), Image.Resampling.BILINEAR, box
                ),
                np.float32,
            )
            / 255
            for k in range(5)
        ]
        weight = channels[3]
        mask = weight > 0.5
        color = np.stack(channels[:3], axis=-1) / np.maximum(weight, 0.02)[..., None]
        color = np.where(mask[..., None], np.clip(color, 0, 1), 0).astype(np.float32)
        return Level(size / side, color, mask, channels[4] > 0.5)

    def focal(self, fov: float) -> float:
        """Focal length in image pixels of a vertical field of view in degrees."""
        return self.height / 2 / np.tan(np.radians(fov) / 2)

    def ray(self, pixel: np.ndarray, focal: float) -> np.ndarray:
        """float64 [3], unit, right, down and forward, through an image pixel (x, y)."""
        across = (np.asarray(pixel, np.float64) - (self.width / 2, self.height / 2)) / focal
        ray = np.array([*across, 1.0])
        return ray / np.linalg.norm(ray)

    def camera(self, pose: Pose) -> Camera:
        """The whole picture's camera."""
        return to_camera(pose, self.width, self.height)

    def level_camera(self, pose: Pose, size: int) -> Camera:
        """The camera of the crop at `size` pixels a side."""
        scale = size / self.side
        whole = self.camera(pose)
        fov = float(np.degrees(2 * np.arctan(size / 2 / (pose.focal * scale))))
        shift = (np.array([self.width, self.height]) / 2 - self.centre) * scale
        return Camera(whole.pose, fov, size, size, (float(shift[0]), float(shift[1])))
