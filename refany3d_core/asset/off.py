"""OFF files to parts, whatever the line breaks, with colours of vertices or faces."""

import re

import numpy as np

from .limits import LimitError
from .material import NO_MATERIAL
from .model import MAX_FACES, Part
from .polygons import fan

_HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?OFF\b")


def load_off(data: bytes) -> list[Part]:
    """The parts of an OFF file (Geomview's, ASCII).

    Raises:
        ValueError: malformed or truncated.
    """
    data = re.sub(rb"#[^\n]*", b"", data)
    header = _HEADER.match(data)
    body = data[header.end() :] if header else data
    if body[:20].split()[:1] == [b"BINARY"]:
        raise ValueError("it is a binary OFF file, which is not read; save it as ASCII, or as PLY")
    if header and header[4]:
        raise ValueError("it is an OFF file of four dimensions, which is not read")
    values = np.fromstring(body.decode("ascii", "replace"), np.float64, sep=" ")
    if len(values) < 3 or not (values[:3] >= 0).all():
        raise ValueError("it is not a readable OFF file (no counts); copy or export it again")
    points, polygons = int(values[0]), int(values[1])
    lines = [line for line in body.splitlines() if line.strip()]
    width = 3
    if header and header[0].strip() != b"OFF" and len(lines) > 1:
        first = 1 if len(lines[0].split()) >= 3 else 2
        width = len(lines[first].split()) if len(lines) > first else 3
    if points * width > len(values) - 3 or polygons > MAX_FACES:
        error = LimitError if polygons > MAX_FACES else ValueError
        raise error(
            f"it is not a readable OFF file: it says {points:,} vertices and {polygons:,} faces, "
            f"and has {len(values):,} numbers; copy or export it again"
        )
    table = values[3 : 3 + points * width].reshape(points, width)
    by_line = lines[-polygons:] if len(lines) > points + polygons > points else []
    faces, colors = _faces(values[3 + points * width :], polygons, by_line)
    if len(faces) and not (0 <= faces.min() and faces.max() < points):
        raise ValueError(
            f"a face refers to vertex {faces.max()}, but there are {points} vertices; the mesh is "
            "damaged, export it again"
        )
    if header and header[2] and width >= 6:
        start = 6 if header[3] else 3
        rgba = _rgba(table[:, start : start + 4])
        faces = faces.astype(np.int32)
        return [Part(table[:, :3], faces, NO_MATERIAL, None, rgba, srgb_colors=True)]
    if colors is not None:
        corners = faces.reshape(-1)
        unwelded = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        colors = colors.repeat(3, axis=0)
        return [Part(table[corners, :3], unwelded, NO_MATERIAL, None, colors, srgb_colors=True)]
    return [Part(table[:, :3], faces.astype(np.int32))]


def _faces(
    values: np.ndarray, count: int, lines: list[bytes]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Triangles [F, 3], and their colours [F, 4] where every face has one on its line. `lines`: a
    line for each face, or [] where the file is broken differently."""
    if len(values) == 4 * count and count and (values[::4] == 3).all():
        return values.reshape(-1, 4)[:, 1:].astype(np.int64), None
    found, colors = [np.zeros((0, 3), np.int64)], []
    rows = [np.fromstring(line.decode("ascii", "replace"), sep=" ") for line in lines]
    by_line = bool(rows) and all(len(row) and len(row) >= row[0] + 1 >= 1 for row in rows)
    at = 0
    for i in range(count):
        row = rows[i] if by_line else values[at:]
        if not len(row) or not 0 <= row[0] <= len(row) - 1:
            raise ValueError(
                f"it is not a readable OFF file: it ends among its {count:,} faces; copy or "
                "export it again"
            )
        corners = int(row[0])
        triangles = fan(row[None, 1 : 1 + corners].astype(np.int64))[0]
        found.append(triangles)
        rest = row[1 + corners :]
        if by_line and len(rest) in (3, 4):
            colors.append(np.tile(rest[:3], (len(triangles), 1)))
        at += 1 + corners
    faces = np.concatenate(found)
    each = np.concatenate(colors) if colors else np.zeros((0, 3))
    return faces, _rgba(each) if len(each) == len(faces) and len(each) else None


def _rgba(values: np.ndarray) -> np.ndarray:
    most = 255.0 if len(values) and np.nanmax(values) > 1 else 1.0
    out = np.ones((len(values), 4), np.float32)
    out[:, : values.shape[1]] = np.clip(values / most, 0, 1)
    return out
