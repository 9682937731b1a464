"""A pose moved until outline and colours of the render lie on the picture's (Gauss-Newton)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..asset.model import Asset
from ..asset.render import View, render
from ..pointmap.pnp import Pose, _exp
from .picture import Level, Picture
from .scores import Fit, judge

OUTLINE_WEIGHT = 60.0
"""Effective number of independent outline points: neighbours err together."""
COLOR_WEIGHT = 60.0
"""Effective number of independent colours."""
COLOR_SIGMA = 0.06
"""Error of a colour, 0..1."""
OFF_COLOR = 0.15
"""A difference of colour from which a pixel counts for little: a highlight, or another object."""
LENS_WEIGHT = 12.0
"""Of the lens's guess against the outline's pixels."""
TURN_STEP = 0.35
"""Radians that one step turns at most."""


def refine(
    asset: Asset, picture: Picture, pose: Pose, size: int, steps: int,
    focal_guess: float, focal_sigma: float, colored: bool = True,
) -> Fit:  # fmt: skip
    """The best pose met on the way.

    Args:
        size: of the level to work on.
        steps: renders, at most.
        focal_guess: image pixels.
        focal_sigma: how sure the guess is: a standard deviation of its logarithm.
        colored: whether the asset's colours mean anything.
    """
    level = picture.level(size)
    best: Fit | None = None
    damping, current = 1e-2, pose
    for step in range(steps + 1):
        view = render(asset, picture.level_camera(current, size))
        lens_error = float(np.log(current.focal / focal_guess) / focal_sigma)
        fit, light = judge(current, view, level, colored, lens_error)
        if best is None or fit.cost < best.cost:
            best, damping = fit, max(damping / 3, 1e-3)
            system = _system(best.pose, view, level, light, lens_error, focal_sigma)
        else:
            damping *= 6
            if damping > 100:
                break
        if step == steps or system is None:
            break
        gradient, hessian = system
        moved = -np.linalg.solve(hessian + damping * np.diag(np.diag(hessian) + 1e-9), gradient)
        current = _moved(best.pose, moved)
        if np.abs(moved * (1, 1, 1, 1, 1, 0.3, 1)).max() < 5e-4:
            break
    assert best is not None
    return best


def _moved(pose: Pose, step: np.ndarray) -> Pose:
    """Turn about the asset's middle, shift by parts of the distance, log focal."""
    turn = step[:3] * min(1.0, TURN_STEP / max(float(np.linalg.norm(step[:3])), 1e-9))
    distance = pose.translation[2]
    shift = np.clip(step[3:6], -0.3, 0.3)
    grow = float(np.exp(np.clip(step[6], -0.3, 0.3)))
    # A longer lens steps back: the size in the picture stays.
    moved = pose.translation + distance * shift
    return Pose(_exp(turn) @ pose.rotation, moved * (1, 1, grow), pose.focal * grow)


def _system(
    pose: Pose, view: View, level: Level, light: np.ndarray | None,
    lens_error: float, focal_sigma: float,
) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
    """Gradient [7] and Gauss-Newton Hessian [7, 7] of outline, colour and the lens's prior."""
    if view.mask.sum() < 12:
        return None
    gradient, hessian = np.zeros(7), np.zeros((7, 7))
    focal = pose.focal * level.scale

    def add(points: np.ndarray, direction: np.ndarray, residual: np.ndarray, weight: np.ndarray):
        jacobian = (direction[..., None] * _by_pose(points, pose, focal)).sum(1)
        weighted = jacobian * weight[:, None]
        gradient[:] += weighted.T @ residual
        hessian[:] += weighted.T @ jacobian

    rim = view.mask & ~ndimage.binary_erosion(view.mask, border_value=1)
    rim &= level.known
    points = (view.points[rim] @ pose.rotation.T + pose.translation).astype(np.float64)
    rows, columns = np.nonzero(rim)
    reach = level.size / 24
    if len(points):
        residual = level.distance[rows, columns].astype(np.float64) + 0.5
        weight = 1 / (1 + (residual / reach) ** 2) ** 2
        add(points, level.slope[rows, columns], residual, weight * OUTLINE_WEIGHT / len(points))
    border, outward = level.outline
    if len(points) and len(border):
        _, index = ndimage.distance_transform_edt(~rim, return_indices=True)
        at = np.clip(border.astype(int), 0, level.size - 1)
        near = index[:, at[:, 1], at[:, 0]]
        order = np.full(rim.shape, -1)
        order[rows, columns] = np.arange(len(rows))
        which = order[near[0], near[1]]
        across = np.stack([near[1], near[0]], axis=1) + 0.5 - border
        residual = (across * outward).sum(1) + 0.5
        distance = np.linalg.norm(across, axis=1)
        weight = 1 / (1 + (distance / reach) ** 2) ** 2
        add(points[which], outward, residual, weight * OUTLINE_WEIGHT / len(border))
    if light is not None and level.inner.reshape(-1)[view.hits.pixel].any():
        pixel = view.hits.pixel
        on = level.inner.reshape(-1)[pixel]
        pixel = pixel[on]
        points = view.points.reshape(-1, 3)[pixel] @ pose.rotation.T + pose.translation
        slope = level.color_slope.reshape(-1, 2, 3)[pixel].astype(np.float64)
        residual = level.color.reshape(-1, 3)[pixel] - light[on]
        each = COLOR_WEIGHT / COLOR_SIGMA**2 / len(pixel)
        robust = each / (1 + (residual**2).sum(1) / OFF_COLOR**2)
        for k in range(3):
            add(points, slope[..., k], residual[:, k], robust)
    gradient[6] += LENS_WEIGHT * lens_error / focal_sigma
    hessian[6, 6] += LENS_WEIGHT / focal_sigma**2
    return gradient, hessian


def _by_pose(points: np.ndarray, pose: Pose, focal: float) -> np.ndarray:
    """float64 [N, 2, 7]: how pixels of camera-space points move with the steps of `_moved`."""
    x, y, z = points.T
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0] = by_point[:, 1, 1] = focal / z
    by_point[:, 0, 2] = -focal * x / z**2
    by_point[:, 1, 2] = -focal * y / z**2
    out = np.empty((len(points), 2, 7))
    arm = points - pose.translation
    # d (w x arm) = (w_y a_z - w_z a_y, w_z a_x - w_x a_z, w_x a_y - w_y a_x)
    out[:, :, 0] = by_point[:, :, 2] * arm[:, 1:2] - by_point[:, :, 1] * arm[:, 2:3]
    out[:, :, 1] = by_point[:, :, 0] * arm[:, 2:3] - by_point[:, :, 2] * arm[:, 0:1]
    out[:, :, 2] = by_point[:, :, 1] * arm[:, 0:1] - by_point[:, :, 0] * arm[:, 1:2]
    out[:, :, 3:6] = by_point * pose.translation[2]
    seen = np.stack([x, y], axis=1) * (focal / z)[:, None]
    out[:, :, 6] = seen + by_point[:, :, 2] * pose.translation[2]
    return out
