"""PLY files to parts: ASCII and binary, polygons and strips, colours and textures.

Written from Greg Turk's description of the format and what MeshLab, Blender and scanners write.
"""

from dataclasses import dataclass, field

import numpy as np

from .limits import LimitError
from .material import NO_MATERIAL, Material, Texture
from .model import MAX_FACES, Part
from .polygons import fan, strips

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texcoord_u", "texcoord_v"))
_LOOK = 64
"""Rows that are tried at once with the list lengths of the first; doubled as long as they fit."""


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, type, and the type of the count for lists, else ""."""


def load_ply(data: bytes, texture_of) -> list[Part]:
    """The parts of a PLY file, [] when it has no faces.

    Args:
        data: the file.
        texture_of: gives a texture uint8 [H, W, 4] by its name, or None when it is not to be had.

    Raises:
        ValueError: malformed or truncated.
    """
    elements, textures, order, body = _header(data)
    if order == "ascii":
        body = np.fromstring(body.decode("ascii", "replace"), np.float64, sep=" ").tobytes()
    offset, read = 0, {}
    for element in elements:
        runs, offset = _rows(body, offset, element, order)
        read[element.name] = runs
    vertices = read.get("vertex", [])
    if not vertices or not {"x", "y", "z"} <= set(vertices[0].dtype.names or ()):
        return []
    points = np.concatenate(vertices) if len(vertices) > 1 else vertices[0]
    positions = _columns(points, ("x", "y", "z"), np.float64)
    faces, wedges, face_colors, number = _faces(read.get("face", []))
    if read.get("tristrips"):
        found = [strips(row) for run in read["tristrips"] for row in run[_list_name(run)]]
        faces = np.concatenate([faces, *found])
        face_colors = wedges = number = None
    if len(faces) and not (0 <= faces.min() and faces.max() < len(positions)):
        raise ValueError(
            f"a face refers to vertex {faces.max()}, but there are {len(positions)} vertices; the "
            "mesh is damaged, export it again"
        )
    uv = next(
        (
            _columns(points, names, np.float32)
            for names in _UV_NAMES
            if set(names) <= set(points.dtype.names or ())
        ),
        None,
    )
    colors = _colors(points)
    pictures = [texture_of(name) for name in textures]
    if any(picture is not None for picture in pictures) and (wedges is not None or uv is not None):
        return _textured(positions, faces, colors, uv, wedges, number, pictures)
    flat = colors is None or (colors == colors[:1]).all()
    if face_colors is not None and flat:
        corners = faces.reshape(-1)
        unwelded = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        colors = face_colors.repeat(3, 0)
        return [Part(positions[corners], unwelded, NO_MATERIAL, None, colors, srgb_colors=True)]
    faces = faces.astype(np.int32)
    return [Part(positions, faces, NO_MATERIAL, None, colors, srgb_colors=True)]


def _textured(positions, faces, colors, uv, wedges, number, pictures) -> list[Part]:
    """A part for each texture; coordinates at the corners of faces go before those of vertices."""
    if wedges is not None:
        corners = faces.reshape(-1)
        positions, uv = positions[corners], wedges.reshape(-1, 2)
        colors = None if colors is None else colors[corners]
        faces = np.arange(len(corners)).reshape(-1, 3)
    uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)  # PLY counts v from the image's last row
    parts = []
    for i, picture in enumerate(pictures):
        here = faces if number is None or len(pictures) == 1 else faces[number == i]
        material = NO_MATERIAL
        if picture is not None:
            material = Material((1.0,) * 4, Texture(picture))
        here = here.astype(np.int32)
        parts.append(Part(positions, here, material, uv, colors, srgb_colors=True))
        if number is None:
            break
    return parts


def _header(data: bytes) -> tuple[list[_Element], list[str], str, bytes]:
    """Elements, names of textures, numpy's byte order or "ascii", and what follows."""
    head, mark, rest = data.partition(b"end_header")
    if not data.startswith(b"ply") or not mark:
        raise ValueError("it is not a readable PLY file (no header); copy or export it again")
    body = rest[rest.find(b"\n") + 1 :] if b"\n" in rest[:3] else rest[1:]
    elements: list[_Element] = []
    textures, order = [], ""
    for line in head.decode("utf-8", "replace").splitlines():
        words = line.split()
        if words[:2] == ["comment", "TextureFile"]:
            textures.append(line.partition("TextureFile")[2].strip())
        elif words[:1] == ["format"]:
            order = {"ascii": "ascii", "binary_big_endian": ">"}.get(" ".join(words[1:2]), "<")
        elif words[:1] == ["element"] and len(words) == 3 and words[2].isdecimal():
            elements.append(_Element(words[1], int(words[2])))
        elif words[:1] == ["property"] and elements:
            if words[1] == "list" and len(words) == 5 and {words[2], words[3]} <= set(_TYPES):
                elements[-1].properties.append((words[4], words[3], words[2]))
            elif len(words) == 3 and words[1] in _TYPES:
                elements[-1].properties.append((words[2], words[1], ""))
            else:
                raise ValueError(f"its header has a property that is not understood: {line[:80]!r}")
    return elements, textures, order, body


def _rows(body: bytes, offset: int, element: _Element, order: str) -> tuple[list, int]:
    """The rows of an element as structured arrays, one for each run of equal list lengths, and
    where the next element starts."""
    runs: list[np.ndarray] = []
    row, look = 0, _LOOK
    while row < element.count:
        layout, counts = _layout(body, offset, element, order)
        if not layout.itemsize:
            break
        most = (len(body) - offset) // layout.itemsize
        if most < (element.count - row if not counts else 1):
            raise ValueError(
                f"it is not a readable PLY file: it ends among its {element.count:,} rows of "
                f"{element.name}; copy or export it again"
            )
        wanted = element.count - row if not counts else min(look, element.count - row, most)
        block = np.frombuffer(body, layout, wanted, offset)
        fits = np.ones(wanted, bool)
        for name, count in counts.items():
            fits &= block[name] == count
        kept = wanted if fits.all() else int(fits.argmin())
        look = look * 2 if kept == wanted else _LOOK
        runs.append(block[:kept])
        row += kept
        offset += kept * layout.itemsize
    return runs, offset


def _layout(body: bytes, offset: int, element: _Element, order: str) -> tuple[np.dtype, dict]:
    """The type of the row at an offset, and the lengths of its lists by the count's field."""
    fields: list[tuple] = []
    counts = {}

    def type_of(name: str) -> str:
        return "<f8" if order == "ascii" else order + _TYPES[name]

    for name, kind, count_kind in element.properties:
        if count_kind:
            here = offset + np.dtype(fields).itemsize
            size = np.dtype(type_of(count_kind)).itemsize
            if here + size > len(body):
                raise ValueError(
                    f"it is not a readable PLY file: it ends among its rows of {element.name}; "
                    "copy or export it again"
                )
            count = float(np.frombuffer(body, type_of(count_kind), 1, here)[0])
            if not (0 <= count <= len(body)):
                raise ValueError("it has a list of a negative or endless length; it is damaged")
            counts["count of " + name] = int(count)
            fields.append(("count of " + name, type_of(count_kind)))
            fields.append((name, type_of(kind), (int(count),)))
        else:
            fields.append((name, type_of(kind)))
    try:
        return np.dtype(fields), counts
    except ValueError as error:  # a name twice, or a row of more than 2 GB
        raise ValueError(f"its header cannot be used ({error})") from error


def _list_name(run: np.ndarray) -> str:
    names = run.dtype.names or ()
    return next((name for name in ("vertex_indices", "vertex_index") if name in names), "")


def _faces(runs: list[np.ndarray]) -> tuple:
    """Triangles int64 [F, 3], and for each, where the file has it: coordinates of its corners
    float32 [F, 3, 2], colour float32 [F, 4], number of its texture [F]."""
    faces, wedges, colors, numbers = [np.zeros((0, 3), np.int64)], [], [], []
    total = 0
    for run in runs:
        name = _list_name(run)
        if not name:
            continue
        polygons = run[name].astype(np.int64)
        triangles, owner, corner = fan(polygons)
        total += len(triangles)
        if total > MAX_FACES:
            raise LimitError(f"the mesh has more than {MAX_FACES:,} faces, which is the limit")
        faces.append(triangles)
        names = run.dtype.names or ()
        if "texcoord" in names and run["texcoord"].shape[1] == 2 * polygons.shape[1]:
            uv = run["texcoord"].astype(np.float32).reshape(len(run), -1, 2)
            wedges.append(uv[owner[:, None], corner])
        color = _colors(run)
        if color is not None:
            colors.append(color[owner])
        if "texnumber" in names:
            numbers.append(run["texnumber"].astype(np.int64)[owner])

    def joined(arrays: list) -> np.ndarray | None:
        out = np.concatenate(arrays) if arrays else None
        return out if out is not None and len(out) == total else None

    return np.concatenate(faces), joined(wedges), joined(colors), joined(numbers)


def _columns(rows: np.ndarray, names: tuple[str, ...], dtype: type) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([rows[name].astype(dtype) for name in names], axis=1)


def _colors(rows: np.ndarray) -> np.ndarray | None:
    """RGBA float32 [N, 4] in 0..1 of rows with red, green and blue, or None."""
    have = set(rows.dtype.names or ())
    for prefix in ("", "diffuse_"):
        names = tuple(prefix + name for name in ("red", "green", "blue"))
        if set(names) <= have:
            break
    else:
        return None
    if "alpha" in have:
        names = (*names, "alpha")
    values = _columns(rows, names, np.float32)
    kind = rows.dtype[names[0]]
    most = 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)
    if kind.kind == "f" and len(values) and np.nanmax(values) > 1.5:  # ASCII, or bytes as floats
        most = 255.0
    out = np.ones((len(values), 4), np.float32)
    out[:, : len(names)] = np.clip(values / most, 0, 1)
    return out
