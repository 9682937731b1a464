"""glTF scenes to parts: the node hierarchy, its instances and skins, in the chosen pose."""

import logging

import numpy as np

from .gltf_file import GltfFile
from .gltf_pose import MAX_DEPTH, Pose, transforms
from .gltf_preflight import preflight
from .gltf_primitive import Primitive, PrimitiveReader
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
<<<<<<< HEAD
            with np.errstate(invalid="ignore", over="ignore"):
                vertices = part.vertices @ world[:3, :3].T + world[:3, 3]
                mirrored = np.linalg.det(world[:3, :3]) < 0
            faces = part.faces
            if mirrored:  # a mirror turns the winding round
                faces = faces[:, ::-1]
            self.parts.append(Part(vertices, faces, part.material, part.uv, part.colors))

    def _primitive(self, primitive: dict, where: str) -> Part | None:
        mode = primitive.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            self.warnings.append("points and lines are not drawn, only triangles")
            return None
        attributes = primitive["attributes"]
        draco = (primitive.get("extensions") or {}).get("KHR_draco_mesh_compression")
        if draco:
            read, indices = self._draco(draco, attributes)
        else:

            def read(name: str) -> np.ndarray | None:
                return self.file.accessor(attributes[name]) if name in attributes else None

            indices = None
            if "indices" in primitive:
                indices = self.file.accessor(primitive["indices"])[:, 0]
        vertices = read("POSITION")
        if vertices is None:
            return None
        if vertices.shape[1] != 3:
            raise ValueError(f"{where} has positions with {vertices.shape[1]} components")
        with np.errstate(invalid="ignore"):  # NaN is dealt with by Asset
            vertices = vertices.astype(np.float64)
        if indices is None:
            indices = np.arange(len(vertices))
        faces = _triangles(indices.astype(np.int64), mode)
        if len(faces) and not (0 <= faces.min() and faces.max() < len(vertices)):
            raise ValueError(
                f"{where} has a face with vertex {faces.max()}, but only {len(vertices)} vertices; "
                "the file is damaged, export it again"
            )
        material, channel, transform = self._material(primitive.get("material"))
        uv = read(f"TEXCOORD_{channel}") if material.texture else None
        if uv is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                uv = _transformed(uv.astype(np.float64)[:, :2], transform).astype(np.float32)
        elif material.texture:
            self.warnings.append(
                f"a textured material has no TEXCOORD_{channel}; its plain colour is drawn"
            )
        colors = read("COLOR_0")
        if colors is not None:
            colors = _rgba(colors)
        for name, values in (("TEXCOORD", uv), ("COLOR_0", colors)):
            if values is not None and len(values) != len(vertices):
                raise ValueError(
                    f"{where} has {len(values)} {name} entries for {len(vertices)} vertices"
                )
        if uv is not None and colors is not None:
            self.warnings.append(
                "vertex colours under a texture are drawn only with materials set to gltf"
            )
        return Part(vertices, faces.astype(np.int32), material, uv, colors)

    def _draco(self, extension: dict, attributes: dict):
        import DracoPy

        data = self.file.buffer_view(extension.get("bufferView"))
        try:
            mesh = DracoPy.decode(data)
            decoded = {entry["unique_id"]: entry["data"] for entry in mesh.attributes}
            faces = np.asarray(mesh.faces, np.int64).reshape(-1)
        except Exception as error:  # DracoPy has its own exceptions
            raise ValueError(f"its Draco data is damaged ({error})") from error

        def read(name: str) -> np.ndarray | None:
            if name not in extension["attributes"]:
                return self.file.accessor(attributes[name]) if name in attributes else None
            values = np.asarray(decoded[extension["attributes"][name]])
            values = values.reshape(len(values), -1)
            entry = self.file.item("accessors", attributes[name])
            if entry.get("normalized") and values.dtype.kind in "iu":
                values = values.astype(np.float32) / np.iinfo(values.dtype).max
            return values

        return read, faces

    def _material(self, index: int | None) -> tuple[Material, int, dict]:
        """Material, its TEXCOORD channel and its KHR_texture_transform."""
        if index is None:
            return Material(UNCOLOURED, double_sided=False), 0, {}
        entry = self.file.item("materials", index)
        pbr = entry.get("pbrMetallicRoughness") or {}
        factor, slot = pbr.get("baseColorFactor", (1, 1, 1, 1)), pbr.get("baseColorTexture")
        glossy = (entry.get("extensions") or {}).get("KHR_materials_pbrSpecularGlossiness")
        if glossy and slot is None:
            factor, slot = glossy.get("diffuseFactor", factor), glossy.get("diffuseTexture")
        if slot is None and entry.get("emissiveTexture"):
            self.warnings.append("emission is not drawn, only the base colour")
        texture, channel = None, 0
        transform: dict = {}
        if slot is not None:
            texture = self._texture(slot["index"])
            transform = (slot.get("extensions") or {}).get("KHR_texture_transform") or {}
            channel = int(transform.get("texCoord", slot.get("texCoord", 0)))
            if texture is None and min(factor) >= 1:
                factor = UNCOLOURED  # white would not show on the white background
        color = tuple(float(x) for x in factor)
        if len(color) != 4:
            raise ValueError(f"materials[{index}] has a base colour with {len(color)} components")
        material = Material(
            base_color=color,
            texture=texture,
            alpha_mode=str(entry.get("alphaMode", OPAQUE)),
            alpha_cutoff=float(entry.get("alphaCutoff", 0.5)),
            double_sided=bool(entry.get("doubleSided", False)),
            # 1 is the default that many exporters leave standing; without an environment to
            # mirror it would be black
            metallic=float(pbr.get("metallicFactor", 0.0)),
            roughness=float(pbr.get("roughnessFactor", 1.0)),
            name=str(entry.get("name", "")),
        )
        return material, channel, transform

    def _texture(self, index: int) -> Texture | None:
        entry = self.file.item("textures", index)
        extensions = entry.get("extensions") or {}
        source = entry.get("source")
        for name in ("EXT_texture_webp", "EXT_texture_avif", "KHR_texture_basisu"):
            if name in extensions and (source is None or name == "EXT_texture_webp"):
                source = extensions[name].get("source")
        if source is None:
            self.warnings.append("a texture has no image; its material's plain colour is drawn")
            return None
        if source not in self.textures:
            self.textures[source] = self._image(source)
        pixels = self.textures[source]
        if pixels is None:
            return None
        sampler = self.file.item("samplers", entry["sampler"]) if "sampler" in entry else {}
        wrap_s, wrap_t = (_WRAP.get(sampler.get(key, 10497), REPEAT) for key in ("wrapS", "wrapT"))
        if sampler.get("magFilter") == 9728:
            self.warnings.append("a nearest-neighbour texture is drawn with bilinear filtering")
        return Texture(pixels, (wrap_s, wrap_t))

    def _image(self, index: int) -> np.ndarray | None:
        entry = self.file.item("images", index)
        name = f"the texture {entry.get('name') or index}"
        try:
            if "bufferView" in entry:
                data = self.file.buffer_view(entry["bufferView"])
=======
            if joints is not None and primitive.joints is not None:
                self.parts.append(_mirrored(_skinned(primitive, joints), world))
>>>>>>> 2fb81cf (Meshes: skins, morphs, instances and animations are drawn; bombs are bounded before they are unpacked; colours looked up for all parts at once)
            else:
                self.parts.append(_placed(primitive.part, worlds))

    def _instances(self, extension: dict) -> np.ndarray:
        """Transforms [N, 4, 4] of a node's instances to the node."""
        values = {}
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


def _skinned(primitive: Primitive, joints: np.ndarray) -> Part:
    """Linear blend skinning; the weights are made to add up to 1 (three.js does so too)."""
    part, index, weights = primitive.part, primitive.joints, primitive.weights
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
