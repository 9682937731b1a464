"""The camera from which an asset's own point map comes nearest to a given one."""

from __future__ import annotations

import numpy as np

from ...asset.cameras import Camera
from ...asset.model import Asset
from ...asset.render import render
from ...pointmap.camera import best_camera
from ...pointmap.decode import DecodedMap

SIDE = 96
"""The search compares maps of about this many pixels a side."""
MISS = 0.5
"""Difference of a pixel that only one of the two maps covers, and the largest that counts."""
FIRST_STEPS = (0.3, 0.3, 0.3, 0.15, 0.2, 0.2)
"""Of the simplex: rotation about the asset's middle in radians, log distance, shift right and
up."""
ROUNDS = (1.0, 0.2)
"""Sizes of the simplex, one search after another."""
EVALUATIONS = 120
"""Renders of a round."""


def best_pose(
    point_map: np.ndarray, decoded: DecodedMap, asset: Asset, fov: float | None
) -> Camera:
    """The camera that minimises the map error over both maps' subjects.

    The pose out of reprojection (`best_camera`) is moved by the simplex search of Nelder and Mead
    (1965): a bad map's points lie off the surface, and their reprojection then says little.

    Args:
        point_map: float [H, W, 3] in 0..1.
        decoded: the same map in the asset's normalised frame.
        asset: whose map it should be.
        fov: vertical field of view in degrees, or None to take that of the first pose.

    Raises:
        ValueError: there is no pose to start from.
    """
    from scipy.optimize import minimize

    start = best_camera(decoded, asset, fov)
    step = max(1, min(decoded.mask.shape) // SIDE)
    rows = slice(step // 2, None, step)
    wanted, mask = point_map[rows, rows], decoded.mask[rows, rows]

    def cost(x: np.ndarray) -> float:
        seen = render(asset, _moved(start, x, mask.shape))
        error = np.full(mask.shape, MISS)
        both = mask & seen.mask
        off = np.linalg.norm(wanted[both] - seen.point_map[both], axis=-1)
        error[both] = np.minimum(off, MISS)
        either = mask | seen.mask
        return float(error[either].mean()) if either.any() else MISS

    best = np.zeros(len(FIRST_STEPS))
    for size in ROUNDS:
        simplex = np.repeat(best[None], len(best) + 1, axis=0)
        simplex[1:] += np.diag(FIRST_STEPS) * size
        options = {"initial_simplex": simplex, "maxfev": EVALUATIONS, "xatol": 1e-3, "fatol": 1e-4}
        best = minimize(cost, best, method="Nelder-Mead", options=options).x
    return _moved(start, best, decoded.mask.shape)


def _moved(camera: Camera, x: np.ndarray, size: tuple[int, int]) -> Camera:
    """The camera turned about the origin, moved away and shifted, for a picture of size (H, W)."""
    from scipy.spatial.transform import Rotation

    pose, turn = camera.pose.copy(), Rotation.from_rotvec(x[:3]).as_matrix()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = turn @ (pose[:3, 3] * np.exp(x[3]))
    pose[:3, 3] += pose[:3, 0] * x[4] + pose[:3, 1] * x[5]
    return Camera(pose, camera.fov, size[1], size[0])
