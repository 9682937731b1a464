"""First hits without any compiled extension: a scan-line z-buffer in numpy.

Triangles are cut into horizontal spans, spans into pixels, and the nearest triangle of each pixel
is kept. All in float64 and vectorised over triangles; memory is bounded by working in chunks.
"""

from collections.abc import Iterator

import numpy as np

from .cameras import NEAR, Camera

CHUNK = 1 << 21
"""Pixel candidates handled at once, about 100 bytes each."""


class ZBufferCaster:
    """A mesh, and the faces that a camera's pixels see."""

    name = "numpy"

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        """`vertices`: float64 [V, 3]; `faces`: int [F, 3]."""
        self._vertices = np.asarray(vertices, np.float64)
        self._faces = faces

    def first_faces(self, camera: Camera, beyond: np.ndarray | None = None) -> np.ndarray:
        """Index of the face that each pixel sees, -1 where none.

        Args:
            camera: the view.
            beyond: float64 [H, W], skip hits up to this depth; infinite where none is wanted.

        Returns:
            int32 [H, W], row 0 at the top.
        """
        size = camera.width * camera.height
        nearest = np.zeros(size)  # 1 / depth, 0 where nothing is seen
        found = np.full(size, -1, np.int32)
        limit = None if beyond is None else 1.0 / beyond.ravel()
        corners, owner = self._in_front(camera)
        for pixel, inverse, face in fragments(corners, camera.width, camera.height):
            if limit is not None:
                keep = inverse < limit[pixel]
                pixel, inverse, face = pixel[keep], inverse[keep], face[keep]
            np.maximum.at(nearest, pixel, inverse)
            won = inverse == nearest[pixel]
            found[pixel[won]] = owner[face[won]]
        return found.reshape(camera.height, camera.width)

    def _in_front(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Corners [T, 3, 3] as (pixel x, pixel y, 1 / depth) of the triangles in front of the near
        plane, cut by it where they cross, and the face each comes from [T]."""
        x, y, back = ((self._vertices - camera.eye) @ camera.pose[:3, :3]).T
        points = np.stack([x, y, -back], axis=1)
        visible = points[:, 2] >= NEAR
        a, b, c = self._faces.T
        count = visible[a].astype(np.int8) + visible[b] + visible[c]
        owner = np.flatnonzero(count == 3)
        triangles = points[self._faces[owner]]
        crossing = np.flatnonzero((count > 0) & (count < 3))
        if len(crossing):
            cut, source = _clip(points[self._faces[crossing]])
            triangles = np.concatenate([triangles, cut])
            owner = np.concatenate([owner, crossing[source]])
        inverse = 1.0 / triangles[..., 2]
        cx, cy = camera.principal_point
        screen = np.empty_like(triangles)
        screen[..., 0] = cx + camera.focal * triangles[..., 0] * inverse
        screen[..., 1] = cy - camera.focal * triangles[..., 1] * inverse
        screen[..., 2] = inverse
        return screen, owner.astype(np.int32)


def _clip(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of camera-space triangles [T, 3, 3] (third coordinate: depth) lies beyond NEAR."""
    inside = triangles[..., 2] >= NEAR
    cut, source = [], []
    for lone_inside in (True, False):
        which = np.flatnonzero(inside.sum(1) == (1 if lone_inside else 2))
        lone = (inside[which] == lone_inside).argmax(1)
        order = (lone[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(triangles[which], order[..., None], 1).transpose(1, 0, 2)
        ab, ac = _at_near(a, b), _at_near(a, c)
        pieces = [(a, ab, ac)] if lone_inside else [(ab, b, c), (ab, c, ac)]
        for piece in pieces:
            cut.append(np.stack(piece, axis=1))
            source.append(which)
    return np.concatenate(cut), np.concatenate(source)


def _at_near(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    t = (NEAR - p[:, 2]) / (q[:, 2] - p[:, 2])
    point = p + t[:, None] * (q - p)
    point[:, 2] = NEAR
    return point


def fragments(
    corners: np.ndarray, width: int, height: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels whose centres triangles cover: chunks of (flat pixel, 1 / depth, triangle).

    Args:
        corners: float64 [T, 3, 3], (pixel x, pixel y, 1 / depth); pixel (0, 0) spans 0..1.
        width, height: of the picture.
    """
    a, b, c = corners[:, 0, :2], corners[:, 1, :2], corners[:, 2, :2]
    first = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5)
    last = np.floor(np.maximum(np.maximum(a, b), c) - 0.5)
    left, right = first[:, 0], last[:, 0]
    top, bottom = np.clip(first[:, 1], 0, height), np.clip(last[:, 1], -1, height - 1)
    live = (top <= bottom) & (left <= right) & (left < width) & (right >= 0)
    triangle = np.flatnonzero(live)
    if not len(triangle):
        return
    top = top[triangle].astype(np.int64)
    rows = bottom[triangle].astype(np.int64) - top + 1
    for part in _chunks(rows):
        span, row = _expand(top[part], rows[part])
        span = triangle[part][span]
        first, last = _span_ends(corners[span], row)
        first = np.clip(np.ceil(first - 0.5), 0, width).astype(np.int64)
        last = np.clip(np.floor(last - 0.5), -1, width - 1).astype(np.int64)
        length = last - first + 1
        some = length > 0
        span, row, first, length = span[some], row[some], first[some], length[some]
        gradient, origin = _depth_plane(corners[span])
        for piece in _chunks(length):
            index, column = _expand(first[piece], length[piece])
            index = index + piece.start
            inverse = (
                origin[index, 2]
                + gradient[index, 0] * (column + 0.5 - origin[index, 0])
                + gradient[index, 1] * (row[index] + 0.5 - origin[index, 1])
            )
            yield row[index] * width + column, inverse, span[index]


def _chunks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of consecutive entries whose sizes add up to about CHUNK."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + CHUNK, side="right")))
        yield slice(start, stop)
        start = stop


def _expand(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers first .. first + count - 1 of every entry, with the entry's index."""
    index = np.repeat(np.arange(len(first)), count)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
    return index, first[index] + offset


def _span_ends(corners: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leftmost and rightmost x of triangles [S, 3, 3] on the line through the rows' centres.

    An edge's end points are put in order by their coordinates, not by their indices, so that two
    triangles that share an edge compute the same crossing and no pixel falls between them.
    """
    level = row + 0.5
    first = np.full(len(row), np.inf)
    last = np.full(len(row), -np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        p, q = corners[:, i], corners[:, j]
        swap = (p[:, 1] > q[:, 1]) | ((p[:, 1] == q[:, 1]) & (p[:, 0] > q[:, 0]))
        px, qx = np.where(swap, q[:, 0], p[:, 0]), np.where(swap, p[:, 0], q[:, 0])
        py, qy = np.where(swap, q[:, 1], p[:, 1]), np.where(swap, p[:, 1], q[:, 1])
        crosses = (py <= level) & (level <= qy)
        height = qy - py
        flat = height == 0
        t = np.where(flat, 0.0, (level - py) / np.where(flat, 1.0, height))
        x = px + t * (qx - px)
        other = np.where(flat, qx, x)
        first = np.where(crosses, np.minimum(first, np.minimum(x, other)), first)
        last = np.where(crosses, np.maximum(last, np.maximum(x, other)), last)
    return first, last


def _depth_plane(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 / depth is linear on the screen: its gradient [S, 2], and a point of the plane [S, 3]."""
    a = corners[:, 0]
    e1, e2 = corners[:, 1] - a, corners[:, 2] - a
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    safe = np.where(area == 0, 1.0, area)
    dx = np.where(area == 0, 0.0, (e1[:, 2] * e2[:, 1] - e2[:, 2] * e1[:, 1]) / safe)
    dy = np.where(area == 0, 0.0, (e2[:, 2] * e1[:, 0] - e1[:, 2] * e2[:, 0]) / safe)
    return np.stack([dx, dy], axis=1), a
