"""Writes glTF files for tests: arrays in, a .glb out."""

import json
import struct
from pathlib import Path

import numpy as np

_COMPONENTS = {"b": 5120, "B": 5121, "h": 5122, "H": 5123, "I": 5125, "f": 5126}
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Gltf:
    """A file in the making. `tree` is the JSON document, to be changed at will."""

    def __init__(self) -> None:
        self.data = b""
        names = ("bufferViews", "accessors", "meshes", "nodes", "materials", "skins", "animations")
        self.tree: dict = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}]}
        self.tree.update({name: [] for name in (*names, "images", "textures")})

    def view(self, data: bytes) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        entry = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.data += data
        return self.add("bufferViews", entry)

    def add(self, name: str, entry: dict) -> int:
        self.tree[name].append(entry)
        return len(self.tree[name]) - 1

    def array(self, values: object, dtype: str = "f", normalized: bool = False) -> int:
        values = np.asarray(values, dtype)
        values = values.reshape(len(values), -1)
        entry = {
            "bufferView": self.view(values.tobytes()),
            "componentType": _COMPONENTS[dtype],
            "count": len(values),
            "type": _KINDS[values.shape[1]],
        }
        if normalized:
            entry["normalized"] = True
        if dtype == "f" and values.shape[1] == 3 and len(values):
            entry.update(min=values.min(0).tolist(), max=values.max(0).tolist())
        if dtype == "f" and values.shape[1] == 1 and len(values):
            entry.update(min=[float(values.min())], max=[float(values.max())])
        return self.add("accessors", entry)

    def material(self, color: tuple = (1, 1, 1, 1), **more: object) -> int:
        pbr = {"baseColorFactor": list(color), "metallicFactor": 0}
        return self.add("materials", {"pbrMetallicRoughness": pbr, **more})

    def mesh(self, vertices: object, faces: object, material: int | None = None, **more) -> int:
        """`more`: further attributes by name, as accessors."""
        attributes = {"POSITION": self.array(vertices), **more}
        primitive = {"attributes": attributes, "indices": self.array(np.ravel(faces), "I")}
        if material is not None:
            primitive["material"] = material
        return self.add("meshes", {"primitives": [primitive]})

    def node(self, root: bool = True, **entry: object) -> int:
        index = self.add("nodes", entry)
        if root:
            self.tree["scenes"][0]["nodes"].append(index)
        return index

    def save(self, path: Path) -> Path:
        tree = {key: value for key, value in self.tree.items() if value != []}
        if self.data:
            tree["buffers"] = [{"byteLength": len(self.data)}]
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        data = self.data + b"\0" * (-len(self.data) % 4)
        total = 12 + 8 + len(text) + 8 + len(data)
        path.write_bytes(
            struct.pack("<4sII", b"glTF", 2, total)
            + struct.pack("<II", len(text), 0x4E4F534A) + text
            + struct.pack("<II", len(data), 0x004E4942) + data
        )  # fmt: skip
        return path


def box(size: tuple = (1, 1, 1), centre: tuple = (0, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """A box's vertices [8, 3] and faces [12, 3], wound outwards."""
    import trimesh

    mesh = trimesh.creation.box(size)
    return np.array(mesh.vertices) + np.asarray(centre), np.array(mesh.faces)
