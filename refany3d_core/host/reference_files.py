"""Encoded references as files below models/refany3d, so that an asset is prepared once."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

import folder_paths
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..reference import Reference
from .model_files import FOLDER

SUBFOLDER = "references"
"""Below models/refany3d, apart from the adapters."""

_FORMAT = "refany3d-reference-1"
_SUFFIX = ".safetensors"
_KEYS = ("view_latents", "point_map_latents", "empty_latent")


def reference_names() -> list[str]:
    """Names of the saved references, without folder and suffix."""
    return sorted(
        PurePath(name).stem
        for name in folder_paths.get_filename_list(FOLDER)
        if PurePath(name).parent.name == SUBFOLDER and name.endswith(_SUFFIX)
    )


def find_reference(name: str) -> Path:
    """Path of a saved reference.

    Raises:
        ValueError: there is none of this name.
    """
    path = None
    if _is_plain(name):
        path = folder_paths.get_full_path(FOLDER, os.path.join(SUBFOLDER, name + _SUFFIX))
    if path is None:
        raise ValueError(
            f"Load Reference: there is no {name!r} in models/{FOLDER}/{SUBFOLDER}; save it with "
            "Save Reference, or put the file there, and refresh the page"
        )
    return Path(path)


def save_reference(reference: Reference, name: str) -> Path:
    """Write a reference below models/refany3d; one of the same name is replaced.

    Raises:
        ValueError: the name is no plain file name.
    """
    if not _is_plain(name):
        raise ValueError(
            f"Save Reference: name is {name!r}; use letters, digits, blanks, dots, - and _ only, "
            "without a folder"
        )
    folder = Path(folder_paths.get_folder_paths(FOLDER)[0], SUBFOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: getattr(reference, key).detach().cpu().contiguous().clone() for key in _KEYS}
    views, _, height, width = tensors["view_latents"].shape
    metadata = {
        "format": _FORMAT,
        "views": str(views),
        "width": str(width * 8),
        "height": str(height * 8),
    }
    path = folder / (name + _SUFFIX)
    part = path.with_suffix(".part")  # a broken run leaves no half file under the name
    save_file(tensors, part, metadata)
    os.replace(part, path)
    return path


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
        raise ValueError(
            f"{where} cannot be read ({error}); the file is damaged: save the reference again"
        ) from error
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
    return Reference(**tensors)


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[\w\-][\w\-. ]*", name))
