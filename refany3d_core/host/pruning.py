"""Keys and values of the references in the last block, without the outputs that nobody reads."""

from __future__ import annotations

import comfy.ops
import torch
from comfy.ldm.flux.layers import SingleStreamBlock, apply_mod
from comfy.ldm.flux.math import apply_rope1
from torch import Tensor, nn

from ..method.branches import BranchLayout
from .routing import Routing

_PLAIN_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def reference_keys_values(
    block: SingleStreamBlock,
    path: str,
    joint: Tensor,
    vec: Tensor,
    rotary: Tensor,
    layout: BranchLayout,
    routing: Routing,
) -> tuple[Tensor, Tensor]:
    """Keys (normed and rotated) and values of the references in a single block.

    Args:
        block: the block.
        path: its path in the transformer.
        joint: its input, the joint sequence [B, layout.total, hidden].
        vec: modulation vectors [B, 5, hidden].
        rotary: rotary table of the joint sequence.
        layout: where the branches lie.
        routing: the adapters, attached to the transformer.

    Returns:
        k and v, [B, heads, layout.references, head_dim] each.
    """
    modulation, _ = block.modulation(vec)
    normed = block.pre_norm(joint[:, layout.main :])
    modulated = apply_mod(normed, 1 + modulation.scale, modulation.shift, layout.reference_dims())
    hidden = block.hidden_size
    with routing.references_only():
        kv = _linear_rows(
            block.linear1, f"{path}.linear1", modulated, slice(hidden, 3 * hidden), routing
        )
    k, v = kv.unflatten(-1, (2, block.num_heads, -1)).permute(2, 0, 3, 1, 4)
    k = block.norm.key_norm(k).to(v)
    return apply_rope1(k, rotary[:, :, layout.main :]), v


def _linear_rows(layer: nn.Linear, path: str, x: Tensor, rows: slice, routing: Routing) -> Tensor:
    """Some of a layer's output features. Only a plain matrix can be cut; others give all of
    theirs."""
    weight = layer.weight
    if (
        type(weight) is not nn.Parameter
        or weight.dtype not in _PLAIN_DTYPES
        or "forward" in vars(layer)
    ):
        return layer(x)[..., rows]
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, x, offloadable=True)
    out = torch.nn.functional.linear(x, weight[rows], bias[rows])
    comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
    routing.add_deltas(path, out, x, rows)
    return out
