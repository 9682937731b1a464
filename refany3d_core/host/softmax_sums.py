"""PyTorch's attention with the logarithms of its softmax sums, where it gives them.

Groups of keys that count by weights are then merged from one call for each, without a further call
over all keys. Only where the host itself would call `scaled_dot_product_attention`: another backend
or another pack's override would not be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from comfy.ldm.modules import attention
from torch import Tensor

WithSums = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

_TOLERANCE = 0.02
"""In the logarithm, so relative in a weight; half precision is well within, another base is not."""


def with_sums_for(func: Any, q: Tensor) -> WithSums | None:
    """The function for queries like q, or None where `func` is no plain PyTorch attention.

    It takes q, k and v [B, heads, tokens, head_dim] and gives [B, tokens of q, heads * head_dim]
    and the logarithms, float32 [B, heads, tokens of q].
    """
    plain = (attention.attention_pytorch, getattr(attention.attention_pytorch, "__wrapped__", None))
    if func not in plain or torch.is_grad_enabled() and q.requires_grad:
        return None
    return _with_sums if _gives_sums(q.device, q.dtype, q.shape[-1]) else None


def _with_sums(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if q.device.type == "cuda":
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    else:
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[:2]
    return out.transpose(1, 2).flatten(2), sums[..., : q.shape[2]]


@lru_cache
def _gives_sums(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether this PyTorch has the function here: found out by a small problem."""
    if device.type not in ("cpu", "cuda"):
        return False
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, n, width, generator=generator) for n in (33, 65))
    try:
        given, sums = _with_sums(*(x.to(device, dtype) for x in (q, k, k)))
    except (AttributeError, RuntimeError, TypeError):
        return False
    scores = q.double() @ k.double().transpose(-1, -2) * width**-0.5
    answer = (scores.softmax(-1) @ k.double()).transpose(1, 2).flatten(2)
    near = (given.cpu().double() - answer).norm() < _TOLERANCE * answer.norm()
    known = sums.shape == q.shape[:3]
    return bool(known and near and (sums.cpu() - scores.logsumexp(-1)).abs().max() < _TOLERANCE)
