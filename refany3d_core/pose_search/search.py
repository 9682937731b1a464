"""The camera that a picture of an asset was taken with, from the picture and the object's mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from .coarse import Start, make_templates, place, viewpoints
from .picture import Picture
from .refine import refine
from .scores import Fit, agreement, ambiguity, refusal

PITCHES = (-20.0, 0.0, 20.0, 40.0, 60.0, 80.0)
AZIMUTH_STEP = 18.0
ROLLS = (-12.0, 0.0, 12.0)
STAGES = ((14, 64, 5), (8, 96, 8), (4, 144, 8))
"""Of the refinement: how many poses, at how many pixels, by how many steps at most."""
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

    @property
    def refusal(self) -> str:
        """Why the camera is not to be trusted; empty when it is."""
        return refusal(self.iou, self.ambiguity)

    def describe(self) -> str:
        """What was found, for a person."""
        verdict = f"not to be trusted: {self.refusal}" if self.refusal else "accepted"
        distance = float(np.linalg.norm(self.camera.eye))
        hidden = f", {self.hidden:.0%} of it hidden" if self.hidden > 0.01 else ""
        return (
            f"Pose {verdict}. Field of view {self.camera.fov:.1f} degrees, {distance:.2f} from the "
            f"object's middle (its longest side is 2){hidden}. Silhouettes agree by {self.iou:.3f} "
            f"(IoU), colours by {self.colour_correlation:.2f} (correlation), ambiguity "
            f"{self.ambiguity:.2f}."
        )


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
    size = STAGES[-1][1]
    view = render(asset, picture.level_camera(best.pose, size))
    return PoseEstimate(
        camera=picture.camera(best.pose),
        iou=agreement(view, picture.level(size)),
        ambiguity=ambiguity(fits, [turn(fit, best) for fit in fits]),
        colour_correlation=best.correlation,
        hidden=best.hidden,
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
    total = 2 + sum(count for count, _, _ in STAGES)
    report(0, total)
    picture = Picture(image, mask)
    sigma = GUESS_SIGMA if fov > 0 else UNKNOWN_SIGMA
    focal = picture.focal(fov or UNKNOWN_FOV)
    distance = 2 * focal / picture.extent
    templates = make_templates(asset, distance, viewpoints(PITCHES, AZIMUTH_STEP), ROLLS)
    report(1, total)
    colored = templates.colored
    starts = place(picture, templates, focal, 1.0 if colored else 0.0)
    poses = [start.pose for start in apart(starts, STAGES[0][0])]
    done = 2
    fits: list = []
    for count, size, steps in STAGES:
        fits = []
        for pose in poses[:count]:
            report(done, total)
            fits.append(refine(asset, picture, pose, size, steps, focal, sigma, colored))
            done += 1
        fits = distinct(fits)
        poses = [fit.pose for fit in fits]
    report(total, total)
    return fits, picture


def apart(starts: list[Start], count: int, degrees: float = 16.0) -> list[Start]:
    """The best starts that look from different sides."""
    out: list[Start] = []
    for start in starts:
        if all(_angle(start.pose.rotation, kept.pose.rotation) > degrees for kept in out):
            out.append(start)
            if len(out) == count:
                break
    return out


def distinct(fits: list[Fit], degrees: float = 8.0) -> list[Fit]:
    """The fits that did not run into one another, best first."""
    out: list[Fit] = []
    for fit in sorted(fits, key=lambda f: f.cost):
        if all(turn(fit, kept) > degrees for kept in out):
            out.append(fit)
    return out


def turn(a: Fit, b: Fit) -> float:
    """Degrees between two poses' rotations."""
    return _angle(a.pose.rotation, b.pose.rotation)


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))
