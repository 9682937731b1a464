"""Point maps as pictures: xyz of the asset's box as RGB on a white background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

BACKGROUND = 0.06
"""Pixels with all coordinates above 1 minus this are taken for white; a VAE blurs white by less."""
EDGE_RADIUS = 3
"""Pixels over which a VAE blurs an edge: its latents are 8 pixels wide, its edges about 3."""
JUMP = 6.0
"""A step of more than this many times the subject's median step is a jump between surfaces."""
SPECK = 0.01
"""Islands below this part of the largest one are no subject."""
UNIT_BOX = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
"""Box of a map whose asset is not known."""


@dataclass(frozen=True, eq=False)
class DecodedMap:
    """What a point map says.

    Attributes:
        xyz: float32 [H, W, 3], the point on the asset, in the units of the box it was decoded with;
            0 off the subject.
        mask: bool [H, W], the subject.
        confidence: float32 [H, W] in 0..1: 1 well inside a surface, falling to 0 at silhouettes,
            jumps between surfaces and single stray pixels, where a VAE mixes values that do not
            belong together.
    """

    xyz: np.ndarray
    mask: np.ndarray
    confidence: np.ndarray


def decode(point_map: np.ndarray, box: np.ndarray) -> DecodedMap:
    """Decode one point map.

    Args:
        point_map: float [H, W, 3] in 0..1, x, y, z per axis of the box, white background
            (METHOD fact 38).
        box: float [2, 3], corners of the asset's bounding box, in any units.

    Raises:
        ValueError: NaN, or not a picture.
    """
    from scipy import ndimage

    values = checked(point_map)
    smooth = ndimage.median_filter(values, size=(3, 3, 1))
    mask = _subject(smooth)
    extent = (box[1] - box[0]).astype(np.float32)
    xyz = (box[0].astype(np.float32) + values * extent) * mask[..., None]
    stray = np.abs(values - smooth).max(-1)
    jumps = _jumps(smooth * extent, mask)
    inside = ndimage.distance_transform_edt(np.pad(mask & ~jumps, 1))[1:-1, 1:-1]
    confidence = np.clip((inside - 1) / EDGE_RADIUS, 0, 1) * (stray < BACKGROUND)
    return DecodedMap(xyz, mask, confidence.astype(np.float32))


def checked(point_map: np.ndarray) -> np.ndarray:
    """The map as float32 [H, W, 3].

    Raises:
        ValueError: NaN or infinite values, or not a picture.
    """
    values = np.asarray(point_map, np.float32)
    if values.ndim != 3 or values.shape[2] < 3 or not values.size:
        raise ValueError(f"a point map has to be [height, width, 3], this is {values.shape}")
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values).all(-1))
        raise ValueError(
            f"the point map has {bad:,} pixels that are NaN or infinite; the sampling went wrong "
            "(fp16 overflow?): sample again, in bf16 or float32"
        )
    return np.clip(values[..., :3], 0.0, 1.0)


def pictures(image: Tensor) -> np.ndarray:
    """An IMAGE [B, H, W, C] in 0..1 as float32 [B, H, W, 3]."""
    return image[..., :3].detach().float().cpu().numpy()


def _subject(values: np.ndarray) -> np.ndarray:
    """bool [H, W].

    The surface turns white too at the far corner of its box, but gradually, while the background
    ends in a step. So beside white, a pixel is the subject's when it is more than half as far from
    white as the farthest pixel within reach of the blur: halfway up a blurred step, and nearly to
    the tip of a ramp. White islands inside the subject that a ramp leads to are surface, others are
    holes.
    """
    from scipy import ndimage

    deficit = 1.0 - values.min(-1)
    white = deficit <= BACKGROUND
    reach = 2 * EDGE_RADIUS + 1
    highest = ndimage.maximum_filter(deficit, size=reach)
    beside_white = ndimage.maximum_filter(white, size=reach)
    mask = ~white & (~beside_white | (deficit > highest / 2))
    labels, _ = ndimage.label(~mask)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if label in border:
            continue
        place = tuple(
            slice(max(s.start - EDGE_RADIUS - 1, 0), s.stop + EDGE_RADIUS + 1) for s in place
        )
        island = labels[place] == label
        around = ndimage.binary_dilation(island, iterations=EDGE_RADIUS + 1) & mask[place]
        if around.any() and np.median(deficit[place][around]) < 3 * BACKGROUND:
            mask[place] |= island
    labels, count = ndimage.label(mask)
    if count:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        mask = (sizes >= SPECK * sizes.max())[labels]
    return mask


def _jumps(positions: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """bool [H, W], where neighbouring pixels of the subject lie on different surfaces."""
    out = np.zeros(mask.shape, bool)
    steps = []
    for axis in (0, 1):
        step = np.linalg.norm(np.diff(positions, axis=axis), axis=-1)
        both = mask.take(range(1, mask.shape[axis]), axis) & mask.take(
            range(mask.shape[axis] - 1), axis
        )
        steps.append(np.where(both, step, 0.0))
    seen = np.concatenate([step[step > 0] for step in steps])
    if not len(seen):
        return out
    limit = JUMP * np.median(seen)
    out[1:] |= steps[0] > limit
    out[:-1] |= steps[0] > limit
    out[:, 1:] |= steps[1] > limit
    out[:, :-1] |= steps[1] > limit
    return out
