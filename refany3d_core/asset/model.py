"""An asset as the rest of the pack sees it: parts with a material each, in the published frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .limits import LimitError
from .material import NO_MATERIAL, Material
from .surface import Surface, surface_of

MAX_FACES = 20_000_000
"""More faces than this are refused. A grid of 20 M took 3.6 GB with Embree, 6.4 GB with numpy."""
MAX_AREA = 10_000.0
"""Largest surface, where the longest side of the bounding box is 2: a sphere 800 times over.
Surfaces that lie on one another cost a test each for every ray: 5,000 sheets of area 2 take Embree
1.25 s a view of 512 x 512, the z-buffer 5.9 s."""


@dataclass(frozen=True)
class Moment:
    """A moment of one of a file's animations.

    Attributes:
        animation: its name, or its number counted from 0.
        time: seconds; before the first and after the last key the pose stands still.
    """

    animation: str
    time: float = 0.0

    def choose(self, names: Sequence[str | None]) -> int:
        """The animation's index among the file's. Raises ValueError when it has no such one."""
        if not names:
            raise ValueError("it has no animations; leave animation empty")
        wanted = self.animation.strip()
        if wanted in names:
            return names.index(wanted)
        if wanted.isdecimal() and int(wanted) < len(names):
            return int(wanted)
        shown = [f"{i}: {name}" if name else str(i) for i, name in enumerate(names[:20])]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise ValueError(
            f"it has no animation {wanted!r}; name one of, or its number: {', '.join(shown)}{more}"
        )


@dataclass(frozen=True, eq=False)
class Part:
    """Triangles that share a material.

    Attributes:
        vertices: float64 [V, 3] in the file's units, node transforms applied, Y up.
        faces: int32 [F, 3].
        material: colour of the surface.
        uv: float32 [V, 2] texture coordinates, v = 0 at the image's first row, or None.
        colors: float32 [V, 4] vertex colours in 0..1, or None.
        srgb_colors: whether they are sRGB; glTF's are linear, though the published renderer draws
            them as they are.
    """

    vertices: np.ndarray
    faces: np.ndarray
    material: Material = NO_MATERIAL
    uv: np.ndarray | None = None
    colors: np.ndarray | None = None
    srgb_colors: bool = False


def _used_vertices(part: Part) -> np.ndarray:
    used = np.zeros(len(part.vertices), bool)
    used[part.faces] = True
    return part.vertices[used]


def _area(part: Part) -> float:
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


class Asset:
    """A mesh in the normalised frame of the published renderer (METHOD fact 38).

    The bounding box of the vertices that faces use is centred, and its longest side spans [-1, 1].

    Attributes:
        parts: the parts as loaded, without faces that touch a NaN or infinite vertex.
        warnings: sentences about what was not honoured.
        bounds: float64 [2, 3], minimum and maximum before normalising.
    """

    def __init__(self, parts: Sequence[Part], warnings: Sequence[str] = ()) -> None:
        """Raises ValueError when there is nothing to render."""
        self.warnings = list(warnings)
        self._point_maps: dict[float, np.ndarray] = {}
        self.parts = [part for part in map(self._checked, parts) if len(part.faces)]
        count = sum(len(part.faces) for part in self.parts)
        if not count:
            raise ValueError(
                "the mesh has no triangles to render (a point cloud, a line drawing or an empty "
                "file); export the asset as a surface mesh"
            )
        if count > MAX_FACES:
            raise LimitError(
                f"the mesh has {count:,} faces, the limit is {MAX_FACES:,}; decimate it first"
            )
        used = [_used_vertices(part) for part in self.parts]
        self.bounds = np.array(
            [
                np.min([v.min(0) for v in used], axis=0),
                np.max([v.max(0) for v in used], axis=0),
            ]
        )
        with np.errstate(over="ignore", divide="ignore"):
            size, factor = self.extent.max(), 2.0 / self.extent.max()
        if not size > 0:
            raise ValueError("the mesh has no size: all of its vertices lie on one point")
        if not (np.isfinite(size) and np.isfinite(factor)):
            raise ValueError(f"the mesh's size of {size:g} is out of range; scale it to about 1")
        area = sum(map(_area, self.parts)) * self.scale**2
        if area > MAX_AREA:
            raise LimitError(
                f"the mesh's surface is {area / 12.6:,.0f} times that of a sphere around it, the "
                f"limit is {MAX_AREA / 12.6:,.0f}: faces lie on one another; remove the doubles"
            )
        flat = [axis for axis, size in zip("XYZ", self.extent, strict=True) if not size > 0]
        if flat:
            self.warnings.append(
                f"the mesh is flat along {' and '.join(flat)}: that axis of the point map is 0.5 "
                "everywhere"
            )

    def _checked(self, part: Part) -> Part:
        finite = np.isfinite(part.vertices).all(1)
        if finite.all():
            return part
        keep = finite[part.faces].all(1)
        if not keep.all():
            self.warnings.append(
                f"{np.count_nonzero(~keep):,} faces with a NaN or infinite vertex are left out"
            )
        vertices = np.where(finite[:, None], part.vertices, 0.0)
        return replace(part, vertices=vertices, faces=part.faces[keep])

    @property
    def extent(self) -> np.ndarray:
        """float64 [3], size of the bounding box."""
        return self.bounds[1] - self.bounds[0]

    @property
    def centre(self) -> np.ndarray:
        """float64 [3], centre of the bounding box."""
        return (self.bounds[0] + self.bounds[1]) / 2

    @property
    def scale(self) -> float:
        """Factor from the file's units to the normalised frame."""
        return 2.0 / float(self.extent.max())

    def describe(self) -> str:
        """One line: parts, faces, vertices and size."""
        vertices = sum(len(part.vertices) for part in self.parts)
        size = " x ".join(f"{side:.4g}" for side in self.extent)
        many = "part" if len(self.parts) == 1 else "parts"
        return (
            f"{len(self.parts)} {many}, {len(self.faces):,} faces, {vertices:,} vertices, "
            f"size {size}"
        )

    @cached_property
    def vertices(self) -> np.ndarray:
        """float64 [V, 3], all parts' vertices in the normalised frame."""
        stacked = np.concatenate([part.vertices for part in self.parts])
        return (stacked - self.centre) * self.scale

    @cached_property
    def faces(self) -> np.ndarray:
        """int32 [F, 3] into `vertices`, part after part."""
        offsets = np.cumsum([0] + [len(part.vertices) for part in self.parts[:-1]])
        return np.concatenate(
            [
                (part.faces + offset).astype(np.int32)
                for part, offset in zip(self.parts, offsets, strict=True)
            ]
        )

    @cached_property
    def face_part(self) -> np.ndarray:
        """int32 [F], the index of each face's part."""
        counts = [len(part.faces) for part in self.parts]
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    @cached_property
    def first_vertex(self) -> np.ndarray:
        """int64 [parts], where each part starts in `vertices`."""
        return np.cumsum([0] + [len(part.vertices) for part in self.parts[:-1]])

    @cached_property
    def surface(self) -> Surface:
        """What colours the faces."""
        return surface_of(self.parts)

    def point_map_values(self, y_rotation: float = 0.0) -> np.ndarray:
        """Point-map colour of every vertex: (v - min) / (max - min) per axis (METHOD fact 38).

        Args:
            y_rotation: degrees about +Y, applied to the values in [-1, 1] and clamped, not to the
                geometry (METHOD fact 39).

        Returns:
            float64 [V, 3] in 0..1, RGB = XYZ; 0.5 along a flat axis.
        """
        half = self.extent / 2 * self.scale
        centred = np.divide(self.vertices, half, out=np.zeros_like(self.vertices), where=half > 0)
        if y_rotation % 360:
            a = np.radians(y_rotation)
            x, z = centred[:, 0].copy(), centred[:, 2].copy()
            centred[:, 0] = np.cos(a) * x + np.sin(a) * z
            centred[:, 2] = np.cos(a) * z - np.sin(a) * x
            centred = np.clip(centred, -1.0, 1.0)
        return centred / 2 + 0.5

    def __getstate__(self) -> dict[str, object]:
        """For another process, which builds its own casters: they are no Python data."""
        return {name: value for name, value in self.__dict__.items() if name != "casters"}

    @cached_property
    def casters(self) -> dict[str, object]:
        """Ray casters built so far, by backend: one acceleration structure for all renders."""
        return {}

    def point_map_cached(self, y_rotation: float) -> np.ndarray:
        """`point_map_values`, kept for the next view with the same rotation."""
        if y_rotation not in self._point_maps:
            self._point_maps.clear()
            self._point_maps[y_rotation] = self.point_map_values(y_rotation)
        return self._point_maps[y_rotation]

    def __deepcopy__(self, memo: dict) -> "Asset":
        return self  # never changed after it is made, and large
