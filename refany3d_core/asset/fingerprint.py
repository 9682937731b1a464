"""A mesh file's content as a short text: equal content, equal text."""

import hashlib
import json
import re
from pathlib import Path

from .limits import beside

_NAMES = {
    ".obj": re.compile(rb"^\s*mtllib\s+(.+?)\s*$", re.MULTILINE),
    ".mtl": re.compile(rb"^\s*(?:map_\w+|bump|disp|norm)\s+(?:-.*\s)?(\S+)\s*$", re.MULTILINE),
    ".dae": re.compile(rb"<init_from>\s*([^<]+?)\s*</init_from>"),
    ".ply": re.compile(rb"^comment TextureFile\s+(.+?)\s*$", re.MULTILINE),
}


def fingerprint(path: str | Path) -> str:
    """SHA-256 over a mesh file and the files beside it that it names, in hexadecimal.

    Raises:
        OSError: the mesh file cannot be read.
    """
    digest = hashlib.sha256()
    for file in with_companions(path):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def with_companions(path: str | Path) -> list[Path]:
    """A mesh file and the files beside it that it names: materials, textures, buffers.

    Raises:
        OSError: the mesh file cannot be read.
    """
    waiting, seen = [Path(path)], []
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.append(file)
            waiting += _named_files(file)
    return seen


def _named_files(file: Path) -> list[Path]:
    suffix = file.suffix.lower()
    if suffix == ".gltf":
        names = _gltf_uris(file.read_bytes())
    elif suffix == ".fbx":
        names = _fbx_textures(file.read_bytes())
    elif suffix in _NAMES:
        found = _NAMES[suffix].findall(file.read_bytes())
        names = [name.decode("utf-8", "replace") for name in found]
    else:
        return []
    out = []
    for name in sorted(set(names)):
        try:
            out.append(beside(file.parent, name))
        except ValueError:
            continue  # loading will tell
    return out


def _fbx_textures(data: bytes) -> list[str]:
    """Texture names of a text or binary FBX file: in the latter a length stands before them."""
    names = re.findall(rb'RelativeFilename:\s*"([^"\n]+)"', data)
    for found in re.finditer(rb"RelativeFilenameS(.{4})", data, re.DOTALL):
        length = int.from_bytes(found[1], "little")
        names.append(data[found.end() : found.end() + min(length, 1024)])
    return [name.decode("utf-8", "replace") for name in names]


def _gltf_uris(data: bytes) -> list[str]:
    try:
        tree = json.loads(data)
        entries = [*tree.get("buffers", []), *tree.get("images", [])]
        uris = [entry.get("uri") for entry in entries]
    except (ValueError, AttributeError, TypeError):
        return []  # loading will refuse it in words
    return [uri for uri in uris if isinstance(uri, str) and not uri.startswith("data:")]
