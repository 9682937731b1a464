"""glTF scenes to parts: node transforms, primitives, base colour materials."""

import logging

import numpy as np

from .gltf_file import GltfFile
from .gltf_preflight import preflight
from .limits import LimitError
from .material import CLAMP, MIRROR, OPAQUE, REPEAT, UNCOLOURED, Material, Texture
from .model import MAX_FACES, Part
from .pictures import GLTF_FORMATS, Pictures

logger = logging.getLogger(__name__)

_WRAP = {33071: CLAMP, 33648: MIRROR, 10497: REPEAT}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
MAX_DEPTH = 256
"""Deepest node hierarchy."""


def load_gltf(file: GltfFile) -> tuple[list[Part], list[str]]:
    """The parts of the default scene in world space, and warnings.

    Raises:
        ValueError: malformed, out of range, or needing what is not supported.
    """
    return _Reader(file).read()


class _Reader:
    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self.warnings = preflight(file)
        self.parts: list[Part] = []
        self.pictures = Pictures(GLTF_FORMATS)
        self.textures: dict[int, np.ndarray | None] = {}
        self.primitives: dict[tuple[int, int], Part | None] = {}
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
        visited = 0
        while stack:
            index, parent, depth = stack.pop()
            visited += 1
            if depth > MAX_DEPTH or visited > 1_000_000:
                raise ValueError("its node hierarchy is endless (a node is its own ancestor)")
            node = self.file.item("nodes", index)
            world = parent @ _local(node)
            if "mesh" in node:
                self._add_mesh(node["mesh"], world)
            stack += [(child, world, depth + 1) for child in reversed(node.get("children", []))]
        return self.parts, list(dict.fromkeys(self.warnings + self.pictures.warnings))

    def _add_mesh(self, index: int, world: np.ndarray) -> None:
        for number, primitive in enumerate(self.file.item("meshes", index).get("primitives", [])):
            key = (index, number)
            if key not in self.primitives:
                self.primitives[key] = self._primitive(primitive, f"meshes[{index}]")
            part = self.primitives[key]
            if part is None:
                continue
            self.faces += len(part.faces)
            if self.faces > MAX_FACES:
                raise ValueError(
                    f"the mesh has more than {MAX_FACES:,} faces, which is the limit; decimate it"
                )
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
            else:
                data = self.file.resource(entry.get("uri"))
            if data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n" or data[:4] == b"sB":
                raise ValueError(
                    f"{name} is a KTX2 (Basis Universal) image, which is not decoded; export with "
                    "PNG, JPEG or WebP textures"
                )
            return self.pictures.decode(data, name)
        except LimitError:
            raise
        except ValueError as error:
            self.warnings.append(f"{error}: its material's plain colour is drawn")
            return None


def _local(node: dict) -> np.ndarray:
    """Transform [4, 4] of a node to its parent."""
    if "matrix" in node:
        if len(node["matrix"]) != 16:
            raise ValueError(f"a node has a matrix with {len(node['matrix'])} numbers, not 16")
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    out = np.eye(4)
    norm = (x * x + y * y + z * z + w * w) ** 0.5 or 1.0
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    out[:3, :3] = rotation * np.asarray(node.get("scale", (1, 1, 1)), np.float64)
    out[:3, 3] = node.get("translation", (0, 0, 0))
    return out


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    if mode == _TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == _FAN:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
    strip = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


def _transformed(uv: np.ndarray, transform: dict) -> np.ndarray:
    """KHR_texture_transform: scale, then rotate, then offset."""
    if not transform:
        return uv
    uv = uv * np.asarray(transform.get("scale", (1, 1)), np.float64)
    angle = float(transform.get("rotation", 0))
    c, s = np.cos(angle), np.sin(angle)
    turned = np.stack([c * uv[:, 0] + s * uv[:, 1], c * uv[:, 1] - s * uv[:, 0]], axis=1)
    return turned + np.asarray(transform.get("offset", (0, 0)), np.float64)


def _rgba(colors: np.ndarray) -> np.ndarray:
    """COLOR_0 as float32 [V, 4]; unnormalised integers are taken as normalised."""
    if colors.dtype.kind in "iu":
        colors = colors.astype(np.float32) / np.iinfo(colors.dtype).max
    out = np.ones((len(colors), 4), np.float32)
    out[:, : min(colors.shape[1], 4)] = colors[:, :4]
    return out
