"""The last pixel between a camera out of a point map and the picture itself.

A map places the asset as exactly as it is sampled; its noise leaves the camera off by a pixel or
so, and the picture may not follow the map to the pixel either. What both show, edges and patterns,
tells the rest: Lucas and Kanade's registration (1981) over the camera's pose, on pictures without
their light (local mean 0, local deviation 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from .pnp import Pose, moved, projection

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. 709."""
BLURS = (3.0, 1.5)
"""Pixels by which both sides are blurred: first to come near, then about as a VAE blurs."""
WINDOW = 8.0
"""Pixels of the Gaussian in which mean and deviation are taken."""
FAINT = 0.02
"""Local deviation of a picture that counts as flat."""
STEPS = 8
MIN_PIXELS, MAX_POINTS = 200, 40_000
MAX_MOVE = 0.01
"""Of the picture's longer side: the picture is no more than this off its map."""
MIN_LIKENESS = 0.2
"""Correlation below which picture and asset show no common pattern."""


def register(
    camera: Camera,
    asset: Asset,
    image: np.ndarray,
    trust: np.ndarray,
    progress: Callable[[], None] = lambda: None,
) -> Camera:
    """The camera moved to where the asset's pattern meets the picture's.

    Args:
        camera: nearly right, of the picture's size.
        asset: what it sees.
        image: float [H, W, 3] in 0..1, sRGB.
        trust: float32 [H, W] in 0..1, where the picture shows the asset.
        progress: called before each piece of work; may raise.

    Returns:
        The given camera when there is no common pattern, or it would move too far.
    """
    progress()
    view = render(asset, camera, supersampling=2)
    weight = trust * view.mask
    rows, columns = np.nonzero(weight > 0.5)
    if len(rows) < MIN_PIXELS:
        return camera
    if len(rows) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(rows), MAX_POINTS, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    points = view.points[rows, columns].astype(np.float64)
    start = _pose(camera)
    pose, likeness = start, 0.0
    for blur in BLURS:
        progress()
        wanted = _pattern(view.color, weight, blur)[rows, columns]
        seen = _pattern(image, weight, blur)
        before = _likeness(seen, camera, pose, points, wanted)
        found = _descend(seen, camera, pose, points, wanted, weight[rows, columns])
        likeness = _likeness(seen, camera, found, points, wanted)
        if likeness < before:
            break
        pose = found
    if likeness < MIN_LIKENESS:
        return camera
    move = np.linalg.norm(projection(pose, points)[0] - projection(start, points)[0], axis=1)
    if np.quantile(move, 0.95) > MAX_MOVE * max(camera.width, camera.height):
        return camera
    return _camera(pose, camera)


def _pose(camera: Camera) -> Pose:
    """The camera with x right, y down, z forward."""
    rotation = (camera.pose[:3, :3] * (1, -1, -1)).T
    return Pose(rotation, -rotation @ camera.eye, float(camera.focal))


def _camera(pose: Pose, like: Camera) -> Camera:
    matrix = np.eye(4)
    matrix[:3, :3] = pose.rotation.T * (1, -1, -1)
    matrix[:3, 3] = -pose.rotation.T @ pose.translation
    return replace(like, pose=matrix)


def _pattern(picture: np.ndarray, weight: np.ndarray, blur: float) -> np.ndarray:
    """The lightness [H, W] with local mean 0 and local deviation 1, out of trusted pixels."""
    from scipy import ndimage

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values * weight, WINDOW) / total

    total = np.maximum(ndimage.gaussian_filter(weight, WINDOW), 1e-4)
    light = ndimage.gaussian_filter(picture.astype(np.float32) @ LUMA, blur)
    light = light - mean(light)
    return light / np.sqrt(mean(light**2) + FAINT**2)


def _at(picture: np.ndarray, camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """A picture [H, W] at pixels [P, 2] from the principal point."""
    from scipy import ndimage

    x, y = camera.principal_point
    at = np.stack([pixels[:, 1] + y - 0.5, pixels[:, 0] + x - 0.5])
    return ndimage.map_coordinates(picture, at, order=1, mode="nearest")


def _likeness(
    seen: np.ndarray, camera: Camera, pose: Pose, points: np.ndarray, wanted: np.ndarray
) -> float:
    """Correlation of the picture's pattern, where the pose sees the points, with the wanted."""
    values = _at(seen, camera, projection(pose, points)[0])
    return float(values @ wanted / max(np.linalg.norm(values) * np.linalg.norm(wanted), 1e-9))


def _descend(
    seen: np.ndarray,
    camera: Camera,
    pose: Pose,
    points: np.ndarray,
    wanted: np.ndarray,
    weight: np.ndarray,
) -> Pose:
    """Gauss and Newton's steps on the difference of the patterns; the lens stays."""
    down, right = np.gradient(seen)
    for _ in range(STEPS):
        pixels, jacobian = projection(pose, points)
        error = _at(seen, camera, pixels) - wanted
        slope = np.stack([_at(right, camera, pixels), _at(down, camera, pixels)], axis=1)
        rows = np.einsum("pa,pak->pk", slope, jacobian[..., :6])
        trusted = weight / (1 + error**2)  # patterns that differ say little
        hessian = (rows * trusted[:, None]).T @ rows
        damping = (1e-6 * np.trace(hessian) + 1e-9) * np.eye(6)
        step = -np.linalg.solve(hessian + damping, rows.T @ (trusted * error))
        pose = moved(pose, step)
        if np.abs(step).max() < 1e-7:
            break
    return pose
