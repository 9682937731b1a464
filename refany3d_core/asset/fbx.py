"""FBX files to parts by ufbx, at rest or at a moment of an animation. Needs the package ufbx.

ufbx's Python package is young and can crash, so it runs in a process of its own (`fbx_worker.py`),
which hands over plain arrays.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np

from .limits import LimitError
from .material import CLAMP, NO_MATERIAL, REPEAT, Material, Texture
from .model import MAX_FACES, Moment, Part
from .resolver import FolderResolver
from .worker import run_worker

WORKER = Path(__file__).with_name("fbx_worker.py")
SECONDS = 300
"""Longest reading of a file."""
MAX_ARRAY_BYTES = 2 << 30
"""All arrays of a binary file together, unpacked."""
_BINARY = b"Kaydara FBX Binary  \x00"
_ITEM_BYTES = {b"f": 4, b"d": 8, b"l": 8, b"i": 4, b"b": 1}
_PLAIN_BYTES = {b"C": 1, b"B": 1, b"Y": 2, b"I": 4, b"F": 4, b"D": 8, b"L": 8}


def load_fbx(
    data: bytes, files: FolderResolver, moment: Moment | None
) -> tuple[list[Part], list[str]]:
    """The visible meshes of an FBX file in world space, Y up, and warnings.

    Args:
        data: the file.
        files: where the textures lie that are not inside of it.
        moment: which moment of which animation, None for the pose in which the file stands.

    Raises:
        ValueError: damaged, or its arrays unpack to more than MAX_ARRAY_BYTES.
    """
    check_arrays(data)
    asked = {
        "faces": MAX_FACES,
        "animation": moment.animation.strip() if moment else None,
        "time": moment.time if moment else 0.0,
    }
    output, reason = run_worker(WORKER, json.dumps(asked).encode() + b"\n" + data, SECONDS)
    if output is None:
        raise ValueError(f"it is not a readable FBX file ({reason}); export it again")
    with np.load(io.BytesIO(output), allow_pickle=False) as arrays:
        scene = json.loads(bytes(arrays["scene"]))
        if "faces" in scene:
            raise LimitError(f"the mesh has {scene['faces']:,} faces, the limit is {MAX_FACES:,}")
        if moment is not None:
            moment.choose(scene["animations"])  # raises where there is no such one
        looks = [_texture(entry, arrays, files) for entry in scene["textures"]]
        parts = [_part(number, entry, arrays, looks) for number, entry in enumerate(scene["parts"])]
    warnings = []
    if moment is None and scene["moves"]:
        warnings.append("animations are not played: the mesh is drawn in its rest pose")
    return parts, warnings


def _texture(entry: dict, arrays, files: FolderResolver) -> Texture | None:
    """A texture from inside of the file, else from beside it."""
    if entry["content"] is not None:
        content = bytes(arrays[entry["content"]])
        pixels = files.inner_texture(content, entry["name"])
    else:
        pixels = files.texture(entry["name"]) if entry["name"] else None
    if pixels is None:
        return None
    wrap_u, wrap_v = (CLAMP if clamped else REPEAT for clamped in entry["clamped"])
    return Texture(pixels, (wrap_u, wrap_v))


def _part(number: int, entry: dict, arrays, looks: list[Texture | None]) -> Part:
    def get(name: str) -> np.ndarray | None:
        key = f"{number}.{name}"
        return arrays[key] if key in arrays else None

    uv, colors = get("uv"), get("colors")
    material = NO_MATERIAL
    if entry["color"] is not None:
        texture = looks[entry["texture"]] if entry["texture"] is not None else None
        red, green, blue = entry["color"]
        if texture is not None and uv is not None:  # in place of the colour, as FBX has it
            material = Material((1.0,) * 4, texture, name=entry["name"])
        elif entry["texture"] is not None and min(red, green, blue) >= 1:
            material = Material(placeholder=True, name=entry["name"])
        else:
            material = Material((red, green, blue, 1.0), name=entry["name"])
    vertices, faces = arrays[f"{number}.vertices"], arrays[f"{number}.faces"]
    return Part(vertices, faces, material, uv, colors, srgb_colors=True)


def check_arrays(data: bytes) -> None:
    """Raise LimitError when the arrays of a binary FBX file, which are deflated, say that they
    unpack to more than MAX_ARRAY_BYTES. Damage is left to the reader."""
    if not data.startswith(_BINARY) or len(data) < 27:
        return
    wide = struct.unpack_from("<I", data, 23)[0] >= 7500
    head, size = ("<QQQB", 25) if wide else ("<IIIB", 13)
    total, offset = 0, 27
    while offset + size <= len(data):
        end, count, length, name = struct.unpack_from(head, data, offset)
        offset += size + name
        if not end:  # the end of a list of children
            continue
        stop = offset + length
        for _ in range(count):
            kind = data[offset : offset + 1]
            offset += 1
            if kind in _ITEM_BYTES and offset + 12 <= len(data):
                items, _, packed = struct.unpack_from("<III", data, offset)
                total += items * _ITEM_BYTES[kind]
                offset += 12 + packed
            elif kind in (b"S", b"R") and offset + 4 <= len(data):
                offset += 4 + struct.unpack_from("<I", data, offset)[0]
            elif kind in _PLAIN_BYTES:
                offset += _PLAIN_BYTES[kind]
            else:
                return
            if total > MAX_ARRAY_BYTES:
                raise LimitError(
                    f"its arrays unpack to more than {MAX_ARRAY_BYTES >> 30} GiB, the limit"
                )
        offset = stop
