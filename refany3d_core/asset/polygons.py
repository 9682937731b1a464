"""Polygons and strips to triangles."""

import numpy as np


def fan(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Polygons int [N, k] as triangles from their first corner.

    Returns:
        triangles [N (k - 2), 3]; the polygon of each [N (k - 2)]; and which of its corners they
        are [N (k - 2), 3].
    """
    count, k = polygons.shape
    if k < 3:
        empty = np.zeros((0, 3), np.int64)
        return empty, np.zeros(0, np.int64), empty
    local = np.stack([np.zeros(k - 2, np.int64), np.arange(1, k - 1), np.arange(2, k)], axis=1)
    owner = np.repeat(np.arange(count), k - 2)
    corner = np.tile(local, (count, 1))
    return polygons[owner[:, None], corner], owner, corner


def strip(indices: np.ndarray) -> np.ndarray:
    """A strip's triangles [n - 2, 3], every second turned round."""
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    out = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    out[1::2] = out[1::2, [1, 0, 2]]
    return out


def strips(indices: np.ndarray) -> np.ndarray:
    """Triangles of strips with -1 between them."""
    indices = np.asarray(indices).astype(np.int64)
    pieces = np.split(indices, np.flatnonzero(indices < 0))
    found = [strip(piece[piece >= 0]) for piece in pieces]
    return np.concatenate(found) if found else np.zeros((0, 3), np.int64)
