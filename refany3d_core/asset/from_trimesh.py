"""trimesh objects to parts and back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .material import NO_MATERIAL, OPAQUE, UNCOLOURED, Material, Texture
from .model import Asset, Part
from .pictures import TEXTURE_FORMATS

_ATTRIBUTE = "refany3d_source"


Decoded = Callable[[object], np.ndarray | None]
"""From a PIL image to its pixels uint8 [H, W, 4], or None when they are its own."""


def parts_from_trimesh(
    mesh: Any, decoded: Decoded = lambda image: None
) -> tuple[list[Part], list[str]]:
    """The parts of a trimesh Trimesh or Scene in world space, each with its own material, and
    warnings. Point clouds and paths inside a scene are left out.

    Args:
        mesh: the Trimesh or Scene.
        decoded: gives the pixels of images that stand for others, see `FolderResolver`.
    """
    import trimesh

    warnings: list[str] = []
    if isinstance(mesh, trimesh.Trimesh):
        return _parts(mesh, np.eye(4), warnings, decoded), warnings
    parts: list[Part] = []
    for node in mesh.graph.nodes_geometry:
        transform, name = mesh.graph[node]
        geometry = mesh.geometry[name]
        if isinstance(geometry, trimesh.Trimesh):
            parts += _parts(geometry, np.asarray(transform, np.float64), warnings, decoded)
        else:
            warnings.append(f"{type(geometry).__name__} {name!r} has no faces and is not drawn")
    return parts, list(dict.fromkeys(warnings))


def _parts(mesh, transform: np.ndarray, warnings: list[str], decoded: Decoded) -> list[Part]:
    with np.errstate(invalid="ignore", over="ignore"):
        vertices = np.asarray(mesh.vertices, np.float64) @ transform[:3, :3].T + transform[:3, 3]
    faces: np.ndarray = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    if len(faces) and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(
            f"a face refers to vertex {faces.max()}, but there are {len(vertices)} vertices; the "
            "mesh is damaged, export it again"
        )
    faces = faces.astype(np.int32)
    if np.linalg.det(transform[:3, :3]) < 0:
        faces = faces[:, ::-1]
    visual = mesh.visual
    kind = getattr(visual, "kind", None)
    if kind == "texture":
        return _textured(visual, vertices, faces, warnings, decoded)
    if kind == "face":
        colors = np.repeat(np.asarray(visual.face_colors), 3, axis=0)
        corners = faces.reshape(-1)
        if np.linalg.det(transform[:3, :3]) < 0:
            colors = colors.reshape(-1, 3, colors.shape[1])[:, ::-1].reshape(colors.shape)
        faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        return [Part(vertices[corners], faces, NO_MATERIAL, None, _unit(colors))]
    if kind == "vertex":
        colors = _unit(np.asarray(visual.vertex_colors))
        return [Part(vertices, faces, NO_MATERIAL, None, colors)]
    return [Part(vertices, faces)]


def _textured(
    visual, vertices: np.ndarray, faces: np.ndarray, warnings: list[str], decoded: Decoded
) -> list[Part]:
    uv = visual.uv
    if uv is not None:
        uv = np.array(uv, np.float32)[:, :2]
        if len(uv) != len(vertices):
            warnings.append("texture coordinates do not match the vertices and are left out")
            uv = None
        else:
            uv[:, 1] = 1.0 - uv[:, 1]  # trimesh counts v from the image's last row
    several = getattr(visual.material, "materials", None)
    owner = getattr(visual, "face_materials", None)
    if several and owner is not None:
        owner = np.asarray(owner)
        return [
            Part(vertices, faces[owner == i], _material(one, warnings, decoded), uv)
            for i, one in enumerate(several)
        ]
    material = _material(visual.material, warnings, decoded)
    if material.texture is not None and uv is None:
        warnings.append("a textured material has no texture coordinates; its colour is drawn")
    return [Part(vertices, faces, material, uv)]


def _material(material, warnings: list[str], decoded: Decoded) -> Material:
    image = getattr(material, "baseColorTexture", None)
    factor = getattr(material, "baseColorFactor", None)
    if image is None:
        image = getattr(material, "image", None)
    if factor is None:
        factor = getattr(material, "diffuse", None)
    texture = None
    if image is not None:
        try:
            texture = Texture(_pixels(image, decoded))
        except (OSError, ValueError, SyntaxError) as error:
            warnings.append(f"a texture is damaged ({error}); its material's colour is drawn")
    color = UNCOLOURED
    if factor is not None and np.size(factor) in (3, 4):
        color = tuple(_unit(np.asarray(factor).reshape(1, -1))[0].astype(float))
    elif hasattr(material, "baseColorFactor"):
        color = (1.0, 1.0, 1.0, 1.0)
    cutoff = getattr(material, "alphaCutoff", None)
    return Material(
        base_color=color,
        texture=texture,
        alpha_mode=getattr(material, "alphaMode", None) or OPAQUE,
        alpha_cutoff=0.5 if cutoff is None else float(cutoff),
        double_sided=bool(getattr(material, "doubleSided", True) is not False),
        name=str(getattr(material, "name", "") or ""),
    )


def _pixels(image, decoded: Decoded) -> np.ndarray:
    pixels = decoded(image)
    if pixels is None:
        if image.format not in (None, *TEXTURE_FORMATS):
            raise ValueError(f"{image.format} is not decoded")  # EPS runs Ghostscript
        pixels = np.array(image.convert("RGBA"))
    return pixels


def _unit(colors: np.ndarray) -> np.ndarray:
    """Colours as float32 [V, 4] in 0..1."""
    if colors.dtype.kind in "iu":
        colors = colors.astype(np.float32) / np.iinfo(colors.dtype).max
    out = np.ones((len(colors), 4), np.float32)
    out[:, : min(colors.shape[1], 4)] = colors[:, :4]
    return out


def to_trimesh(asset: Asset):
    """The asset as one trimesh.Trimesh, which is what the nodes of the TRIMESH socket take.

    One part keeps its texture. Several parts are joined with vertex colours read from their
    materials, because one Trimesh has one material. The asset itself rides along, and
    `attached_asset` gives it back as long as the mesh is not edited.
    """
    import trimesh

    vertices = np.concatenate([part.vertices for part in asset.parts])
    faces = asset.faces
    if len(asset.parts) == 1:
        visual = _visual(asset.parts[0])
    else:
        colors = np.concatenate([_vertex_colors(part) for part in asset.parts])
        visual = trimesh.visual.ColorVisuals(vertex_colors=(colors * 255).round().astype(np.uint8))
    mesh = trimesh.Trimesh(vertices, faces, visual=visual, process=False)
    setattr(mesh, _ATTRIBUTE, (_state(mesh), asset))
    return mesh


def attached_asset(mesh: object) -> Asset | None:
    """The asset that `to_trimesh` attached, unless the mesh was edited since."""
    state, asset = getattr(mesh, _ATTRIBUTE, (None, None))
    return asset if isinstance(asset, Asset) and state == _state(mesh) else None


def _state(mesh) -> tuple:
    return hash(mesh), id(mesh.visual), mesh.visual.kind


def _visual(part: Part):
    import trimesh
    from PIL import Image

    material = part.material
    if part.uv is not None and material.texture is not None:
        uv = part.uv.astype(np.float64)
        uv[:, 1] = 1.0 - uv[:, 1]
        pbr = trimesh.visual.material.PBRMaterial(
            name=material.name or None,
            baseColorTexture=Image.fromarray(material.texture.pixels),
            baseColorFactor=list(material.base_color),
            alphaMode=material.alpha_mode,
            alphaCutoff=material.alpha_cutoff,
            doubleSided=material.double_sided,
            metallicFactor=0.0,
        )
        return trimesh.visual.TextureVisuals(uv=uv, material=pbr)
    colors = _vertex_colors(part)
    return trimesh.visual.ColorVisuals(vertex_colors=(colors * 255).round().astype(np.uint8))


def _vertex_colors(part: Part) -> np.ndarray:
    """The published rule's colour at the vertices, float [V, 4]."""
    if part.uv is not None and part.material.texture is not None:
        return part.material.texture.sample(part.uv)
    if part.colors is not None:
        return np.clip(np.nan_to_num(part.colors), 0, 1)
    return np.broadcast_to(np.clip(part.material.base_color, 0, 1), (len(part.vertices), 4))
