"""Does the generated picture show the asset's own colours where its point map says?

Two checks that fail in different ways. Through the map: every pixel's colour against the asset's at
the point that the map names. Through the camera: the picture against the asset as the recovered
camera sees it, silhouette included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..asset.cameras import Camera
from ..asset.material import srgb_to_linear
from ..asset.model import Asset
from ..asset.render import render
from ..asset.seen_surface import SeenSurface
from ..asset.shade import shade
from .camera import ON_SURFACE, RecoveredCamera, normalised_box, recover_camera
from .decode import DecodedMap, decode

TOLERANCE = 20.0
"""CIE76 colour difference at which the consistency has fallen to 1 / e; 2.3 is just noticeable, and
unrelated colours are 40 to 60 apart."""
GAIN = (0.5, 1.5)
"""Contrast against the asset, of lightness and of colours, that light may account for."""
LIGHTNESS = 0.5
"""Weight of lightness against the two axes of colour: shading changes it from place to place."""
EDGE_WEIGHT = 0.1
"""Weight of a pixel without confidence: at an edge the map's blur is no fault of the picture."""
BLUR = 1.5
"""Pixels by which both sides are smoothed before they are compared."""


@dataclass(frozen=True, eq=False)
class Consistency:
    """How well one picture agrees with the asset.

    Attributes:
        map_score: mean consistency of the subject's pixels through the map, 0..1, weighted by
            confidence.
        camera_score: mean consistency through the camera, over the subject and the silhouette;
            0 without a camera.
        heat: float32 [H, W], 1 where the colours agree, 0 where they do not; 1 off the subject.
        mask: bool [H, W], the subject.
        overlay: float32 [H, W, 3], the picture with the asset from the camera laid over it in
            alternating squares.
        camera: the camera, or None.
        refusal: why there is no camera, or "". A map without subject has scores of 0.
    """

    map_score: float
    camera_score: float
    heat: np.ndarray
    mask: np.ndarray
    overlay: np.ndarray
    camera: Camera | None
    refusal: str

    @property
    def score(self) -> float:
        """Mean of both, 0..1."""
        return (self.map_score + self.camera_score) / 2


class SurfaceColors:
    """The asset's colour at any point of its visible surface.

    Args:
        asset: the asset.
        progress: called before each view; may raise.
    """

    def __init__(self, asset: Asset, progress: Callable[[], None] = lambda: None) -> None:
        self._surface = SeenSurface(asset, progress)
        self._colors = shade(self._surface.samples)[:, :3].astype(np.float32)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours [P, 3] at points [P, 3] of the normalised frame, and how far they are off the
        surface [P]."""
        index, distance = self._surface.nearest_sample(points)
        return self._colors[index], distance


def check_consistency(
    image: np.ndarray,
    point_map: np.ndarray,
    asset: Asset,
    surface: SurfaceColors,
    fov: float | None = None,
) -> Consistency:
    """Compare one picture with the asset.

    Args:
        image: float [H, W, 3] in 0..1, sRGB.
        point_map: float [H, W, 3] in 0..1, its point map.
        asset: the asset.
        surface: the asset's colours.
        fov: vertical field of view in degrees, or None to find it.

    Raises:
        ValueError: another size, or NaN.
    """
    if image.shape[:2] != point_map.shape[:2]:
        raise ValueError(
            f"image is {image.shape[1]}x{image.shape[0]}, but the point map "
            f"{point_map.shape[1]}x{point_map.shape[0]}; connect the two of one sampling"
        )
    decoded = decode(point_map, normalised_box(asset))
    if not np.isfinite(image).all():
        raise ValueError("the image has NaN or infinite pixels; sample again, in bf16 or float32")
    if not decoded.mask.any():
        heat = np.ones(decoded.mask.shape, np.float32)
        return Consistency(0.0, 0.0, heat, decoded.mask, image, None, "the point map is white")
    heat = _through_map(image, decoded, surface)
    weight = EDGE_WEIGHT + decoded.confidence[decoded.mask]
    map_score = float(np.average(heat[decoded.mask], weights=weight))
    try:
        found = recover_camera(point_map, asset, fov)
    except ValueError as error:
        return Consistency(map_score, 0.0, heat, decoded.mask, image, None, str(error))
    camera_score, overlay = _through_camera(image, found, asset)
    return Consistency(map_score, camera_score, heat, decoded.mask, overlay, found.camera, "")


def _through_map(image: np.ndarray, decoded: DecodedMap, surface: SurfaceColors) -> np.ndarray:
    """float32 [H, W], see `Consistency.heat`."""
    mask = decoded.mask
    colors, off = surface.at(decoded.xyz[mask])
    expected = np.zeros_like(image)
    expected[mask] = colors
    on_surface = np.zeros(mask.shape, bool)
    on_surface[mask] = off < ON_SURFACE
    heat = np.ones(mask.shape, np.float32)
    heat[mask] = (color_agreement(image, expected, mask) * on_surface)[mask]
    return heat


def _through_camera(
    image: np.ndarray, found: RecoveredCamera, asset: Asset
) -> tuple[float, np.ndarray]:
    """Score over both silhouettes together, and the overlay."""
    view = render(asset, found.camera)
    both, either = view.mask & found.decoded.mask, view.mask | found.decoded.mask
    agreement = color_agreement(image, view.color, both) * both
    rows, columns = np.indices(both.shape) // max(min(both.shape) // 8, 1)
    squares = ((rows + columns) % 2 == 0) & view.mask
    overlay = np.where(squares[..., None], view.color, image).astype(np.float32)
    return float(agreement.sum() / either.sum()), overlay


def color_agreement(image: np.ndarray, expected: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """exp(-(difference / TOLERANCE)^2) of two sRGB pictures [H, W, 3] inside a mask, [H, W].

    Light is not identity: lightness is fitted by one gain and offset for the whole picture and
    counts `LIGHTNESS`; the strength of colours is fitted by one gain.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    seen, wanted = (_smooth(to_lab(picture), mask) for picture in (image, expected))
    x, y = wanted[mask], seen[mask]
    light_x, light_y = x[:, 0] - np.median(x[:, 0]), y[:, 0] - np.median(y[:, 0])
    gains = [np.clip(light_x @ light_y / (light_x @ light_x + len(x)), *GAIN)]
    chroma = (x[:, 1:] * y[:, 1:]).sum() / ((x[:, 1:] ** 2).sum() + len(x))
    gains += [np.clip(chroma, *GAIN)] * 2
    wanted *= gains
    wanted[..., 0] += np.median(y[:, 0]) - gains[0] * np.median(x[:, 0])
    difference = np.linalg.norm((seen - wanted) * (LIGHTNESS, 1, 1), axis=-1)
    return np.exp(-((difference / TOLERANCE) ** 2)).astype(np.float32)


def _smooth(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blurred inside the mask, without what lies outside."""
    from scipy import ndimage

    weight = mask.astype(np.float32)
    total = np.maximum(ndimage.gaussian_filter(weight, BLUR), 1e-6)[..., None]
    return ndimage.gaussian_filter(picture * weight[..., None], (BLUR, BLUR, 0)) / total


_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
"""IEC 61966-2-1: linear sRGB to XYZ."""
_D65 = _TO_XYZ.sum(1)


def to_lab(image: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] in 0..1 to CIE L*a*b* (1976, D65)."""
    t = srgb_to_linear(np.clip(image[..., :3], 0, 1)) @ _TO_XYZ.T / _D65
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def heat_picture(image: np.ndarray, heat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float32 [H, W, 3]: green where the colours agree, over yellow to red where they do not, on
    the picture in grey."""
    grey = image @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    ramp = np.stack([np.clip(2 - 2 * heat, 0, 1), np.clip(2 * heat, 0, 1), 0 * heat], axis=-1)
    tinted = ramp * (0.35 + 0.65 * grey[..., None])
    faint = np.repeat(0.5 + grey[..., None] / 2, 3, axis=-1)
    return np.where(mask[..., None], tinted, faint).astype(np.float32)
