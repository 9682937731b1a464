"""How well a pose explains the picture: what the search minimises, and what its user is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..asset.render import View
from ..pointmap.pnp import Pose
from .picture import Level

MIN_IOU, MAX_AMBIGUITY = 0.85, 0.5
"""What counts as refused."""
HIDDEN_PRICE = 0.25
"""In the search, of a pixel that something may hide by one that lies wrong."""
MAX_HIDDEN = 0.4
"""Part of the silhouette that may be hidden."""
COLOR_PRICE = 1.5
LENS_PRICE = 0.01
RIM = 0.015
"""Of the mask's size, by which outlines differ that segmenters and reconstructions make."""
RIVAL_DEGREES = 15.0
"""Another view is one that turns the object by more."""
EVEN_GAP = 0.012
"""Difference in cost to the best other view at which ambiguity is 0.5."""
MISFIT_MIDDLE, MISFIT_WIDTH = 0.14, 0.03
"""Where a logistic curve told right from wrong meshes on generated pictures
(benchmarks/pose_search.py)."""
LIGHT_RIDGE = np.diag([1e-3, 0.02, 0.02, 0.02])
"""Holds the light near an even one of 0.8 where the object's shape does not tell it."""
MAX_TINT = 1.5
"""Of the light: a channel by the middle one."""
NO_COLOR = (0.1, 0.6)
"""Colour error and correlation that stand for a mesh of one colour: neither good nor bad."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose and how it lies on a level.

    Attributes:
        overlap: of the silhouettes (IoU), where thick pieces off the mask count a part only.
        hidden: part of the render that lies off the mask in thick pieces.
        color_error: robust root mean square of the colours after the light is fitted, 0..1.
        correlation: of the render's fitted colours with the picture's.
        cost: what the search minimises.
    """

    pose: Pose
    overlap: float
    hidden: float
    color_error: float
    correlation: float
    cost: float


def judge(
    pose: Pose, view: View, level: Level, colored: bool, lens_error: float
) -> tuple[Fit, np.ndarray | None]:
    """How a render lies on the level, and its colours in the picture's light [P, 3], if it has any.

    Args:
        lens_error: of the focal length, in standard deviations of the guess.
    """
    drawn = view.mask & level.known
    both = int((drawn & level.mask).sum())
    off = drawn & ~level.mask
    bare = int((level.mask & ~view.mask).sum())
    hidden = int(thick_part(off).sum())
    thin = int(off.sum()) - hidden
    overlap = both / max(both + bare + thin + HIDDEN_PRICE * hidden, 1)
    light, (error, correlation) = None, NO_COLOR
    if colored:
        light, error, correlation = in_light(view, level)
    share = hidden / max(int(drawn.sum()), 1)
    cost = 1 - overlap + COLOR_PRICE * error + LENS_PRICE * lens_error**2
    cost += max(share - MAX_HIDDEN, 0)
    return Fit(pose, overlap, share, error, correlation, cost), light


def thick_part(off: np.ndarray) -> np.ndarray:
    """Of the render's pixels off the mask (bool [S, S]), those that something in front may hide: a
    silhouette that lies badly leaves a rim, an occluder a piece thicker than 1/16 of the crop."""
    width = max(1, round(len(off) / 32))
    core = ndimage.distance_transform_edt(np.pad(off, 1))[1:-1, 1:-1] > width
    if not core.any():
        return core
    return off & (ndimage.distance_transform_edt(~core) <= width)


def agreement(view: View, level: Level) -> float:
    """IoU of render and mask, 0..1, without a rim of RIM and without what may be hidden."""
    drawn = view.mask & level.known
    rows, columns = np.nonzero(level.mask)
    rim = RIM * max(np.ptp(rows), np.ptp(columns))
    off = drawn & ~level.mask
    off &= ~thick_part(off) & (level.distance > rim)
    bare = level.mask & ~view.mask & (ndimage.distance_transform_edt(~view.mask) > rim + 0.5)
    both = (drawn & level.mask).sum()
    return float(both / max(both + off.sum() + bare.sum(), 1))


def ambiguity(fits: Sequence[Fit], angles: Sequence[float]) -> float:
    """0 sure, 1 a coin toss: from how well the first of the fits lies, and how much better than
    those that look from elsewhere.

    Args:
        fits: best first.
        angles: degrees of each to the first.
    """
    best = fits[0]
    misfit = best.cost - 0.4 * best.correlation
    wrong = 1 / (1 + np.exp(-(misfit - MISFIT_MIDDLE) / MISFIT_WIDTH))
    rivals = [f.cost for f, angle in zip(fits, angles, strict=True) if angle > RIVAL_DEGREES]
    toss = 0.0
    if rivals:
        toss = 2 / (1 + 3 ** ((min(rivals) - best.cost) / EVEN_GAP))
    return float(1 - (1 - wrong) * (1 - min(toss, 1)))


def refusal(iou: float, ambiguity: float) -> str:
    """Why a fit with these scores counts as refused; empty when it does not."""
    reasons = []
    if iou < MIN_IOU:
        reasons.append(f"the mesh's silhouette misses the mask (iou {iou:.2f}, under {MIN_IOU})")
    if ambiguity > MAX_AMBIGUITY:
        reasons.append(
            f"other views fit as well, or the mesh does not belong (ambiguity {ambiguity:.2f}, "
            f"above {MAX_AMBIGUITY})"
        )
    return "; ".join(reasons)


def in_light(view: View, level: Level) -> tuple[np.ndarray | None, float, float]:
    """The render's colours [P, 3] in the light that fits the picture best, their robust error, and
    their correlation with the picture's.

    The light is linear in the normal (a spherical harmonic of the first order), and of one tint:
    more would paint any object in any colours.
    """
    pixel = view.hits.pixel
    on = level.inner.reshape(-1)[pixel]
    if on.sum() < 12:
        return None, 0.3, 0.0
    color = view.color.reshape(-1, 3)[pixel].astype(np.float64)
    normal = view.normal.reshape(-1, 3)[pixel] @ view.camera.pose[:3, :3]
    basis = np.concatenate([np.ones((len(normal), 1)), normal], axis=1)
    seen = level.color.reshape(-1, 3)[pixel][on].astype(np.float64)
    ridge = LIGHT_RIDGE * len(seen)
    tint, weight = np.ones(3), np.ones(len(seen))
    for _ in range(3):
        tinted = color * tint
        strong = weight * (tinted[on] ** 2).sum(1)
        right = basis[on].T @ (weight * (tinted[on] * seen).sum(1)) + ridge[:, 0] * 0.8
        light = np.linalg.solve((basis[on] * strong[:, None]).T @ basis[on] + ridge, right)
        out = tinted * (basis @ light)[:, None]
        square = ((seen - out[on]) ** 2).mean(1)
        weight = 1 / (1 + square / 0.1**2)
        grey = out[on] / tint
        tint = (weight[:, None] * grey * seen).sum(0) / ((weight[:, None] * grey**2).sum(0) + 1e-6)
        tint = np.clip(tint / np.median(tint), 1 / MAX_TINT, MAX_TINT)
    error = float(np.sqrt(np.minimum(square, 0.09).mean()))
    fitted, seen = out[on] - out[on].mean(0), seen - seen.mean(0)
    norm = np.sqrt((fitted**2).sum() * (seen**2).sum())
    return out, error, float((fitted * seen).sum() / norm) if norm > 1e-9 else 0.0
