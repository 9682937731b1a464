"""The asset's own surface detail in a generated picture of it.

The picture keeps what is coarse: shading, colour of the light, what the scene does to the subject.
What is fine comes from the asset's texture, drawn again where the point map says that it is, and
lit as the picture is lit there: shading is a factor on the texture's colour, and the factor is what
both differ by when blurred. That is done on the stored values: they are nearly a power of the
light, so a factor stays a factor, and what blurred the picture, a VAE or an upscaler, worked on
them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from ..asset.seen_surface import SeenSurface
from ..asset.shade import shade
from .alignment import AlignedMap, align, check_proportions, enlarge, shrink
from .camera import ON_SURFACE, normalised_box
from .decode import DecodedMap, decode
from .registration import register

DETAIL_SIZE = 16.0
"""Pixels of the point map: two cells of a latent, below which a VAE and the model garble."""
SUPERSAMPLING = 2
BAND_SAMPLES = 1 << 20
"""Colour samples that are drawn at once, about 500 bytes each."""
MAX_GAIN = 2.5
"""How many times brighter or darker than the texture light makes a picture, at most."""
DARK = 0.03
"""A value below which a ratio says nothing."""
CAMERA_OFF = 0.005
"""Of the map's longer side, by which a found camera may miss the map's points; beyond, the map
places the texture itself."""
MAP_BLUR = 2.0
"""Pixels by which a map is smoothed when it places the texture itself."""


@dataclass(frozen=True, eq=False)
class Detail:
    """A picture with the asset's detail.

    Attributes:
        image: float32 [H, W, 3] in 0..1, sRGB.
        weight: float32 [H, W] in 0..1, how much of the detail was used; the image is the given one,
            bit for bit, where it is 0.
        camera: that the detail was drawn from, of the map's size, or None: pixel by pixel through
            the map.
        refusal: why there is no camera, or "".
    """

    image: np.ndarray
    weight: np.ndarray
    camera: Camera | None
    refusal: str


def transfer_detail(
    image: np.ndarray,
    point_map: np.ndarray,
    asset: Asset,
    camera: Camera | None = None,
    strength: float = 1.0,
    detail_size: float = DETAIL_SIZE,
    mask: np.ndarray | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Detail:
    """Put the asset's texture detail into a picture.

    Args:
        image: float [H, W, 3] in 0..1, sRGB; the map's size or larger, upscaled by anything.
        point_map: float [h, w, 3] in 0..1, white background, of the same proportions.
        asset: what is in the picture.
        camera: that the map was made with, of the map's size; None to recover it.
        strength: 0 nothing, 1 all.
        detail_size: what is smaller comes from the texture; pixels of the map.
        mask: float [H, W] in 0..1, where detail may go; None everywhere.
        progress: called before each piece of work; may raise.

    Raises:
        ValueError: sizes that do not belong together, an empty mask, a map without subject or of
            another asset.
    """
    check_proportions(image, point_map)
    if not np.isfinite(image).all():
        raise ValueError("the image has NaN or infinite pixels; sample again, in bf16 or float32")
    if mask is not None and not (mask > 0).any():
        raise ValueError("the mask is empty: no pixel may get detail; paint it, or disconnect it")
    height, width = image.shape[:2]
    refusal, used = "", None
    try:
        found = align(point_map, asset, camera)
        if camera is None and found.off > CAMERA_OFF * max(point_map.shape[:2]):
            raise ValueError(f"the nearest camera is {found.off:.1f} pixels off the point map")
        texture, weight, used = _through_camera(found, asset, image, progress)
    except ValueError as error:
        if camera is not None:
            raise
        refusal = str(error)
        texture, weight = _through_map(point_map, asset, height, width, progress, refusal)
    if mask is not None:
        weight = weight * np.clip(mask, 0, 1).astype(np.float32)
    if not weight.any():
        raise ValueError(
            "nowhere do the point map and the asset agree well enough for detail; connect the mesh "
            "and the camera that the picture was made with, or widen the mask"
        )
    progress()
    sigma = 0.375 * detail_size * height / point_map.shape[0]  # half of a wave as long as two sizes
    out = blend_detail(image, texture, weight, sigma, strength)
    return Detail(out, weight, used, refusal)


def blend_detail(
    image: np.ndarray, texture: np.ndarray, weight: np.ndarray, sigma: float, strength: float
) -> np.ndarray:
    """The fine part of a texture on the coarse part of a picture.

    Args:
        image, texture: float [H, W, 3] in 0..1, sRGB, of the same size.
        weight: float32 [H, W] in 0..1, where and how much.
        sigma: of the Gaussian that separates coarse from fine, pixels.
        strength: factor on the weight.

    Returns:
        float32 [H, W, 3]; the image itself where strength times weight is 0.
    """
    rows, columns = (np.flatnonzero(weight.any(axis)) for axis in (1, 0))
    margin = int(4 * sigma) + 1
    frame = tuple(
        slice(max(index[0] - margin, 0), index[-1] + margin + 1) for index in (rows, columns)
    )
    w = weight[frame]
    seen, own = np.asarray(image[frame], np.float32), texture[frame]
    coarse, coarse_own = _coarse(seen, w, sigma), _coarse(own, w, sigma)
    light = np.clip((coarse + DARK) / (coarse_own + DARK), 1 / MAX_GAIN, MAX_GAIN)
    change = coarse + light * (own - coarse_own) - seen
    mixed = np.clip(seen + strength * w[..., None] * change, 0, 1)
    out = np.array(image, np.float32)
    on = (w > 0) & (strength > 0)
    out[frame][on] = mixed[on]
    return out


def _coarse(picture: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Blurred, out of what the weight trusts only, so that no background comes in."""
    from scipy import ndimage

    total = np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-6)[..., None]
    return ndimage.gaussian_filter(picture * weight[..., None], (sigma, sigma, 0)) / total


def _through_camera(
    found: AlignedMap, asset: Asset, image: np.ndarray, progress: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray, Camera]:
    """The texture as the camera sees it, float32 [H, W, 3], the weight [H, W], and the camera, at
    the map's size, moved to where the picture's own pattern is."""
    progress()
    small, (height, width) = found.camera, image.shape[:2]
    trust = found.trust(render(asset, small).points)
    small = register(small, asset, shrink(image, small.height, small.width), trust, progress)
    camera = small.resized(width, height)
    trust = enlarge(trust, height, width)
    texture = np.zeros((height, width, 3), np.float32)
    columns = np.flatnonzero(trust.any(0))
    if not len(columns):
        return texture, trust, small
    left, right = int(columns[0]), int(columns[-1]) + 1
    rows = max(BAND_SAMPLES // ((right - left) * SUPERSAMPLING**2), 1)
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height)), slice(left, right)
        if not trust[band].any():
            continue
        progress()
        piece = camera.cropped(left, top, right - left, band[0].stop - top)
        drawn = render(asset, piece, supersampling=SUPERSAMPLING)
        texture[band] = drawn.color
        trust[band] *= drawn.mask
    return texture, trust, small


def _through_map(
    point_map: np.ndarray,
    asset: Asset,
    height: int,
    width: int,
    progress: Callable[[], None],
    refusal: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The texture at the points that the map names, float32 [H, W, 3], and the weight [H, W]."""
    decoded = decode(point_map, normalised_box(asset))
    if not decoded.confidence.any():
        raise ValueError(refusal)
    surface = SeenSurface(asset, progress)
    points, trust = _smooth(decoded)
    points, trust = enlarge(points, height, width), enlarge(trust, height, width)
    on = trust > 0
    places, off = [], []
    for chunk in np.array_split(points[on], max(on.sum() * 9 // BAND_SAMPLES, 1)):
        progress()
        place, distance = surface.project(chunk.astype(np.float64))
        places.append(shade(place)[:, :3])
        off.append(distance)
    near = np.clip(2 - np.concatenate(off) / (ON_SURFACE / 2), 0, 1)
    if np.average(near > 0, weights=trust[on]) < 0.5:
        raise ValueError(f"the point map does not lie on the asset: {refusal}")
    texture = np.zeros((height, width, 3), np.float32)
    texture[on] = np.concatenate(places)
    trust[on] *= near.astype(np.float32)
    return texture, trust


def _smooth(decoded: DecodedMap) -> tuple[np.ndarray, np.ndarray]:
    """The map's points without their noise, float32 [H, W, 3], and how sure they are [H, W]."""
    weight = decoded.confidence
    return _coarse(decoded.xyz, weight, MAP_BLUR), weight
