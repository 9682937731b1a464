"""Where an asset's surface lies in one texture: its own coordinates, or new ones."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from .material import REPEAT, Material, Texture
from .model import Asset, Part
from .shade import SurfacePoints
from .zbuffer import fragments

AUTO, OWN, NEW = "auto", "own", "new"
OUTSIDE = 1e-3
"""By how much coordinates of a texture that does not repeat may leave 0..1."""
MAX_OVERLAP = 0.02
"""Share of the covered texels that several triangles may share: edges, and small mistakes."""
PROBE = 512
"""Texels a side of the picture that overlaps are looked for in."""
MAX_TILES = 2
"""Textures side by side that one face is drawn in; a face that is longer overlaps itself."""
GUTTER = 4
"""Texels between new charts."""


@dataclass(frozen=True, eq=False)
class Layout:
    """An asset's faces in one texture, face for face and corner for corner as in the asset.

    Attributes:
        asset: the asset.
        vertex: int [N], the asset's vertex that each vertex of the layout is.
        faces: int32 [F, 3] into those.
        uv: float64 [N, 2], v = 0 at the texture's first row; the texture repeats outside 0..1.
        own: whether these are the coordinates of the asset's one part, untouched.
    """

    asset: Asset
    vertex: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    own: bool

    def texels(self, width: int, height: int) -> tuple[np.ndarray, SurfacePoints]:
        """Flat indices of the texels whose centres lie on the surface [P], row 0 first, and where
        on the surface."""
        pixel, face, centre = self._fragments(width, height)
        pixel, first = np.unique(pixel, return_index=True)
        face, centre = face[first], centre[first]
        a, b, c = self._corners(width, height)[face].transpose(1, 0, 2)
        e1, e2, p = b - a, c - a, centre - a
        area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
        safe = np.where(area == 0, 1.0, area)
        v = (p[:, 0] * e2[:, 1] - p[:, 1] * e2[:, 0]) / safe
        w = (e1[:, 0] * p[:, 1] - e1[:, 1] * p[:, 0]) / safe
        weights = np.clip(np.stack([1 - v - w, v, w], axis=1), 0, 1)
        weights = np.where((area == 0)[:, None], 1 / 3, weights)
        weights /= weights.sum(1, keepdims=True)
        return pixel, SurfacePoints(self.asset, face, weights)

    def overlap(self) -> float:
        """Share of the covered texels of a small texture that several faces cover."""
        count = np.bincount(self._fragments(PROBE, PROBE)[0])
        return float((count > 1).sum() / max((count > 0).sum(), 1))

    def _corners(self, width: int, height: int) -> np.ndarray:
        """float64 [F, 3, 2], the faces' corners in texels, each face moved by whole textures so
        that it starts in the first one."""
        corners = self.uv[self.faces]
        corners = corners - np.floor(corners.min(1, keepdims=True))
        return corners * (width, height)

    def _fragments(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flat texels [P], the faces that cover their centres [P], and where those lie [P, 2],
        in texels as `_corners` has them."""
        corners = np.ones((len(self.faces), 3, 3))
        corners[..., :2] = self._corners(width, height)
        reach = np.clip(np.ceil(corners[..., :2].max((0, 1)) / (width, height)), 1, MAX_TILES)
        wide, high = (reach * (width, height)).astype(int)
        texels, faces, centres = [], [], []
        for flat, _, face in fragments(corners, wide, high):
            row, column = np.divmod(flat, wide)
            texels.append(row % height * width + column % width)
            faces.append(face)
            centres.append(np.stack([column, row], axis=1) + 0.5)
        if not texels:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))
        return np.concatenate(texels), np.concatenate(faces), np.concatenate(centres)

    def textured(self, pixels: np.ndarray) -> Asset:
        """The asset as one part with a texture uint8 [H, W, 4] on this layout."""
        vertices = np.concatenate([part.vertices for part in self.asset.parts])[self.vertex]
        name = self.asset.parts[0].material.name
        old = self.asset.parts[0].material.texture
        wrap = old.wrap if self.own and old is not None else (REPEAT, REPEAT)
        material = Material((1.0,) * 4, Texture(pixels, wrap), name=name)
        part = Part(vertices, self.faces, material, self.uv.astype(np.float32))
        return Asset([part], self.asset.warnings)


def lay_out(asset: Asset, choice: str = AUTO, size: int = 2048) -> Layout:
    """Coordinates on which every place of the surface has a texel of its own.

    Args:
        asset: the asset.
        choice: "own": its own coordinates; "new": unwrapped by xatlas; "auto": its own where they
            serve, else new ones.
        size: texels a side that the texture will have; new charts are kept apart for it.

    Raises:
        ValueError: its own coordinates do not serve, and xatlas is not wanted or not installed.
    """
    if choice != NEW:
        trouble = _trouble(asset)
        if not trouble:
            return _own(asset)
        if choice == OWN:
            raise ValueError(f"{trouble}; choose new texture coordinates (uvs: new)")
    else:
        trouble = "new texture coordinates are asked for"
    if find_spec("xatlas") is None:
        raise ValueError(
            f"{trouble}; unwrap the mesh in a 3D program first, or install the package xatlas "
            "(pip install xatlas, in ComfyUI's Python) to have it done here"
        )
    return _unwrapped(asset, size)


def _trouble(asset: Asset) -> str:
    """Why the asset's own coordinates do not serve, or ""."""
    for part in asset.parts:
        if part.uv is None:
            return "the mesh has no texture coordinates (UVs)"
        uv, texture = part.uv[part.faces], part.material.texture
        if not np.isfinite(uv).all():
            return "the mesh has texture coordinates (UVs) that are NaN or infinite"
        repeats = len(asset.parts) == 1 and (texture is None or texture.wrap == (REPEAT, REPEAT))
        if not repeats and (uv.min() < -OUTSIDE or uv.max() > 1 + OUTSIDE):
            return "the mesh's texture coordinates (UVs) leave 0..1"
        if np.ptp(uv, axis=1).max() > 1:
            return "the mesh's texture repeats within a face"
    shared = _own(asset).overlap()
    if shared > MAX_OVERLAP:
        return (
            f"{shared:.0%} of the mesh's texture shows on several places at once (UVs that overlap)"
        )
    return ""


def _own(asset: Asset) -> Layout:
    """The parts' coordinates; of several parts, each in a cell of a grid."""
    count = len(asset.parts)
    side = int(np.ceil(np.sqrt(count)))
    if count == 1:
        own = np.asarray(asset.parts[0].uv, np.float64)
        return Layout(asset, np.arange(len(own)), asset.faces, own, True)
    inset, uv = 2 / PROBE, []
    for i, part in enumerate(asset.parts):
        inside = inset + np.clip(np.asarray(part.uv), 0, 1) * (1 - 2 * inset)
        uv.append((inside + np.array([i % side, i // side])) / side)
    every = np.arange(sum(len(part.vertices) for part in asset.parts))
    return Layout(asset, every, asset.faces, np.concatenate(uv).astype(np.float64), False)


def _unwrapped(asset: Asset, size: int) -> Layout:
    """New coordinates by xatlas, on vertices welded by position."""
    import xatlas

    _, vertex, welded = np.unique(
        asset.vertices.astype(np.float32), axis=0, return_index=True, return_inverse=True
    )
    atlas = xatlas.Atlas()
    faces = welded.reshape(-1)[asset.faces].astype(np.uint32)
    atlas.add_mesh(np.ascontiguousarray(asset.vertices[vertex], np.float32), faces)
    pack = xatlas.PackOptions()
    pack.padding = GUTTER
    a, b, c = (asset.vertices[asset.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    pack.texels_per_unit = 0.7 * size / np.sqrt(area)  # charts fill about half of their square
    pack.bruteForce = False
    atlas.generate(xatlas.ChartOptions(), pack)
    source, new_faces, uv = atlas[0]
    if new_faces.shape != faces.shape or not np.array_equal(source[new_faces], faces):
        raise ValueError(
            "xatlas could not unwrap the mesh as it is (faces without area?); clean it in a 3D "
            "program, or unwrap it there"
        )
    return Layout(
        asset, vertex[source], new_faces.astype(np.int32), np.asarray(uv, np.float64), False
    )
