"""Matrices as int8 with one scale a row: how the small model's weights are shipped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def quantise_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with one float32 scale a row, the rest as float32.

    `dequantise_rows` gives the exact weights that the small model's LoRAs were trained on.
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
