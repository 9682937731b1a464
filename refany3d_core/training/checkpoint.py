"""Files of a training run: written whole or not at all, read without unpickling."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file beside its place, flush it to disk, then move it there in one step.

    Raises:
        ValueError: it cannot be written, on a full disk for one; what was there before stays.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with _written_aside(path) as part:
        save_file(tensors, part, dict(metadata or {}))


def save_json(path: Path, value: object) -> None:
    """Write JSON in the same way."""
    with _written_aside(path) as part:
        part.write_text(json.dumps(value, indent=1))


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # several may write it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as f:
            os.fsync(f.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as e:
        part.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} cannot be written ({e}); the file before it is as it was. Make room on "
            "the disk and start the same command again: it goes on from the last checkpoint"
        ) from e


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read a safetensors file."""
    return load_file(path, device=str(device))


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with safe_open(path, "pt") as f:
        return f.metadata() or {}


def quantise_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with one float32 scale a row, the rest as float32.

    The small model is meant to be shipped this way; `dequantise_rows` gives the exact weights that
    its LoRAs were trained on.
    """
    out = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().float()
        if tensor.ndim != 2:
            out[name] = tensor
            continue
        scale = tensor.abs().amax(1).clamp_min(1e-12) / 127
        out[name] = (tensor / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        out[f"{name}_scale"] = scale
    return out


def dequantise_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of quantise_rows, float32."""
    out = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            out[name] = tensor.float() * tensors[f"{name}_scale"][:, None]
        elif name.removesuffix("_scale") == name or name.removesuffix("_scale") not in tensors:
            out[name] = tensor
    return out
