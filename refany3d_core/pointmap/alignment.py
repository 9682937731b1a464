"""A picture, its point map and the asset brought together: which camera, and how sure where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from .camera import (
    MIN_ON_SURFACE,
    ON_SURFACE,
    TOLERANCES,
    normalised_box,
    recover_camera,
    surface_agreement,
)
from .decode import DecodedMap, checked, decode

CALM = 1.0
"""Pixels by which a map is blurred before its camera is found."""
NOISE_PIXELS = 4.0
"""Pixels over which a map's points are averaged before a camera is blamed."""


@dataclass(frozen=True, eq=False)
class AlignedMap:
    """A map in the asset's normalised frame, and the camera that made it, of the map's size.

    Attributes:
        off: median distance in pixels between the map's sure pixels and where the camera sees
            their points, without the map's noise.
    """

    decoded: DecodedMap
    camera: Camera
    off: float

    def trust(self, points: np.ndarray) -> np.ndarray:
        """How sure it is that the map's pixels show the points that the camera sees there.

        Args:
            points: float [H, W, 3], normalised frame, of the map's size; NaN where nothing is seen.

        Returns:
            float32 [H, W] in 0..1: the map's confidence, falling to 0 where it says another place.
        """
        with np.errstate(invalid="ignore"):
            off = np.linalg.norm(points - self.decoded.xyz, axis=-1) / (2 * ON_SURFACE)
        agrees = np.clip(2 - 2 * off, 0, 1)
        return (np.nan_to_num(agrees) * self.decoded.confidence).astype(np.float32)


def align(point_map: np.ndarray, asset: Asset, camera: Camera | None = None) -> AlignedMap:
    """Find a map's camera, or check the one that is given.

    Args:
        point_map: float [H, W, 3] in 0..1, white background.
        asset: whose map it is.
        camera: that it was made with, of the map's size; None to recover it.

    Raises:
        ValueError: the map is white, of another asset, or carries no camera; says why.
    """
    if camera is None:
        found = recover_camera(_calm(point_map), asset).camera
        decoded = decode(point_map, normalised_box(asset))
        return AlignedMap(decoded, found, _reprojection(found, decoded))
    decoded = decode(point_map, normalised_box(asset))
    if not decoded.mask.any():
        raise ValueError(
            "the point map is white: there is no subject in it; sample again with the asset in "
            "the prompt, or connect Point Map Decode's point_map"
        )
    agreement = surface_agreement(camera, decoded, asset)
    if agreement < MIN_ON_SURFACE:
        raise ValueError(
            f"only {agreement:.0%} of the point map shows what the given camera sees of the asset; "
            "connect the camera that the map was made with, or none (it is found then), and the "
            "mesh that it was made with"
        )
    off = _reprojection(camera, decoded)
    if off > TOLERANCES[1] * max(decoded.mask.shape):
        raise ValueError(
            f"the point map and the given camera are {off:.0f} pixels apart; connect the camera "
            "that the map was made with (a shifted lens cannot be told there), or none: it is "
            "found then"
        )
    return AlignedMap(decoded, camera, off)


def _calm(point_map: np.ndarray) -> np.ndarray:
    """The map without stray pixels and without most of its noise, which bends the camera: a camera
    out of a map with noise of 1 % is 5 times nearer with it."""
    from scipy import ndimage

    without = ndimage.median_filter(checked(point_map), size=(3, 3, 1))
    return ndimage.gaussian_filter(without, (CALM, CALM, 0))


def _reprojection(camera: Camera, decoded: DecodedMap) -> float:
    """See `AlignedMap.off`. Distances are smoothed first: a map's noise is no fault of a camera."""
    from scipy import ndimage

    sure = decoded.confidence > 0
    if not sure.any():
        return 0.0
    rows, columns = np.indices(sure.shape) + 0.5
    x, y, depth = (v.reshape(sure.shape) for v in camera.project(decoded.xyz.reshape(-1, 3)))
    weight = (decoded.confidence * (depth > 0)).astype(np.float64)
    total = np.maximum(ndimage.gaussian_filter(weight, NOISE_PIXELS), 1e-6)
    across, down = (
        ndimage.gaussian_filter(v * weight, NOISE_PIXELS) / total for v in (x - columns, y - rows)
    )
    return float(np.median(np.where(depth > 0, np.hypot(across, down), np.inf)[sure]))


def check_proportions(image: np.ndarray, point_map: np.ndarray) -> None:
    """Raises ValueError unless a picture [H, W, 3] is its map [h, w, 3] at some scale, to a pixel
    of the picture and of the map."""
    height, width = image.shape[:2]
    rows, columns = point_map.shape[:2]
    scale = max(height / rows, width / columns)
    if abs(width - columns * height / rows) > 1 + scale:
        raise ValueError(
            f"image is {width}x{height}, but the point map {columns}x{rows}: other proportions; "
            "connect the two of one sampling, the image upscaled or not, but not cropped"
        )
    if scale < 1:
        raise ValueError(
            f"image is {width}x{height}, smaller than its point map ({columns}x{rows}); connect "
            "the image as it was decoded, or upscaled"
        )


def enlarge(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w, ...] at the centres of a larger picture's pixels, bilinear, edges held."""
    import torch

    if values.shape[:2] == (height, width):
        return values
    flat = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    flat = flat.reshape(*values.shape[:2], -1).permute(2, 0, 1)[None]
    out = torch.nn.functional.interpolate(flat, (height, width), mode="bilinear")
    return out[0].permute(1, 2, 0).numpy().reshape(height, width, *values.shape[2:])


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [H, W, 3] as a smaller picture, each pixel the mean of those that it covers."""
    import torch

    if picture.shape[:2] == (height, width):
        return picture
    flat = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
    out = torch.nn.functional.interpolate(flat, (height, width), mode="area")
    return out[0].permute(1, 2, 0).numpy()
