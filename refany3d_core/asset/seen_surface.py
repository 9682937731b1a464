"""What can be seen of an asset from around it, and the place on it that is nearest to a point."""

from collections.abc import Callable

import numpy as np

from .cameras import Camera, orbit_pose
from .model import Asset
from .render import render
from .shade import SurfacePoints

VIEWS = ((0, 90), *((a, p) for p in (35, -35) for a in range(0, 360, 60)), (0, -90))
"""Azimuth and pitch of the cameras that look at the asset, degrees."""
DISTANCE, FOV, PIXELS = 6.0, 33.0, 320
"""Of these cameras."""
CANDIDATES = 4
"""The nearest samples whose triangles are tried."""


class SeenSurface:
    """Samples of the asset's surface as seen from all around, for look-ups by position.

    Args:
        asset: the asset.
        progress: called before each view; may raise.
    """

    def __init__(self, asset: Asset, progress: Callable[[], None] = lambda: None) -> None:
        from scipy.spatial import cKDTree

        faces, weights = [], []
        for azimuth, pitch in VIEWS:
            progress()
            camera = Camera(orbit_pose(azimuth, pitch, DISTANCE), FOV, PIXELS, PIXELS)
            hits = render(asset, camera).hits
            faces.append(hits.face)
            weights.append(hits.weights)
        self.samples = SurfacePoints(asset, np.concatenate(faces), np.concatenate(weights))
        self._tree = cKDTree(self.samples.interpolate(asset.vertices))

    def nearest_sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of the nearest sample [P] to points [P, 3] of the normalised frame, and its
        distance [P]."""
        distance, index = self._tree.query(points)
        return index, distance

    def project(self, points: np.ndarray) -> tuple[SurfacePoints, np.ndarray]:
        """The nearest places on the triangles around points [P, 3] of the normalised frame, and
        how far they are [P]."""
        asset = self.samples.asset
        _, index = self._tree.query(points, CANDIDATES)
        best = np.full(len(points), np.inf)
        face, weights = np.zeros(len(points), np.int32), np.zeros((len(points), 3))
        for k in range(CANDIDATES):
            candidate = self.samples.face[index[:, k]]
            w = _closest_weights(asset.vertices[asset.faces[candidate]], points)
            place = np.einsum("pk,pkc->pc", w, asset.vertices[asset.faces[candidate]])
            distance = np.linalg.norm(place - points, axis=1)
            better = distance < best
            best[better], face[better], weights[better] = (
                distance[better], candidate[better], w[better]
            )  # fmt: skip
        return SurfacePoints(asset, face, weights), best


def _closest_weights(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Barycentric weights [P, 3] of the place in each triangle [P, 3, 3] nearest to its point."""
    a, b, c = triangles.transpose(1, 0, 2)
    inside = _plane_weights(a, b, c, points)
    best = np.where((inside >= 0).all(1, keepdims=True), inside, 0.0)
    distance = np.where((inside >= 0).all(1), 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        p, q = triangles[:, i], triangles[:, j]
        edge = q - p
        length = np.maximum((edge**2).sum(1), 1e-300)
        t = np.clip(((points - p) * edge).sum(1) / length, 0, 1)
        off = np.linalg.norm(p + t[:, None] * edge - points, axis=1)
        better = off < distance
        distance[better] = off[better]
        along = np.zeros_like(best)
        along[:, i], along[:, j] = 1 - t, t
        best[better] = along[better]
    return best


def _plane_weights(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Barycentric weights [P, 3] of the points' feet in the triangles' planes; -1 for triangles
    without area."""
    e1, e2, p = b - a, c - a, points - a
    d11, d12, d22 = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
    p1, p2 = (p * e1).sum(1), (p * e2).sum(1)
    area = d11 * d22 - d12 * d12
    safe = np.where(area > 0, area, 1.0)
    v, w = (d22 * p1 - d12 * p2) / safe, (d11 * p2 - d12 * p1) / safe
    weights = np.stack([1 - v - w, v, w], axis=1)
    return np.where(area[:, None] > 0, weights, -1.0)
