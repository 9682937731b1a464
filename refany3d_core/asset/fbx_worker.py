"""The child process of `fbx`: an FBX file on standard input, plain arrays on standard output.

Run by path, alone: it imports nothing of the pack.
"""

import ctypes
import gc
import io
import json
import os
import sys

import numpy as np

MEMORY_BYTES = 16 << 30
"""Address space of this process, where the system can bound it."""


def main() -> None:
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass  # Windows and macOS
    gc.disable()  # ufbx 0.0.5 crashes when its objects are traversed
    asked = json.loads(sys.stdin.buffer.readline())
    arrays = read(sys.stdin.buffer.read(), asked)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    output.write(packed.getvalue())
    output.flush()
    os._exit(0)  # without freeing the scene, for the same reason


def read(data: bytes, asked: dict) -> dict[str, np.ndarray]:
    """The arrays of every part, and "scene", JSON about them."""
    import ufbx

    scene = ufbx.load_memory(
        data,
        evaluate_skinning=True,
        load_external_files=False,
        clean_skin_weights=True,
        node_depth_limit=256,
        target_axes=ufbx.axes_right_handed_y_up,
    )
    keep = [scene]
    stacks = items(scene.anim_stacks)
    names = [stack.name for stack in stacks]
    moves = any(stack.time_end > stack.time_begin for stack in stacks)
    wanted = asked["animation"]
    if wanted is not None:
        number = int(wanted) if wanted.isdecimal() and wanted not in names else -1
        number = names.index(wanted) if wanted in names else number
        if not 0 <= number < len(stacks):
            return {"scene": text({"animations": names, "textures": [], "parts": [], "moves": 0})}
        stack = stacks[number]
        time = stack.time_begin + asked["time"]
        scene = scene.evaluate(stack.anim, time, evaluate_skinning=True)
        keep.append(scene)
    nodes = [node for node in items(scene.nodes) if node.mesh is not None]
    nodes = [node for node in nodes if node.visible] or nodes
    faces = sum(node.mesh.num_triangles for node in nodes)
    if faces > asked["faces"]:
        return {"scene": text({"faces": faces})}
    reader = Reader()
    for node in nodes:
        reader.add(node)
    about = {"animations": names, "moves": moves, "textures": reader.textures}
    reader.arrays["scene"] = text({**about, "parts": reader.parts})
    return reader.arrays


def items(elements) -> list:
    """The items of one of ufbx's lists."""
    return [held(elements[i]) for i in range(len(elements))]


def held(value):
    """A value of ufbx's, kept for the short life of this process: ufbx 0.0.5 gives the items of its
    lists out without counting the reference, and loses one when numpy has read a list, so that they
    would be freed while they are used."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


def rows(values, width: int, dtype: type = np.float64) -> np.ndarray:
    """A list of vectors as an array [N, width]."""
    return np.array(held(values), dtype).reshape(-1, width)


def text(value: object) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


class Reader:
    """Collects parts, one for each material of each mesh."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.parts: list[dict] = []
        self.textures: list[dict] = []
        self._numbers: dict[int, int] = {}

    def add(self, node) -> None:
        mesh = held(node.mesh)
        position = mesh.skinned_position
        vertices = rows(position.values, 3)
        corner_vertex = integers(position.indices)
        corners, face = triangles(rows(mesh.faces, 2, np.int64))
        if mesh.skinned_is_local:
            columns = np.array(node.geometry_to_world, np.float64)  # [4, 3]
            with np.errstate(invalid="ignore", over="ignore"):
                vertices = vertices @ columns[:3] + columns[3]
                if np.linalg.det(columns[:3]) < 0:
                    corners = corners[:, ::-1]
        materials = items(node.materials) or items(mesh.materials)
        owner = integers(mesh.face_material)
        owner = owner[face] if len(owner) else np.zeros(len(face), np.int64)
        colors = corner_values(mesh.vertex_color, 4)
        for index in np.unique(owner):
            entry = {"color": None, "texture": None, "name": ""}
            uv = None
            if index < len(materials):
                entry, uv = self.material(materials[index], mesh)
            part = {"vertices": vertices, "faces": corner_vertex[corners[owner == index]]}
            if uv is not None or colors is not None:
                flat = corners[owner == index].reshape(-1)
                part["vertices"] = vertices[corner_vertex[flat]]
                part["faces"] = np.arange(len(flat)).reshape(-1, 3)
                if uv is not None:
                    part["uv"] = uv[flat].astype(np.float32)
                if colors is not None:
                    part["colors"] = np.clip(colors[flat], 0, 1).astype(np.float32)
            part["faces"] = part["faces"].astype(np.int32)
            for name, values in part.items():
                self.arrays[f"{len(self.parts)}.{name}"] = values
            self.parts.append(entry)

    def material(self, material, mesh) -> tuple[dict, np.ndarray | None]:
        """What a material is, and the texture coordinates of the mesh's corners [C, 2], v = 0 at
        the image's first row."""
        slot = material.pbr.base_color
        if slot.texture is None and material.fbx.diffuse_color.texture is not None:
            slot = material.fbx.diffuse_color
        color = [float(x) for x in slot.value_vec4[:3]]
        entry = {"color": color, "texture": None, "name": material.name}
        texture = slot.texture
        if texture is None:
            return entry, None
        for first in items(texture.file_textures)[:1]:
            texture = first
        entry["texture"] = self.texture(texture)
        sets = {one.name: one.vertex_uv for one in items(mesh.uv_sets)}
        uv = corner_values(sets.get(texture.uv_set, mesh.vertex_uv), 2)
        if uv is None:
            return entry, None
        if texture.has_uv_transform:
            columns = np.array(texture.uv_to_texture, np.float64)
            uv = uv @ columns[:2, :2] + columns[3, :2]
        uv[:, 1] = 1 - uv[:, 1]
        return entry, uv

    def texture(self, texture) -> int:
        """A texture's number."""
        key = texture.element_id
        if key not in self._numbers:
            self._numbers[key] = len(self.textures)
            content = bytes(texture.content or b"")
            where = f"texture.{key}" if content else None
            if where:
                self.arrays[where] = np.frombuffer(content, np.uint8)
            name = texture.relative_filename or texture.filename or texture.absolute_filename
            clamped = [mode.name == "CLAMP" for mode in (texture.wrap_u, texture.wrap_v)]
            self.textures.append({"name": name or "", "content": where, "clamped": clamped})
        return self._numbers[key]


def integers(values) -> np.ndarray:
    return np.fromiter(held(values), np.int64, len(values))


def corner_values(attribute, width: int) -> np.ndarray | None:
    """An attribute at the corners of the faces, float64 [C, width], or None."""
    if not attribute.exists or not len(attribute.values):
        return None
    return rows(attribute.values, width)[integers(attribute.indices)]


def triangles(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners [T, 3] of the triangles of faces [F, 2] (first corner, count), and each one's
    face."""
    corners, owners = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for count in np.unique(faces[:, 1]):
        if count < 3:
            continue
        here = np.flatnonzero(faces[:, 1] == count)
        one, two = np.arange(1, count - 1), np.arange(2, count)
        fan = np.stack([np.zeros_like(one), one, two], axis=1)
        corners.append((faces[here, 0, None, None] + fan).reshape(-1, 3))
        owners.append(np.repeat(here, count - 2))
    return np.concatenate(corners), np.concatenate(owners)


if __name__ == "__main__":
    main()
