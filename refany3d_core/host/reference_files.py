"""Encoded references as files below models/refany3d, so that an asset is prepared once."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import TypeGuard
from uuid import uuid4

import folder_paths
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..files import read_trouble, write_trouble, written_whole
from ..reference import Reference
from .model_files import FOLDER, REFERENCES

_FORMAT = "refany3d-reference-1"
_SUFFIX = ".safetensors"
_KEYS = ("view_latents", "point_map_latents", "empty_latent")
_OPTIONAL = "object_tokens"
"""Not in files of earlier versions."""


def reference_names() -> list[str]:
    """Names of the saved references, without folder and suffix."""
    return sorted(
        PurePath(name).stem
        for name in folder_paths.get_filename_list(FOLDER)
        if PurePath(name).parent.name == REFERENCES and name.endswith(_SUFFIX)
    )


def find_reference(name: str) -> Path:
    """Path of a saved reference.

    Raises:
        ValueError: there is none of this name.
    """
    path = None
    if _is_plain(name):
        path = folder_paths.get_full_path(FOLDER, os.path.join(REFERENCES, name + _SUFFIX))
    if path is None:
        raise ValueError(
            f"Load Reference: there is no {name!r} in models/{FOLDER}/{REFERENCES}; save it with "
            "Save Reference, or put the file there, and refresh the page"
        )
    return Path(path)


def save_reference(reference: Reference, name: str) -> bool:
    """Write a reference below models/refany3d; one of the same name is replaced.

    Returns:
        Whether the file was written; False when it held the very same already.

    Raises:
        ValueError: the name is no plain file name, or the file cannot be written.
    """
    if not _is_plain(name):
        raise ValueError(
            f"Save Reference: name is {name!r}; use letters, digits, blanks, dots, - and _ only, "
            "without a folder"
        )
    tensors = {key: getattr(reference, key).detach().cpu().contiguous().clone() for key in _KEYS}
    if reference.object_tokens is not None:
        tensors[_OPTIONAL] = reference.object_tokens.cpu().to(torch.uint8)
    path = _path(name)
    # One entry: the library writes several in an order that changes from run to run.
    content = save(tensors, {"format": _FORMAT})
    try:
        replaced = not (path.is_file() and path.read_bytes() == content)
        if replaced:
            with written_whole(path) as file:
                file.write(content)
    except OSError as error:
        raise ValueError(
            f"Save Reference: '{name}' cannot be written; {write_trouble(error, path)}"
        ) from error
    _saved.saved(path, replaced)
    return replaced


def file_state(name: str | None) -> str:
    """A text that changes when the file of this name does."""
    return str(_stamp(_path(name))) if _is_plain(name) else ""


def saved_state(name: str) -> str:
    """The same text again and again while the file of this name is as Save Reference left it.

    The host keeps a node's result as long as this does not change: a file that was removed, or
    replaced by another program or another asset, is then written again instead of reported as
    saved.
    """
    return _saved.state(_path(name)) if _is_plain(name) else uuid4().hex


class _SavedFiles:
    """What this process wrote: for each path its stamp (time and size), a token, and whether the
    file is ours."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int] | None, str, bool]] = {}

    def state(self, path: Path) -> str:
        """The token of the file as it is now: the known one, or a new one if it changed.

        It is made before a missing file is written, so that the run that writes it and the next
        one, which finds it, have the same.
        """
        stamp = _stamp(path)
        if path not in self._known or self._known[path][0] != stamp:
            self._known[path] = (stamp, uuid4().hex, False)
        return self._known[path][1]

    def saved(self, path: Path, replaced: bool) -> None:
        """The file is as a run wanted it, and was replaced for that or not.

        What the host keeps of an earlier run of ours belongs to the content before, so that a
        replaced file gets a new token.
        """
        _, token, ours = self._known.get(path, (None, "", False))
        fresh = not token or (replaced and ours)
        self._known[path] = (_stamp(path), uuid4().hex if fresh else token, True)


_saved = _SavedFiles()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _path(name: str) -> Path:
    return Path(folder_paths.get_folder_paths(FOLDER)[0], REFERENCES, name + _SUFFIX)


def load_reference(name: str) -> Reference:
    """Read a reference.

    Raises:
        ValueError: there is none of this name, or the file is damaged or something else.
    """
    path = find_reference(name)
    where = f"Load Reference: '{name}'"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        if trouble := read_trouble(path):
            raise ValueError(f"{where} cannot be read; {trouble}") from error
        raise ValueError(
            f"{where} cannot be read ({error}); the file is damaged: save the reference again"
        ) from error
    objects = tensors.pop(_OPTIONAL, None)
    if metadata.get("format") != _FORMAT or sorted(tensors) != sorted(_KEYS):
        raise ValueError(
            f"{where} is no reference of this version; save it with Save Reference (LoRAs belong "
            "to Load RefAny3D LoRAs)"
        )
    shape = tensors["view_latents"].shape
    shapes = [tuple(tensors[key].shape) for key in _KEYS]
    if shapes != [tuple(shape), tuple(shape), (1, *shape[1:])] or len(shape) != 4:
        raise ValueError(f"{where} has shapes that do not belong together: {shapes}; save it again")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{where} has NaN or infinite values; encode and save the asset again")
    if objects is not None and objects.shape != (shape[0], shape[2] // 2, shape[3] // 2):
        raise ValueError(f"{where} has {_OPTIONAL} of {tuple(objects.shape)}; save it again")
    return Reference(**tensors, object_tokens=None if objects is None else objects > 0)


def _is_plain(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and bool(re.fullmatch(r"[\w\-][\w\-. ]*", name))
