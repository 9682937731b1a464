"""RefAny3D's model files: where they are and what has to be in them."""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

import comfy.utils
import folder_paths
from torch import Tensor

from ..files import read_trouble
from ..method.adapters import LowRank, adapted_layers, fuse_low_rank
from .routing import AdapterModules, Adapters, own

logger = logging.getLogger(__name__)

FOLDER = "refany3d"
"""Key of our model folder, models/refany3d, beside the stock models/loras."""

REFERENCES = "references"
"""Subfolder of models/refany3d for saved references, which are no adapters."""

_LORA_KEY = re.compile(r"transformer\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_EMBEDDER_KEYS = ("0.weight", "1.weight", "1.bias", "3.weight", "3.bias")
_SHOWN_KEYS = 3


def register_folder() -> None:
    """Make models/refany3d, and make it known to the host."""
    path = os.path.join(folder_paths.models_dir, FOLDER)
    folder_paths.add_model_folder_path(FOLDER, path)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:  # a read-only models folder; the files may lie in models/loras
        logger.warning("RefAny3D: the folder %s cannot be made (%s)", path, error)


def file_names() -> list[str]:
    """Names for a file combo: models/refany3d without its saved references, then models/loras."""
    own = [n for n in folder_paths.get_filename_list(FOLDER) if PurePath(n).parts[0] != REFERENCES]
    names = own + folder_paths.get_filename_list("loras")
    return [n for n in dict.fromkeys(names) if n.endswith((".safetensors", ".sft", ".pth", ".pt"))]


def find_file(name: str, role: str) -> str:
    """Path of a file from the combo, or of the one file of that name in any subfolder.

    Templates ask for the published names, which people sort into folders of their own.

    Raises:
        ValueError: it is in neither folder, or several of that name are.
    """
    for folder in (FOLDER, "loras"):
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            return path
    plain = PurePath(name).name
    alike = [other for other in file_names() if PurePath(other).name == plain]
    ours = [other for other in alike if FOLDER in other.lower()] or alike
    if len(ours) == 1:
        return find_file(ours[0], role)
    if ours:
        raise ValueError(
            f"Load RefAny3D LoRAs: {role} '{name}' is there more than once "
            f"({', '.join(ours[:_SHOWN_KEYS])}); choose one in the list"
        )
    raise ValueError(
        f"Load RefAny3D LoRAs: {role} '{name}' is in neither models/{FOLDER} nor models/loras; "
        "put the file there and refresh the page"
    )


def load_adapters(
    reference_lora: str,
    domain_lora: str,
    domain_embedder: str,
    locate: Callable[[str, str], str] = find_file,
) -> Adapters:
    """Load the three published files, by the names of the combos.

    Args:
        reference_lora: Reference-LoRA, published as default.safetensors.
        domain_lora: Domain-LoRA, published as coord.safetensors.
        domain_embedder: published as domain_embedder.pth (or .safetensors).
        locate: gives the path of a file from its name and its role.

    Raises:
        ValueError: a file is missing, unreadable, unsafe, or not for this place.
    """
    reference = _read_lora(reference_lora, "reference_lora", locate)
    domain = _read_lora(domain_lora, "domain_lora", locate)
    if sorted(reference) != sorted(domain):
        raise ValueError(
            "Load RefAny3D LoRAs: reference_lora and domain_lora are for different models: "
            f"{_first(set(reference) ^ set(domain))} is in only one of them; choose two files of "
            "one release"
        )
    embedder = _read_embedder(domain_embedder, locate)
    hidden_size = reference["transformer_blocks.0.attn.to_q"].up.shape[0]
    for name, lora in ((reference_lora, reference), (domain_lora, domain)):
        width = lora["transformer_blocks.0.attn.to_q"].up.shape[0]
        if width != embedder["3.weight"].shape[0]:
            raise ValueError(
                f"Load RefAny3D LoRAs: domain_embedder '{domain_embedder}' is "
                f"{embedder['3.weight'].shape[0]} wide but '{name}' belongs to a model {width} "
                "wide; choose files of one release"
            )
    modules = AdapterModules(
        fuse_lora(reference, hidden_size), fuse_lora(domain, hidden_size), embedder
    )
    return own(modules, f"{reference_lora}, {domain_lora}, {domain_embedder}")


def _read_tensors(name: str, role: str, locate: Callable[[str, str], str]) -> dict[str, Tensor]:
    path = locate(name, role)
    try:
        return comfy.utils.load_torch_file(path, safe_load=True)
    except pickle.UnpicklingError as e:
        raise ValueError(
            f"Load RefAny3D LoRAs: {role} '{name}' is a pickle with more than plain tensors in it "
            "and was refused; nothing of it was run. Use the published file or a .safetensors"
        ) from e
    except Exception as e:
        if trouble := read_trouble(Path(path)):
            raise ValueError(
                f"Load RefAny3D LoRAs: {role} '{name}' cannot be read; {trouble}"
            ) from e
        raise ValueError(
            f"Load RefAny3D LoRAs: {role} '{name}' cannot be read ({type(e).__name__}); "
            "it may be cut short: download it again"
        ) from e


def _first(keys: Collection[str]) -> str:
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return ", ".join(f"'{key}'" for key in sorted(keys)[:_SHOWN_KEYS]) + more


def _read_lora(name: str, role: str, locate: Callable[[str, str], str]) -> dict[str, LowRank]:
    """Pairs by diffusers layer name; every layer of METHOD fact 18 and no other."""
    where = f"Load RefAny3D LoRAs: {role} '{name}'"
    tensors = _read_tensors(name, role, locate)
    sides: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        match = _LORA_KEY.fullmatch(key)
        if match is None or tensor.ndim != 2:
            unknown.append(key)
        else:
            sides.setdefault(match["layer"], {})[match["side"]] = tensor
    if unknown or not sides:
        keys = _first(unknown) if unknown else "the file is empty"
        raise ValueError(
            f"{where} is not a RefAny3D LoRA ({keys}); choose the published default.safetensors or "
            "coord.safetensors, or a file of our trainer"
        )
    layers = adapted_layers(
        _count(sides, "transformer_blocks."), _count(sides, "single_transformer_blocks.")
    )
    missing = [layer for layer in layers if len(sides.get(layer, ())) < 2]
    if missing:
        raise ValueError(
            f"{where} has no complete LoRA for {_first(missing)}; the file is not whole"
        )
    extra = set(sides) - set(layers)
    if extra:
        raise ValueError(f"{where} has layers that RefAny3D does not adapt: {_first(extra)}")
    pairs = {layer: LowRank(sides[layer]["A"], sides[layer]["B"]) for layer in layers}
    for layer, pair in pairs.items():
        if pair.down.shape[0] != pair.up.shape[1]:
            raise ValueError(
                f"{where}: layer '{layer}' has rank {pair.down.shape[0]} in lora_A but "
                f"{pair.up.shape[1]} in lora_B; the file is damaged"
            )
    return pairs


def _count(names: Iterable[str], prefix: str) -> int:
    return len({name.split(".")[1] for name in names if name.startswith(prefix)})


def _read_embedder(name: str, locate: Callable[[str, str], str]) -> dict[str, Tensor]:
    where = f"Load RefAny3D LoRAs: domain_embedder '{name}'"
    tensors = _read_tensors(name, "domain_embedder", locate)
    if sorted(tensors) != sorted(_EMBEDDER_KEYS):
        raise ValueError(
            f"{where} is not a domain embedder: it has {_first(list(tensors))}, "
            f"expected {_first(_EMBEDDER_KEYS)}; choose the published domain_embedder.pth"
        )
    hidden = tensors["3.weight"].shape[0]
    token = tensors["0.weight"].shape[-1]
    shapes = ((2, token), (hidden, token), (hidden,), (hidden, hidden), (hidden,))
    for key, shape in zip(_EMBEDDER_KEYS, shapes):
        if tuple(tensors[key].shape) != shape:
            raise ValueError(f"{where}: '{key}' is {tuple(tensors[key].shape)}, expected {shape}")
    return tensors


class FusedPlace(NamedTuple):
    """Where the host's Flux holds a published layer.

    Attributes:
        path: of the fused layer.
        row: first of its output rows that belong to the published layer.
        rows: how many; None: all.
    """

    path: str
    row: int
    rows: int | None


def fused_places(config: dict[str, int]) -> dict[str, FusedPlace]:
    """Place of every adapted layer by its published name, as the host's own key map says.

    Args:
        config: depth, depth_single_blocks and hidden_size of the transformer.
    """
    key_map = comfy.utils.flux_to_diffusers(config)
    out = {}
    for layer in adapted_layers(config["depth"], config["depth_single_blocks"]):
        target = key_map[f"{layer}.weight"]
        key, (_, row, rows) = target if isinstance(target, tuple) else (target, (0, 0, None))
        out[layer] = FusedPlace(key.removesuffix(".weight"), row, rows)
    return out


def fuse_lora(lora: dict[str, LowRank], hidden_size: int) -> dict[str, LowRank]:
    """Pairs by path of the host's fused layers."""
    config = {
        "depth": _count(lora, "transformer_blocks."),
        "depth_single_blocks": _count(lora, "single_transformer_blocks."),
        "hidden_size": hidden_size,
    }
    fused = fused_places(config)
    parts: dict[str, list[tuple[int, LowRank]]] = {}
    for layer, pair in lora.items():
        place = fused[layer]
        parts.setdefault(place.path, []).append((place.row, pair))
    return {
        path: fuse_low_rank(pairs, max(row + pair.up.shape[0] for row, pair in pairs))
        for path, pairs in parts.items()
    }
