"""glTF 2.0 containers: GLB and JSON, buffers, accessors, images. Every index is checked.

Written from the Khronos glTF 2.0 specification. trimesh is not used for glTF because it silently
ignores normalised accessors, texture transforms, samplers, TEXCOORD_1 and missing codecs.
"""

import base64
import binascii
import json
import struct
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .limits import LimitError, beside, check_file_size

_Read = TypeVar("_Read")

_DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_JSON, _BIN = 0x4E4F534A, 0x004E4942
MAX_ELEMENTS = 200_000_000
"""Largest accessor."""
MAX_UNPACKED = 1 << 30
"""Bytes of all buffer views that meshoptimizer packed, unpacked."""
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
"""Extensions of packed buffer views."""
MAX_UNBACKED = 20_000_000
"""Elements of sparse accessors that no bytes of the file stand for, all together."""


class GltfFile:
    """A parsed glTF file with access to its binary data.

    Attributes:
        tree: the JSON document.
    """

    def __init__(self, data: bytes, folder: Path | None) -> None:
        """Parse a .glb or .gltf file's bytes.

        Args:
            data: the whole file.
            folder: where the buffers and images that it names may lie; None for a stream, which
                has no files beside it.

        Raises:
            ValueError: not glTF 2.0, truncated or malformed.
        """
        self._folder = folder
        self._binary: bytes | None = None
        self._buffers: dict[int, bytes] = {}
        self._lists: dict[str, list[dict]] = {}
        self._unbacked = 0
        self._unpacked: dict[Any, bytes] = {}
        self._unpacked_bytes = 0
        text = self._split_glb(data) if data[:4] == b"glTF" else data
        try:
            self.tree = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its glTF description is not valid JSON ({error})") from error
        if not isinstance(self.tree, dict) or not isinstance(self.tree.get("asset"), dict):
            raise ValueError("it is not a glTF file (no asset block)")
        version = str(self.tree["asset"].get("version", ""))
        if not version.startswith("2"):
            raise ValueError(f"it is glTF version {version or '?'}; export it as glTF 2.0")

    def _split_glb(self, data: bytes) -> bytes:
        if len(data) < 20:
            raise ValueError("the GLB is truncated (no header); copy or export it again")
        version, total = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise ValueError(f"it is GLB version {version}; export it as glTF 2.0")
        if total > len(data):
            raise ValueError(
                f"the GLB is truncated ({len(data):,} of {total:,} bytes); copy or export it again"
            )
        text, offset = b"", 12
        while offset + 8 <= total:
            length, kind = struct.unpack_from("<II", data, offset)
            chunk = data[offset + 8 : offset + 8 + length]
            if len(chunk) < length:
                raise ValueError("the GLB is truncated inside a chunk; copy or export it again")
            if kind == _JSON and not text:
                text = chunk
            elif kind == _BIN and self._binary is None:
                self._binary = chunk
            offset += 8 + length
        return text

    def items(self, name: str) -> list[dict]:
        """A top-level array of objects, [] when absent."""
        if name not in self._lists:
            value = self.tree.get(name, [])
            if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
                raise ValueError(f"its list of {name} is malformed")
            self._lists[name] = value
        return self._lists[name]

    def item(self, name: str, index: object) -> dict:
        """One entry of a top-level array. Raises ValueError when it does not exist."""
        entries = self.items(name)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(entries):
            raise ValueError(f"it refers to {name}[{index}], but has {len(entries)} {name}")
        return entries[index]

    def resource(self, uri: object) -> bytes:
        """Content of a data URI or of a file beside the glTF."""
        if not isinstance(uri, str):
            raise ValueError("it has a URI that is no text")
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            try:
                if head.endswith(";base64"):
                    return base64.b64decode(body)
                return urllib.parse.unquote_to_bytes(body)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"it has a broken data URI ({error})") from error
        if self._folder is None:
            raise ValueError(
                f"it needs the file {uri[:80]!r} beside it, which a stream does not have; use GLB, "
                "or load the glTF from disk"
            )
        path = beside(self._folder, uri)
        check_file_size(path)
        return path.read_bytes()

    def buffer(self, index: Any) -> bytes:
        """Bytes of a buffer."""
        entry = self.item("buffers", index)
        if index not in self._buffers:
            if "uri" in entry:
                self._buffers[index] = self.resource(entry["uri"])
            elif index == 0 and self._binary is not None:
                self._buffers[index] = self._binary
            else:
                raise ValueError(f"its buffers[{index}] has no data")
        return self._buffers[index]

    def buffer_view(self, index: object) -> bytes:
        """Bytes of a buffer view."""
        view = self.item("bufferViews", index)
        for name in MESHOPT:
            if name in (view.get("extensions") or {}):
                if index not in self._unpacked:
                    self._unpacked[index] = self._meshopt(view["extensions"][name])
                return self._unpacked[index]
        data = self.buffer(view.get("buffer"))
        start, length = _count(view, "byteOffset", 0), _count(view, "byteLength")
        if start + length > len(data):
            raise ValueError(
                f"its bufferViews[{index}] ends at byte {start + length:,} of a buffer with "
                f"{len(data):,}"
            )
        return data[start : start + length]

    def _meshopt(self, packed: dict) -> bytes:
        """A buffer view packed by meshoptimizer, by the optional package meshopt."""
        import meshopt

        data = self.buffer(packed.get("buffer"))
        start, length = _count(packed, "byteOffset", 0), _count(packed, "byteLength")
        count, stride = _count(packed, "count"), _count(packed, "byteStride")
        self._unpacked_bytes += count * stride
        if self._unpacked_bytes > MAX_UNPACKED:
            raise LimitError(
                f"its packed geometry unpacks to more than {MAX_UNPACKED >> 30} GiB, which is the "
                "limit"
            )
        if start + length > len(data):
            raise ValueError("its packed geometry runs past the end of its buffer")
        try:
            unpacked = meshopt.decode_gltf_buffer(
                data[start : start + length],
                count,
                stride,
                packed.get("mode"),
                packed.get("filter"),
            )
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"its packed geometry is damaged ({error})") from error
        return np.ascontiguousarray(unpacked).tobytes()

    def accessor(self, index: object) -> np.ndarray:
        """An accessor's elements [count, width]; normalised integers as float32 in 0..1 or -1..1,
        other types as stored. Sparse accessors are filled in."""
        entry = self.item("accessors", index)
        where = f"accessors[{index}]"
        dtype, width = dtype_of(entry), _WIDTHS.get(entry.get("type", ""))
        count = _count(entry, "count")
        if width is None:
            raise ValueError(f"its {where} has an unknown element type")
        if count > MAX_ELEMENTS:
            raise LimitError(f"its {where} has {count:,} elements, the limit is {MAX_ELEMENTS:,}")
        if "bufferView" in entry:
            out = self._strided(entry, dtype, width, count, where)
        elif "sparse" in entry:
            self._unbacked += count
            if self._unbacked > MAX_UNBACKED:
                raise LimitError(
                    f"its sparse accessors have {self._unbacked:,} elements without data, the "
                    f"limit is {MAX_UNBACKED:,}"
                )
            out = np.zeros((count, width), dtype)
        else:
            raise ValueError(f"its {where} has no data")
        if "sparse" in entry:
            out = self._filled(out.copy(), entry["sparse"], dtype, where)
        return normalized(out) if entry.get("normalized") else out

    def _strided(self, entry: dict, dtype: str, width: int, count: int, where: str) -> np.ndarray:
        data = self.buffer_view(entry["bufferView"])
        view = self.item("bufferViews", entry["bufferView"])
        size = np.dtype(dtype).itemsize
        offset = _count(entry, "byteOffset", 0)
        stride = _count(view, "byteStride", 0) or size * width
        if count and (
            stride < size * width or offset + stride * (count - 1) + size * width > len(data)
        ):
            raise ValueError(f"its {where} runs past the end of its data; the file is damaged")
        return np.ndarray((count, width), dtype, data, offset, (stride, size))

    def _filled(self, out: np.ndarray, sparse: dict, dtype: str, where: str) -> np.ndarray:
        count = _count(sparse, "count")
        at, values = sparse.get("indices", {}), sparse.get("values", {})
        index_type = _DTYPES.get(at.get("componentType"))
        if index_type is None:
            raise ValueError(f"its {where} has malformed sparse indices")
        index = self._strided(at, index_type, 1, count, where)[:, 0].astype(np.int64)
        if count and index.max() >= len(out):
            raise ValueError(f"its {where} has a sparse index out of range")
        out[index] = self._strided(values, dtype, out.shape[1], count, where)
        return out


def dtype_of(accessor: dict) -> str:
    """numpy's type of an accessor's components. Raises ValueError for an unknown one."""
    dtype = _DTYPES.get(accessor.get("componentType", -1))
    if dtype is None:
        raise ValueError("it has an accessor with an unknown component type")
    return dtype


def normalized(values: np.ndarray) -> np.ndarray:
    """Integers as float32 in 0..1 or -1..1 (specification, section 3.11); floats as they are."""
    if values.dtype.kind not in "iu":
        return values
    return np.maximum(values.astype(np.float32) / np.iinfo(values.dtype).max, np.float32(-1))


def _count(entry: dict, key: str, default: int | None = None) -> int:
    value = entry.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"it has a malformed {key} ({value!r})")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def guarded(read: Callable[..., _Read], *args: object) -> _Read:
    """Call a reader; what malformed JSON can raise becomes a ValueError with a sentence."""
    try:
        return read(*args)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error) as error:
        raise ValueError(f"its glTF description is malformed ({error!r})") from error
