"""glTF scenes to parts: the node hierarchy, its instances and skins, in the chosen pose."""

import logging
from typing import Any

import numpy as np

from .gltf_file import GltfFile
from .gltf_pose import MAX_DEPTH, Pose, transforms
from .gltf_preflight import preflight
from .gltf_primitive import PrimitiveReader
from .limits import LimitError
from .model import MAX_FACES, Moment, Part

logger = logging.getLogger(__name__)

_INSTANCING = "EXT_mesh_gpu_instancing"
_CHUNK = 1 << 18
"""Vertices that a skin moves at once, about 200 bytes each."""


def load_gltf(file: GltfFile, moment: Moment | None = None) -> tuple[list[Part], list[str]]:
    """The parts of the default scene in world space, and warnings.

    Args:
        file: the file.
        moment: which moment of which animation, None for the pose in which the file stands.

    Raises:
        ValueError: malformed, out of range, or needing what is not supported.
    """
    return _Scene(file, moment).read()


class _Scene:
    def __init__(self, file: GltfFile, moment: Moment | None) -> None:
        self.file = file
        self.warnings = preflight(file, played=moment is not None)
        self.pose = Pose(file, moment)
        self.primitives = PrimitiveReader(file)
        self.parts: list[Part] = []
        self.faces = 0

    def read(self) -> tuple[list[Part], list[str]]:
        nodes = self.file.items("nodes")
        scenes = self.file.items("scenes")
        if scenes:
            roots = self.file.item("scenes", self.file.tree.get("scene", 0)).get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [i for i in range(len(nodes)) if i not in children]
        stack = [(root, np.eye(4), 0) for root in reversed(roots)]
        visited, most = 0, 4 * len(nodes) + 1000
        while stack:
            index, parent, depth = stack.pop()
            visited += 1
            if depth > MAX_DEPTH or visited > most:
                raise LimitError(
                    "its node hierarchy is endless (a node is its own ancestor, or has very many "
                    "parents)"
                )
            node = self.file.item("nodes", index)
            world = parent @ self.pose.local(index)
            if "mesh" in node:
                self._add_mesh(index, node, world)
            stack += [(child, world, depth + 1) for child in reversed(node.get("children", []))]
        warnings = self.warnings + self.pose.warnings + self.primitives.all_warnings()
        return self.parts, list(dict.fromkeys(warnings))

    def _add_mesh(self, index: int, node: dict, world: np.ndarray) -> None:
        mesh = self.file.item("meshes", node["mesh"])
        weights = self.pose.weights(index, mesh)
        joints = self.pose.joints(node["skin"]) if "skin" in node else None
        worlds = world[None]
        instancing = (node.get("extensions") or {}).get(_INSTANCING)
        if instancing and joints is None:
            worlds = world @ self._instances(instancing)
        for number in range(len(mesh.get("primitives", []))):
            primitive = self.primitives.read(node["mesh"], number, weights)
            if primitive is None or not len(primitive.part.faces):
                continue
            self.faces += len(primitive.part.faces) * len(worlds)
            if self.faces > MAX_FACES:
                raise LimitError(
                    f"the mesh has more than {MAX_FACES:,} faces, which is the limit; decimate it"
                )
            if joints is not None and primitive.influences is not None:
                self.parts.append(
                    _mirrored(_skinned(primitive.part, *primitive.influences, joints), world)
                )
            else:
                self.parts.append(_placed(primitive.part, worlds))

    def _instances(self, extension: dict) -> np.ndarray:
        """Transforms [N, 4, 4] of a node's instances to the node."""
        values: dict[str, Any] = {}
        for name in ("TRANSLATION", "ROTATION", "SCALE"):
            if name in extension["attributes"]:
                rows = self.file.accessor(extension["attributes"][name])
                values[name.lower()] = rows.astype(np.float64)
        if len({len(rows) for rows in values.values()}) > 1:
            raise ValueError("its instances have translations, rotations and scales of many counts")
        return transforms(**values)


def _placed(part: Part, worlds: np.ndarray) -> Part:
    """A part at each of the transforms [N, 4, 4], joined to one."""
    with np.errstate(invalid="ignore", over="ignore"):
        vertices = part.vertices @ worlds[:, :3, :3].transpose(0, 2, 1) + worlds[:, None, :3, 3]
        mirrored = np.linalg.det(worlds[:, :3, :3]) < 0
    count = len(worlds)
    first = np.arange(count, dtype=np.int32) * len(part.vertices)
    faces = part.faces + first[:, None, None]
    faces[mirrored] = faces[mirrored][..., ::-1]  # a mirror turns the winding round
    return Part(
        vertices.reshape(-1, 3),
        faces.reshape(-1, 3),
        part.material,
        _repeated(part.uv, count),
        _repeated(part.colors, count),
    )


def _repeated(values: np.ndarray | None, count: int) -> np.ndarray | None:
    return values if values is None or count == 1 else np.tile(values, (count, 1))


def _skinned(part: Part, index: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> Part:
    """Linear blend skinning; the weights are made to add up to 1 (three.js does so too)."""
    if index.size and index.max() >= len(joints):
        raise ValueError(f"a vertex refers to joint {index.max()}, but its skin has {len(joints)}")
    total = weights.sum(1, keepdims=True)
    bare = total[:, 0] <= 0
    weights = weights / np.where(total > 0, total, 1.0)
    weights[bare, 0] = 1.0
    vertices = np.zeros_like(part.vertices)
    for start in range(0, len(vertices), _CHUNK):
        here = slice(start, start + _CHUNK)
        with np.errstate(invalid="ignore", over="ignore"):
            for k in range(index.shape[1]):
                matrix = joints[index[here, k]]
                moved = np.einsum("vij,vj->vi", matrix[:, :3, :3], part.vertices[here])
                vertices[here] += weights[here, k, None] * (moved + matrix[:, :3, 3])
    return Part(vertices, part.faces, part.material, part.uv, part.colors)


def _mirrored(part: Part, world: np.ndarray) -> Part:
    """Winding after a skin: by the node's transform, though that does not move the vertices
    (specification, section 3.7.4)."""
    if np.linalg.det(world[:3, :3]) >= 0:
        return part
    return Part(part.vertices, part.faces[:, ::-1], part.material, part.uv, part.colors)
