"""Mesh files to assets: glTF by our own reader, the other formats by trimesh."""

import io
import logging
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .collada import without_skins
from .fbx import load_fbx
from .from_trimesh import parts_from_trimesh
from .gltf import load_gltf
from .gltf_file import GltfFile, guarded
from .limits import MAX_TEXT_BYTES, LimitError, check_archive, check_file_size
from .model import Asset, Moment, Part
from .off import load_off
from .ply import load_ply
from .resolver import FolderResolver
from .threemf import load_3mf

logger = logging.getLogger(__name__)

FORMATS = ("glb", "gltf", "obj", "fbx", "ply", "stl", "off", "dae", "3mf")
"""File formats that are read."""


def readable_formats() -> tuple[str, ...]:
    """Those of FORMATS whose packages are installed."""
    return tuple(kind for kind in FORMATS if kind not in _NEEDS or find_spec(_NEEDS[kind]))


_NEEDS = {"dae": "collada", "fbx": "ufbx"}
_PACKAGES = {"collada": "pycollada", "ufbx": "ufbx"}
AUTO, Y_UP, Z_UP = "auto", "y", "z"
_SPLAT_FORMATS = ("splat", "ksplat", "spz")
SPLAT = (
    "it is a gaussian splat, which has no surface; make a mesh of it with ComfyUI's nodes Get "
    "Splat and Extract Mesh from Splat, and connect that"
)


def load_asset(path: str | Path, up_axis: str = AUTO, moment: Moment | None = None) -> Asset:
    """Load a mesh file.

    Args:
        path: a file of one of FORMATS. Files that it names (MTL, textures, buffers) are read only
            from its own folder and below.
        up_axis: which axis of the file points up: "y", "z" (turned to Y up), or "auto" (as the
            file declares, else Y).
        moment: which moment of which animation of the file, None for its pose at rest.

    Raises:
        ValueError: with a sentence that begins with the file's name.
    """
    path = Path(path)
    try:
        check_file_size(path)
        return load_bytes(path.read_bytes(), path.suffix, path.parent, up_axis, moment)
    except ValueError as error:
        raise ValueError(_named(path.name, str(error))) from error
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}") from error


def load_bytes(
    data: bytes,
    file_format: str,
    folder: Path | None = None,
    up_axis: str = AUTO,
    moment: Moment | None = None,
) -> Asset:
    """Load a mesh file's content. `folder`: where the files that it names lie, None for a stream;
    the rest as in `load_asset`.

    Raises:
        ValueError: with a sentence.
    """
    kind = file_format.lower().lstrip(".")
    if data[:4] == b"glTF":
        kind = "glb"
    if kind in _SPLAT_FORMATS or _is_splat_ply(data):
        raise ValueError(SPLAT)
    if kind not in FORMATS:
        raise ValueError(
            f"{kind or 'a file without an ending'} is not a mesh format that is read; convert it "
            f"to GLB (read are {', '.join(FORMATS)})"
        )
    try:
        if kind in ("glb", "gltf"):
            parts, warnings = guarded(_gltf_parts, data, folder, moment)
        else:
            parts, warnings = _guarded_parts(data, kind, folder, moment)
        if up_axis == Z_UP or (up_axis == AUTO and kind == "dae" and b"<up_axis>Z_UP" in data):
            parts = [_z_to_y(part) for part in parts]
        return Asset(parts, warnings)
    except MemoryError as error:
        raise LimitError(
            "it does not fit into memory; decimate it, or scale its textures down"
        ) from error


def _is_splat_ply(data: bytes) -> bool:
    """Whether a PLY's header names what the gaussians of 3D Gaussian Splatting have, and no
    faces."""
    header = data[:8192].partition(b"end_header")[0]
    plain = (b" f_dc_0", b" scale_0", b" rot_0", b" opacity")
    packed = (b" packed_position", b" packed_rotation", b" packed_scale")
    return (
        data[:3] == b"ply"
        and b" face " not in header
        and any(all(name in header for name in names) for names in (plain, packed))
    )


def _named(name: str, sentence: str) -> str:
    return sentence if sentence.startswith((name, "there is no file")) else f"{name}: {sentence}"


def _gltf_parts(
    data: bytes, folder: Path | None, moment: Moment | None
) -> tuple[list[Part], list[str]]:
    return load_gltf(GltfFile(data, folder), moment)


def _parts_of(
    data: bytes, kind: str, folder: Path | None, moment: Moment | None
) -> tuple[list[Part], list[str]]:
    """Formats other than glTF."""
    if len(data) > MAX_TEXT_BYTES:
        raise LimitError(
            f"it has {len(data) / 2**30:.1f} GiB, the limit for {kind.upper()} is "
            f"{MAX_TEXT_BYTES >> 30} GiB; decimate it, or convert it to GLB"
        )
    module = _NEEDS.get(kind)
    if module and find_spec(module) is None:
        raise ValueError(
            f"{kind.upper()} files need the package {_PACKAGES[module]}: run "
            f"`pip install {_PACKAGES[module]}` in ComfyUI's Python, or convert the mesh to GLB"
        )
    if moment is not None and kind != "fbx":
        raise ValueError(f"animations of {kind.upper()} files are not read; convert it to GLB")
    files = FolderResolver(folder, texts=1 if kind == "obj" else 0)
    warnings: list[str] = []
    if kind == "ply":
        parts = load_ply(data, files.texture)
    elif kind == "fbx":
        parts, warnings = load_fbx(data, files, moment)
    elif kind == "off":
        parts = load_off(data)
    elif kind == "3mf":
        check_archive(data, "the 3MF")
        parts, warnings = load_3mf(data, files.decode)
    else:
        parts, warnings = _trimesh_parts(data, kind, files)
    return parts, warnings + files.warnings()


def _trimesh_parts(data: bytes, kind: str, files: FolderResolver) -> tuple[list[Part], list[str]]:
    import trimesh

    warnings = []
    if kind == "obj" and re.search(rb"^\s*(l|p)\s", data, re.MULTILINE):
        warnings.append("points and lines are not drawn, only triangles")
    if kind == "dae":
        data, warnings = without_skins(data)
    try:
        # trimesh's own readers raise whatever their parsers meet
        scene = trimesh.load(
            io.BytesIO(data), file_type=kind, resolver=files, force="scene", process=False
        )
    except Exception as error:
        files.raise_refusals()
        logger.debug("trimesh cannot read this %s", kind, exc_info=True)
        text = str(error) or type(error).__name__
        if isinstance(error, MemoryError):
            text = "it asks for more memory than there is"
        raise ValueError(
            f"it is not a readable {kind.upper()} file ({text[:200]}); copy or export it again"
        ) from error
    files.raise_refusals()
    parts, more = parts_from_trimesh(scene, files.picture_of)
    return parts, warnings + more


def _guarded_parts(
    data: bytes, kind: str, folder: Path | None, moment: Moment | None
) -> tuple[list[Part], list[str]]:
    try:
        return _parts_of(data, kind, folder, moment)
    except (IndexError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"it is a damaged {kind.upper()} file ({error})") from error


def _z_to_y(part: Part) -> Part:
    """Turn Z up to Y up: -90 degrees about X."""
    vertices = part.vertices @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64)
    return replace(part, vertices=vertices)
