"""The camera that a picture of an asset was taken with, from the picture and the object's mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from .coarse import Start, make_templates, place, viewpoints
from .picture import Picture
from .refine import Fit, refine

PITCHES = (-20.0, 0.0, 20.0, 40.0, 60.0)
AZIMUTH_STEP = 18.0
ROLLS = (-12.0, 0.0, 12.0)
UNKNOWN_FOV = 38.0
GUESS_SIGMA, UNKNOWN_SIGMA = 0.12, 0.35


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """A camera and how far to trust it.

    Attributes:
        camera: in the asset's normalised frame, of the whole picture.
        iou: agreement of render and mask, 0..1, not counting what something in front may hide.
        ambiguity: 0 sure, 1 a coin toss between poses (or the wrong asset).
        colour_correlation: of the render in the picture's light with the picture, -1..1.
        hidden: part of the asset's silhouette that something seems to hide, 0..1.
    """

    camera: Camera
    iou: float
    ambiguity: float
    colour_correlation: float
    hidden: float


def estimate_pose(
    asset: Asset,
    image: np.ndarray,
    mask: np.ndarray,
    fov: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> PoseEstimate:
    """Find the camera.

    Args:
        asset: what the picture shows.
        image: float [H, W, 3] in 0..1.
        mask: float [H, W], above 0.5 on the visible object.
        fov: vertical field of view in degrees, within 25 %, refined; 0: unknown.
        progress: called as progress(done, total); may raise.

    Raises:
        ValueError: image or mask cannot carry a pose; says why.
    """
    fits, picture = search(asset, image, mask, fov, progress)
    best = fits[0]
    rivals = [fit.cost for fit in fits[1:] if turn(fit, best) > 30]
    gap = min(rivals, default=best.cost + 1) - best.cost
    ambiguity = float(np.clip(1 - gap / 0.04, 0, 1))
    return PoseEstimate(
        picture.camera(best.pose), best.iou, ambiguity, best.correlation, best.hidden
    )


def search(
    asset: Asset,
    image: np.ndarray,
    mask: np.ndarray,
    fov: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Fit], Picture]:
    """The poses that `estimate_pose` chooses from, best first, and the picture that they lie on."""
    report = progress or (lambda done, total: None)
    report(0, 4)
    picture = Picture(image, mask)
    sigma = GUESS_SIGMA if fov > 0 else UNKNOWN_SIGMA
    focal = picture.focal(fov or UNKNOWN_FOV)
    distance = 2 * focal / picture.extent
    templates = make_templates(asset, distance, viewpoints(PITCHES, AZIMUTH_STEP), ROLLS)
    starts = apart(place(picture, templates, focal, 1.0), 14)
    report(1, 4)
    fits = [refine(asset, picture, s.pose, 64, 5, focal, sigma) for s in starts]
    report(2, 4)
    fits = distinct(fits, 8)
    fits = [refine(asset, picture, f.pose, 96, 8, focal, sigma) for f in fits]
    report(3, 4)
    few = distinct(fits, 4)
    fits = [refine(asset, picture, f.pose, 144, 8, focal, sigma) for f in few]
    report(4, 4)
    return sorted(fits, key=lambda f: f.cost), picture


def apart(starts: list[Start], count: int, degrees: float = 16.0) -> list[Start]:
    """The best starts that look from different sides."""
    out: list[Start] = []
    for start in starts:
        if all(_angle(start.pose.rotation, kept.pose.rotation) > degrees for kept in out):
            out.append(start)
            if len(out) == count:
                break
    return out


def distinct(fits: list[Fit], count: int, degrees: float = 8.0) -> list[Fit]:
    """The best fits that did not run into one another."""
    out: list[Fit] = []
    for fit in sorted(fits, key=lambda f: f.cost):
        if all(turn(fit, kept) > degrees for kept in out):
            out.append(fit)
    return out[:count]


def turn(a: Fit, b: Fit) -> float:
    """Degrees between two poses' rotations."""
    return _angle(a.pose.rotation, b.pose.rotation)


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))
