"""3MF packages to parts: components, the production extension, colours and textures.

Written from the 3MF Core Specification 1.3, the Materials and Properties Extension 1.2 and the
Production Extension 1.1. Read with the standard library's expat, so that no package is needed.
"""

import io
import posixpath
import zipfile
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np

from .limits import LimitError
from .material import CLAMP, MIRROR, NO_MATERIAL, REPEAT, Material, Texture
from .model import MAX_FACES, Part

_WRAP = {"wrap": REPEAT, "mirror": MIRROR, "clamp": CLAMP}
MAX_OBJECTS = 100_000
"""Objects placed, components of components counted each time."""


@dataclass
class _Object:
    part: str
    default: tuple[str, int] | None = None
    vertices: array = field(default_factory=lambda: array("d"))
    triangles: array = field(default_factory=lambda: array("q"))
    properties: list[tuple[str, int, int, int] | None] = field(default_factory=list)
    """For each triangle its property group and three indices; None: the object's."""
    components: list[tuple[str, str, np.ndarray]] = field(default_factory=list)


@dataclass
class _Group:
    """Colours [N, 4] of a base material or colour group; or coordinates [N, 2] in a texture."""

    values: list[tuple[float, ...]] = field(default_factory=list)
    texture: str = ""


class _Reader:
    """Reads the XML parts of a package."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.objects: dict[tuple[str, str], _Object] = {}
        self.groups: dict[tuple[str, str], _Group] = {}
        self.textures: dict[tuple[str, str], dict[str, str]] = {}
        self.items: list[tuple[str, str, np.ndarray]] = []
        self._read: set[str] = set()

    def read(self, part: str) -> None:
        """Read a model part once."""
        if part in self._read:
            return
        self._read.add(part)
        try:
            data = self.archive.read(part.lstrip("/"))
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise ValueError(
                f"its part {part} cannot be read ({error}); export it again"
            ) from error
        except Exception as error:  # zlib's own
            raise ValueError(f"its part {part} is damaged ({error}); export it again") from error
        parser = expat.ParserCreate(namespace_separator=" ")
        state: dict = {"object": None, "group": None}

        def start(name: str, attributes: dict[str, str]) -> None:
            handle = _HANDLERS.get(name.rpartition(" ")[2])
            if handle:
                plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
                handle(self, part, plain, state)

        def refuse(*_: object) -> None:
            raise ValueError("it declares XML entities, which are refused; export it again")

        parser.StartElementHandler = start
        parser.StartDoctypeDeclHandler = refuse
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise ValueError(f"its part {part} is damaged ({error}); export it again") from error
        except (KeyError, OverflowError) as error:
            raise ValueError(f"its part {part} lacks {error}; export it again") from error

    def object(self, part: str, number: str) -> _Object:
        """An object of a part, which is read when it has not been."""
        self.read(part)
        try:
            return self.objects[part, number]
        except KeyError:
            raise ValueError(
                f"it refers to object {number} of {part}, which is not there"
            ) from None


def _on_object(reader: _Reader, part: str, values: dict, state: dict) -> None:
    default = (values["pid"], int(values.get("pindex", 0))) if "pid" in values else None
    state["object"] = reader.objects[part, values["id"]] = _Object(part, default)


def _on_vertex(reader: _Reader, part: str, values: dict, state: dict) -> None:
    state["object"].vertices.extend((float(values["x"]), float(values["y"]), float(values["z"])))


def _on_triangle(reader: _Reader, part: str, values: dict, state: dict) -> None:
    target = state["object"]
    target.triangles.extend((int(values["v1"]), int(values["v2"]), int(values["v3"])))
    if len(target.triangles) > 3 * MAX_FACES:
        raise LimitError(f"the mesh has more than {MAX_FACES:,} faces, which is the limit")
    found = None
    if "p1" in values:
        group = values.get("pid") or (target.default[0] if target.default else "")
        first = int(values["p1"])
        found = (group, first, int(values.get("p2", first)), int(values.get("p3", first)))
    target.properties.append(found)


def _on_component(reader: _Reader, part: str, values: dict, state: dict) -> None:
    where = values.get("path", part)
    state["object"].components.append((where, values["objectid"], _transform(values)))


def _on_item(reader: _Reader, part: str, values: dict, state: dict) -> None:
    reader.items.append((values.get("path", part), values["objectid"], _transform(values)))


def _on_group(reader: _Reader, part: str, values: dict, state: dict) -> None:
    state["group"] = reader.groups[part, values["id"]] = _Group(texture=values.get("texid", ""))


def _on_color(reader: _Reader, part: str, values: dict, state: dict) -> None:
    text = (values.get("displaycolor") or values.get("color") or "").lstrip("#")
    if state["group"] is not None and len(text) in (6, 8):
        state["group"].values.append(tuple(byte / 255 for byte in bytes.fromhex(text)))


def _on_coordinate(reader: _Reader, part: str, values: dict, state: dict) -> None:
    state["group"].values.append((float(values["u"]), float(values["v"])))


def _on_texture(reader: _Reader, part: str, values: dict, state: dict) -> None:
    reader.textures[part, values["id"]] = values


_HANDLERS = {
    "object": _on_object, "vertex": _on_vertex, "triangle": _on_triangle,
    "component": _on_component, "item": _on_item, "basematerials": _on_group,
    "colorgroup": _on_group, "texture2dgroup": _on_group, "base": _on_color, "color": _on_color,
    "tex2coord": _on_coordinate, "texture2d": _on_texture,
}  # fmt: skip


def load_3mf(
    data: bytes, decode: Callable[[bytes, str], np.ndarray]
) -> tuple[list[Part], list[str]]:
    """The parts of a 3MF package as it is built, and warnings.

    Args:
        data: the file, whose size unpacked has been checked.
        decode: decodes a texture to uint8 [H, W, 4].

    Raises:
        ValueError: malformed, or damaged.
    """
    warnings: list[str] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        reader = _Reader(archive)
        root = _root(archive)
        reader.read(root)
        parts: list[Part] = []
        looks: dict[tuple[str, str], Texture | None] = {}
        stack = list(reversed(reader.items)) or [(root, n, np.eye(4)) for _, n in reader.objects]
        depths = [0] * len(stack)
        placed = faces = 0
        while stack:
            (where, number, world), depth = stack.pop(), depths.pop()
            placed += 1
            if depth > 64 or placed > MAX_OBJECTS:
                raise LimitError("its components are endless (an object is part of itself)")
            found = reader.object(where, number)
            faces += len(found.triangles) // 3
            if faces > MAX_FACES:
                raise LimitError(f"the mesh has more than {MAX_FACES:,} faces, which is the limit")
            if found.triangles:
                parts += _parts(reader, found, world, looks, decode, warnings)
            for path, child, transform in reversed(found.components):
                stack.append((path, child, world @ transform))
                depths.append(depth + 1)
    return parts, list(dict.fromkeys(warnings))


def _root(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    models = [name for name in names if name.lower().endswith(".model")]
    if not models:
        raise ValueError("it has no 3D model inside; export it again")
    return "/" + min(models, key=lambda name: (name.lower() != "3d/3dmodel.model", len(name)))


def _transform(values: dict) -> np.ndarray:
    """The matrix [4, 4] of a 3MF transform, which is written for row vectors."""
    out = np.eye(4)
    if values.get("transform"):
        numbers = [float(word) for word in values["transform"].split()]
        if len(numbers) != 12:
            raise ValueError(f"it has a transform of {len(numbers)} numbers, not 12")
        out[:3] = np.array(numbers).reshape(4, 3).T
    return out


def _parts(
    reader: _Reader, found: _Object, world: np.ndarray, looks: dict, decode, warnings: list[str]
) -> list[Part]:
    vertices = np.array(found.vertices, np.float64).reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]
    faces = np.array(found.triangles, np.int64).reshape(-1, 3)
    if not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(
            f"a face refers to vertex {faces.max()}, but there are {len(vertices)} vertices; the "
            "mesh is damaged, export it again"
        )
    if np.linalg.det(world[:3, :3]) < 0:
        faces = faces[:, ::-1]
    default: tuple[str, int, int, int] = ("", 0, 0, 0)
    if found.default:
        name, index = found.default
        default = (name, index, index, index)
    each = [own or default for own in found.properties]
    by_group: dict[str, list[int]] = {}
    for i, entry in enumerate(each):
        by_group.setdefault(entry[0], []).append(i)
    out = []
    for name, rows in by_group.items():
        here = faces[rows]
        group = reader.groups.get((found.part, name))
        if group is None or not group.values:
            if name:
                warnings.append("a kind of 3MF property is not drawn; its faces are grey")
            out.append(Part(vertices, here.astype(np.int32)))
            continue
        corner = np.array([each[i][1:] for i in rows])
        if np.linalg.det(world[:3, :3]) < 0:
            corner = corner[:, ::-1]
        corner = np.clip(corner, 0, len(group.values) - 1)
        corners = vertices[here.reshape(-1)]
        unwelded = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        if group.texture:
            uv = np.array(group.values, np.float32)[corner.reshape(-1)]
            uv[:, 1] = 1 - uv[:, 1]  # 3MF counts v from the image's last row
            texture = _texture(reader, found.part, group.texture, looks, decode, warnings)
            material = Material((1.0,) * 4, texture) if texture else NO_MATERIAL
            out.append(Part(corners, unwelded, material, uv))
        else:
            rows4 = [(*value, 1.0)[:4] for value in group.values]
            colors = np.array(rows4, np.float32)[corner.reshape(-1)]
            out.append(Part(corners, unwelded, NO_MATERIAL, None, colors, srgb_colors=True))
    return out


def _texture(
    reader: _Reader, part: str, number: str, looks: dict, decode, warnings: list[str]
) -> Texture | None:
    if (part, number) not in looks:
        looks[part, number] = None
        entry = reader.textures.get((part, number), {})
        path = entry.get("path", "")
        name = posixpath.normpath(posixpath.join(posixpath.dirname(part), path)).lstrip("/")
        wrap = tuple(
            _WRAP.get(entry.get(key, "wrap"), CLAMP) for key in ("tilestyleu", "tilestylev")
        )
        try:
            pixels = decode(reader.archive.read(name), f"the texture {posixpath.basename(name)}")
            looks[part, number] = Texture(pixels, (wrap[0], wrap[1]))
        except LimitError:
            raise
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            warnings.append(f"the texture {path or number} cannot be read ({error}); drawn grey")
    return looks[part, number]
