"""Whatever arrives on a mesh socket, as an asset."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .from_trimesh import attached_asset, parts_from_trimesh
from .load import SPLAT, load_asset, load_bytes
from .material import NO_MATERIAL, Material, Texture, linear_to_srgb
from .model import Asset, Part


def to_asset(mesh: object) -> Asset:
    """An asset from any of the kinds of mesh that ComfyUI's nodes hand around.

    Args:
        mesh: an Asset; a path; a trimesh Trimesh or Scene (TRIMESH); core's MESH, whose first mesh
            is taken; core's File3D (FILE_3D*), on disk or as a stream; or an object with v, f and
            optionally vt, ft, albedo, vc (MESH of 3D-Pack).

    Raises:
        ValueError: another kind, or a mesh that cannot be rendered.
    """
    if isinstance(mesh, Asset):
        return mesh
    if isinstance(mesh, (str, Path)):
        return load_asset(mesh)
    module = type(mesh).__module__.partition(".")[0]
    if module == "trimesh":
        return _from_trimesh(mesh)
    if hasattr(mesh, "get_source") and hasattr(mesh, "format"):
        return _from_file3d(mesh)
    if _has(mesh, "vertices", "faces"):
        return _from_core(mesh)
    if _has(mesh, "v", "f"):
        return _from_3d_pack(mesh)
    if _has(mesh, "positions", "opacities", "sh"):
        raise ValueError(SPLAT)
    raise ValueError(
        f"a {type(mesh).__name__} is not a mesh that can be rendered; connect TRIMESH, MESH or "
        "FILE_3D, for example from Load Mesh"
    )


def _has(mesh: object, *names: str) -> bool:
    return all(getattr(mesh, name, None) is not None for name in names)


def _from_trimesh(mesh) -> Asset:
    import trimesh

    attached = attached_asset(mesh)
    if attached is not None:
        return attached
    if not isinstance(mesh, (trimesh.Trimesh, trimesh.Scene)):
        raise ValueError(f"a trimesh {type(mesh).__name__} has no faces; connect a surface mesh")
    return Asset(*parts_from_trimesh(mesh))


def _from_file3d(file) -> Asset:
    source = file.get_source()
    if isinstance(source, (str, Path)):
        return load_asset(source)
    return load_bytes(file.get_bytes(), file.format)


def _from_core(mesh) -> Asset:
    """Core's MESH: tensors [B, N, 3], zero-padded; the counts tell the real lengths."""
    vertices, faces = _array(mesh.vertices, np.float64), _array(mesh.faces, np.int64)
    warnings = []
    if vertices.ndim == 3:
        if not len(vertices):
            raise ValueError("the MESH holds no mesh")
        if len(vertices) > 1:
            warnings.append(f"the MESH holds {len(vertices)} meshes; the first is rendered")
        vertices, faces = vertices[0], faces[0]
    count = getattr(mesh, "vertex_counts", None)
    faces_count = getattr(mesh, "face_counts", None)
    if count is not None:
        vertices = vertices[: int(count[0])]
    if faces_count is not None:
        faces = faces[: int(faces_count[0])]
    uv, colors = _first(mesh, "uvs", len(vertices)), _first(mesh, "vertex_colors", len(vertices))
    image = getattr(mesh, "texture", None)
    material = NO_MATERIAL
    if image is not None and uv is not None:
        image = _array(image, np.float64)
        material = Material((1.0,) * 4, _texture(image[0] if image.ndim == 4 else image))
    if uv is not None:
        uv = uv[:, :2].astype(np.float32)
    rgba = _rgba(colors)
    if rgba is not None:  # linear, as Save 3D Model writes them into glTF
        rgba[:, :3] = linear_to_srgb(rgba[:, :3])
    part = replace(_checked(vertices, faces, material, uv, rgba), srgb_colors=True)
    return Asset([part], warnings)


def _first(mesh: object, name: str, count: int) -> np.ndarray | None:
    values = getattr(mesh, name, None)
    if values is None:
        return None
    values = _array(values, np.float64)
    values = values[0] if values.ndim == 3 else values
    return values[:count]


def _from_3d_pack(mesh) -> Asset:
    """3D-Pack's mesh: v [N, 3], f [M, 3], vt [T, 2] with faces ft [M, 3] of their own, albedo
    [H, W, 3], vc [N, 3]."""
    vertices, faces = _array(mesh.v, np.float64), _array(mesh.f, np.int64)
    if _has(mesh, "vt", "ft", "albedo"):
        uv, uv_faces = _array(mesh.vt, np.float32), _array(mesh.ft, np.int64)
        if uv_faces.shape == faces.shape and uv_faces.size and uv_faces.max() < len(uv):
            corners = _checked(vertices, faces).faces.reshape(-1)
            material = Material((1.0,) * 4, _texture(_array(mesh.albedo, np.float64)))
            unwelded = np.arange(len(corners)).reshape(-1, 3)
            return Asset(
                [_checked(vertices[corners], unwelded, material, uv[uv_faces.reshape(-1), :2])]
            )
    colors = _array(mesh.vc, np.float64) if _has(mesh, "vc") else None
    return Asset([_checked(vertices, faces, colors=_rgba(colors))])


def _checked(
    vertices: np.ndarray,
    faces: np.ndarray,
    material: Material | None = None,
    uv: np.ndarray | None = None,
    colors: np.ndarray | None = None,
) -> Part:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            f"the mesh's vertices and faces must be [N, 3] and [M, 3], got {vertices.shape} and "
            f"{faces.shape}"
        )
    if len(faces) and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(
            f"a face refers to vertex {faces.max()}, but the mesh has {len(vertices)} vertices"
        )
    return Part(vertices, faces.astype(np.int32), material or NO_MATERIAL, uv, colors)


def _array(values: Any, dtype: type) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().float().cpu() if values.is_floating_point() else values.cpu()
    return np.asarray(values, dtype)


def _rgba(colors: np.ndarray | None) -> np.ndarray | None:
    if colors is None:
        return None
    out = np.ones((len(colors), 4), np.float32)
    out[:, : colors.shape[1]] = colors / (255.0 if colors.size and colors.max() > 1.5 else 1.0)
    return out


def _texture(image: np.ndarray) -> Texture:
    """A float picture [H, W, 3 or 4] in 0..1 as a texture."""
    pixels = np.full((*image.shape[:2], 4), 255, np.uint8)
    pixels[..., : image.shape[2]] = np.clip(image * 255, 0, 255).round()
    return Texture(pixels)
