"""Reference-LoRA, Domain-LoRA and the domain token (paper, section 3.3).

Reference-LoRA acts on every reference token, Domain-LoRA on every point-map token; map references
get the sum of both, text and RGB target neither (METHOD facts 16-22). A merged weight cannot act
on a part of its tokens, so the low-rank product is added to the layer's output, on the tokens that
have it:

    y[range] += up (down x[range])

The scale is exactly 1 (fact 16). Files name the layers as diffusers does, one module a projection;
the host's Flux fuses projections of the same input, and `fuse_low_rank` fuses their deltas alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

RGB_DOMAIN, MAP_DOMAIN = 0, 1
"""Rows of the domain embedder."""

DOMAIN_TOKEN_WIDTH = 256

_DOUBLE_LAYERS = (
    "norm1.linear",
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "ff.net.2",
)
_SINGLE_LAYERS = ("norm.linear", "proj_mlp", "proj_out", "attn.to_q", "attn.to_k", "attn.to_v")


class LowRank(NamedTuple):
    """A low-rank pair as published files hold it: down [rank, in], up [out, rank]."""

    down: Tensor
    up: Tensor


def adapted_layers(double_blocks: int, single_blocks: int) -> list[str]:
    """Diffusers names of all layers with a LoRA, 343 at 19 + 38 blocks (METHOD fact 18)."""
    return [
        "x_embedder",
        *(f"transformer_blocks.{i}.{x}" for i in range(double_blocks) for x in _DOUBLE_LAYERS),
        *(
            f"single_transformer_blocks.{i}.{x}"
            for i in range(single_blocks)
            for x in _SINGLE_LAYERS
        ),
    ]


def fuse_low_rank(parts: list[tuple[int, LowRank]], out_features: int) -> LowRank:
    """Fuse the deltas of projections that share their input into one product.

    Args:
        parts: (first output row, pair) of each projection in the fused layer.
        out_features: rows of the fused layer.

    Returns:
        down [sum of ranks, in], and up [out_features, sum of ranks], block-wise.
    """
    down = torch.cat([pair.down for _, pair in parts])
    up = down.new_zeros(out_features, down.shape[0])
    column = 0
    for row, pair in parts:
        rows, rank = pair.up.shape
        up[row : row + rows, column : column + rank] = pair.up
        column += rank
    return LowRank(down, up)


def add_low_rank_(output: Tensor, low: Tensor, up: Tensor) -> Tensor:
    """Add up @ low to output in place, without a temporary of the output's size.

    Args:
        output: [B, tokens, out], a view of the layer's output.
        low: [B, tokens, rank], the product of the layer's input and down.
        up: [out, rank].
    """
    for i in range(len(output)):
        output[i].addmm_(low[i], up.t())
    return output


def domain_embedder(hidden_size: int, operations: Any = nn, **kwargs: Any) -> nn.Sequential:
    """The domain token: row RGB_DOMAIN or MAP_DOMAIN, added to the modulation vector of a branch.

    The layout of the published file: Embedding(2, 256), Linear, SiLU, Linear (METHOD fact 5).

    Args:
        hidden_size: width of the modulation vector.
        operations: module namespace to take the layers from, torch.nn or the host's.
        kwargs: dtype and device of the layers.
    """
    return nn.Sequential(
        operations.Embedding(2, DOMAIN_TOKEN_WIDTH, **kwargs),
        operations.Linear(DOMAIN_TOKEN_WIDTH, hidden_size, **kwargs),
        nn.SiLU(),
        operations.Linear(hidden_size, hidden_size, **kwargs),
    )
