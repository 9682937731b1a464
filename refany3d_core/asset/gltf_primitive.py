"""glTF primitives and materials to parts in the mesh's own space."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .gltf_file import GltfFile, dtype_of, normalized
from .limits import LimitError
from .material import CLAMP, MIRROR, NO_MATERIAL, OPAQUE, REPEAT, UNCOLOURED, Material, Texture
from .model import Part
from .pictures import GLTF_FORMATS, Pictures
from .polygons import fan, strip

_WRAP = {33071: CLAMP, 33648: MIRROR, 10497: REPEAT}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_DRACO = "KHR_draco_mesh_compression"
_Read = Callable[[str], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Primitive:
    """A primitive, before its node places it.

    Attributes:
        part: its triangles; morph targets are applied.
        influences: joints int64 and weights float64, [V, 4 n] each, by which a skin moves the
            vertices; None where there are none.
    """

    part: Part
    influences: tuple[np.ndarray, np.ndarray] | None


class PrimitiveReader:
    """Reads primitives, each of them and each of their textures once."""

    def __init__(self, file: GltfFile) -> None:
        self._file = file
        self._warnings: list[str] = []
        self._pictures = Pictures(GLTF_FORMATS)
        self._textures: dict[int, np.ndarray | None] = {}
        self._materials: dict[int | None, tuple[Material, int, dict]] = {}
        self._primitives: dict[tuple, Primitive | None] = {}

    def read(self, mesh: int, number: int, weights: tuple[float, ...]) -> Primitive | None:
        """A primitive of a mesh with its morph targets at the weights; None for points and
        lines."""
        key = (mesh, number, weights)
        if key not in self._primitives:
            entry = self._file.item("meshes", mesh)["primitives"][number]
            self._primitives[key] = self._primitive(entry, f"meshes[{mesh}]", weights)
        return self._primitives[key]

    def all_warnings(self) -> list[str]:
        """Sentences about what was not drawn as the file has it."""
        return self._warnings + self._pictures.warnings

    def _primitive(self, primitive: dict, where: str, weights: tuple) -> Primitive | None:
        mode = primitive.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            self._warnings.append("points and lines are not drawn, only triangles")
            return None
        stored, indices = self._attributes(primitive)

        def read(name: str) -> np.ndarray | None:
            return self._morphed(stored(name), name, primitive, weights)

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
            self._warnings.append(
                f"a textured material has no TEXCOORD_{channel}; its plain colour is drawn"
            )
        colors = read("COLOR_0")
        if colors is not None:
            colors = _rgba(colors)
        influences = _influences(stored)
        arrays = [("TEXCOORD", uv), ("COLOR_0", colors)]
        if influences:
            arrays += [("JOINTS", influences[0])]
        for name, values in arrays:
            if values is not None and len(values) != len(vertices):
                raise ValueError(
                    f"{where} has {len(values)} {name} entries for {len(vertices)} vertices"
                )
        if uv is not None and colors is not None:
            self._warnings.append(
                "vertex colours under a texture are drawn only with materials set to gltf"
            )
        if len(vertices) > 3 * len(faces):  # many primitives may share one large vertex buffer
            used, faces = np.unique(faces, return_inverse=True)
            faces = faces.reshape(-1, 3)
            vertices = vertices[used]
            uv, colors = (None if values is None else values[used] for values in (uv, colors))
            if influences:
                influences = influences[0][used], influences[1][used]
        part = Part(vertices, faces.astype(np.int32), material, uv, colors)
        return Primitive(part, influences)

    def _attributes(self, primitive: dict) -> tuple[_Read, np.ndarray | None]:
        """A function that reads attributes, and the indices, None where they count up."""
        attributes = primitive["attributes"]

        def read(name: str) -> np.ndarray | None:
            return self._file.accessor(attributes[name]) if name in attributes else None

        draco = (primitive.get("extensions") or {}).get(_DRACO)
        if draco:
            return self._draco(draco, attributes, read)
        indices = None
        if "indices" in primitive:
            indices = self._file.accessor(primitive["indices"])[:, 0]
        return read, indices

    def _draco(self, extension: dict, attributes: dict, plain: _Read) -> tuple[_Read, np.ndarray]:
        import DracoPy

        data = self._file.buffer_view(extension.get("bufferView"))
        try:
            mesh = DracoPy.decode(data)
            decoded = {entry["unique_id"]: entry["data"] for entry in mesh.attributes}
            faces = np.asarray(mesh.faces, np.int64).reshape(-1)
        except MemoryError:
            raise
        except Exception as error:  # DracoPy has its own exceptions
            raise ValueError(f"its Draco data is damaged ({error})") from error

        def read(name: str) -> np.ndarray | None:
            if name not in extension["attributes"]:
                return plain(name)
            values = np.asarray(decoded[extension["attributes"][name]])
            values = values.reshape(len(values), -1)
            entry = self._file.item("accessors", attributes[name])
            if values.dtype.kind in "iu":
                # the decoder may widen the type that the accessor declares
                values = values.astype(dtype_of(entry), copy=False)
            return normalized(values) if entry.get("normalized") else values

        return read, faces

    def _morphed(
        self, values: np.ndarray | None, name: str, primitive: dict, weights: tuple
    ) -> np.ndarray | None:
        if values is None:
            return None
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            if weight and name in target:
                with np.errstate(invalid="ignore", over="ignore"):
                    delta = self._file.accessor(target[name]).astype(np.float64)
                    if len(delta) != len(values):
                        raise ValueError(
                            f"a morph target has {len(delta)} entries for {len(values)} vertices"
                        )
                    width = min(values.shape[1], delta.shape[1])
                    values = values.astype(np.float64)
                    values[:, :width] += weight * delta[:, :width]
        return values

    def _material(self, index: int | None) -> tuple[Material, int, dict]:
        """Material, its TEXCOORD channel and its KHR_texture_transform."""
        if index not in self._materials:
            self._materials[index] = self._read_material(index)
        return self._materials[index]

    def _read_material(self, index: int | None) -> tuple[Material, int, dict]:
        if index is None:
            return NO_MATERIAL, 0, {}
        entry = self._file.item("materials", index)
        pbr = entry.get("pbrMetallicRoughness") or {}
        factor, slot = pbr.get("baseColorFactor", (1, 1, 1, 1)), pbr.get("baseColorTexture")
        glossy = (entry.get("extensions") or {}).get("KHR_materials_pbrSpecularGlossiness")
        if glossy and slot is None:
            factor, slot = glossy.get("diffuseFactor", factor), glossy.get("diffuseTexture")
        if slot is None and entry.get("emissiveTexture"):
            self._warnings.append("emission is not drawn, only the base colour")
        texture, channel = None, 0
        transform: dict = {}
        if slot is not None:
            texture = self._texture(slot["index"])
            transform = (slot.get("extensions") or {}).get("KHR_texture_transform") or {}
            channel = int(transform.get("texCoord", slot.get("texCoord", 0)))
        # without its texture, white would not show on the white background
        lost = slot is not None and texture is None and min(factor) >= 1
        if lost:
            factor = UNCOLOURED
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
            placeholder=lost,
            name=str(entry.get("name", "")),
        )
        return material, channel, transform

    def _texture(self, index: int) -> Texture | None:
        entry = self._file.item("textures", index)
        extensions = entry.get("extensions") or {}
        source = entry.get("source")
        for name in ("EXT_texture_webp", "EXT_texture_avif", "KHR_texture_basisu"):
            if name in extensions and (source is None or name == "EXT_texture_webp"):
                source = extensions[name].get("source")
        if source is None:
            self._warnings.append("a texture has no image; its material's plain colour is drawn")
            return None
        if source not in self._textures:
            self._textures[source] = self._image(source)
        pixels = self._textures[source]
        if pixels is None:
            return None
        sampler = self._file.item("samplers", entry["sampler"]) if "sampler" in entry else {}
        wrap_s, wrap_t = (_WRAP.get(sampler.get(key, 10497), REPEAT) for key in ("wrapS", "wrapT"))
        if sampler.get("magFilter") == 9728:
            self._warnings.append("a nearest-neighbour texture is drawn with bilinear filtering")
        return Texture(pixels, (wrap_s, wrap_t))

    def _image(self, index: int) -> np.ndarray | None:
        entry = self._file.item("images", index)
        name = f"the texture {entry.get('name') or index}"
        try:
            if "bufferView" in entry:
                data = self._file.buffer_view(entry["bufferView"])
            else:
                data = self._file.resource(entry.get("uri"))
            return self._pictures.decode(data, name)
        except LimitError:
            raise
        except ValueError as error:
            self._warnings.append(f"{error}: its material's plain colour is drawn")
            return None


def _influences(read: _Read) -> tuple[np.ndarray, np.ndarray] | None:
    """Joint indices int64 and weights float64 [V, 4 n] of a primitive, or None."""
    joints: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    while (index := read(f"JOINTS_{len(joints)}")) is not None:
        weight = read(f"WEIGHTS_{len(joints)}")
        if weight is None or weight.shape != index.shape:
            raise ValueError(f"a primitive has JOINTS_{len(joints)} without matching weights")
        joints.append(index.astype(np.int64))
        weights.append(np.nan_to_num(weight.astype(np.float64)))
    if not joints:
        return None
    return np.concatenate(joints, axis=1), np.concatenate(weights, axis=1)


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    if mode == _TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    return fan(indices[None])[0] if mode == _FAN else strip(indices)


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
        colors = normalized(colors)
    out = np.ones((len(colors), 4), np.float32)
    out[:, : min(colors.shape[1], 4)] = colors[:, :4]
    return out
