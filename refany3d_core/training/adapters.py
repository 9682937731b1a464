"""The trained parameters of RefAny3D: both LoRAs under their published names, and the domain
embedder."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..method.adapters import LowRank, adapted_layers, domain_embedder, fuse_low_rank
from .layers import MLP_RATIO
from .transformer import PATCH, Deltas, FluxShape

_BLOCK_LAYERS = {
    "norm1.linear": ("img_mod.lin", 0),
    "attn.to_q": ("img_attn.qkv", 0),
    "attn.to_k": ("img_attn.qkv", 1),
    "attn.to_v": ("img_attn.qkv", 2),
    "attn.to_out.0": ("img_attn.proj", 0),
    "ff.net.2": ("img_mlp.2", 0),
}
_SINGLE_LAYERS = {
    "norm.linear": ("modulation.lin", 0),
    "attn.to_q": ("linear1", 0),
    "attn.to_k": ("linear1", 1),
    "attn.to_v": ("linear1", 2),
    "proj_mlp": ("linear1", 3),
    "proj_out": ("linear2", 0),
}
_NAME = re.compile(r"(single_)?transformer_blocks\.(\d+)\.(.+)")


def fused_place(layer: str, hidden: int) -> tuple[str, int]:
    """Path of the fused layer that holds a published layer, and its first output row (METHOD fact
    21)."""
    if layer == "x_embedder":
        return "img_in", 0
    single, index, inner = _NAME.fullmatch(layer).groups()
    path, part = (_SINGLE_LAYERS if single else _BLOCK_LAYERS)[inner]
    return f"{single or 'double_'}blocks.{index}.{path}", part * hidden


def layer_sizes(layer: str, shape: FluxShape) -> tuple[int, int]:
    """(inputs, outputs) of a published layer."""
    hidden, wide = shape.hidden, MLP_RATIO * shape.hidden
    inner = layer.split("blocks.")[-1].partition(".")[2]
    return {
        "": (shape.channels * PATCH**2, hidden),
        "norm1.linear": (hidden, 6 * hidden),
        "norm.linear": (hidden, 3 * hidden),
        "ff.net.2": (wide, hidden),
        "proj_mlp": (hidden, wide),
        "proj_out": (hidden + wide, hidden),
    }.get(inner, (hidden, hidden))


class Lora(nn.Module):
    """One LoRA over all published layers: down gaussian, up zero at the start (METHOD fact 49)."""

    def __init__(self, shape: FluxShape, rank: int) -> None:
        super().__init__()
        self.layers = adapted_layers(shape.double_blocks, shape.single_blocks)
        self.shape = shape
        sizes = [layer_sizes(layer, shape) for layer in self.layers]
        self.down = nn.ParameterList(torch.randn(rank, n) / rank for n, _ in sizes)
        self.up = nn.ParameterList(torch.zeros(m, rank) for _, m in sizes)

    def fused(self) -> dict[str, LowRank]:
        """Pairs by path of the fused layers, differentiable."""
        parts: dict[str, list[tuple[int, LowRank]]] = {}
        for layer, down, up in zip(self.layers, self.down, self.up):
            path, row = fused_place(layer, self.shape.hidden)
            parts.setdefault(path, []).append((row, LowRank(down, up)))
        return {
            path: fuse_low_rank(pairs, max(row + pair.up.shape[0] for row, pair in pairs))
            if len(pairs) > 1
            else pairs[0][1]
            for path, pairs in parts.items()
        }

    def published(self, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
        """Tensors under the published keys (METHOD fact 20)."""
        out = {}
        for layer, down, up in zip(self.layers, self.down, self.up):
            out[f"transformer.{layer}.lora_A.weight"] = down.detach().to(dtype).contiguous()
            out[f"transformer.{layer}.lora_B.weight"] = up.detach().to(dtype).contiguous()
        return out

    @torch.no_grad()
    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a published file."""
        for layer, down, up in zip(self.layers, self.down, self.up):
            down.copy_(tensors[f"transformer.{layer}.lora_A.weight"])
            up.copy_(tensors[f"transformer.{layer}.lora_B.weight"])


class Adapters(nn.Module):
    """Reference-LoRA, Domain-LoRA and the domain embedder, whose last layer starts at zero (fact
    5).

    Args:
        shape: sizes of the base model.
        rank: rank of both LoRAs.
        use_domain: False leaves the Domain-LoRA out (the paper's ablation).
    """

    def __init__(self, shape: FluxShape, rank: int, use_domain: bool = True) -> None:
        super().__init__()
        self.reference = Lora(shape, rank)
        self.domain = Lora(shape, rank) if use_domain else None
        self.embedder = domain_embedder(shape.hidden)
        nn.init.zeros_(self.embedder[3].weight)
        nn.init.zeros_(self.embedder[3].bias)

    def deltas(self) -> Deltas:
        """(Reference-LoRA, Domain-LoRA) by path of the fused layer."""
        reference = self.reference.fused()
        domain = self.domain.fused() if self.domain is not None else {}
        return {path: (pair, domain.get(path)) for path, pair in reference.items()}

    def domain_tokens(self) -> Tensor:
        """[2, hidden], rows RGB and map."""
        return self.embedder(torch.arange(2, device=self.embedder[3].weight.device))

    def published(self) -> dict[str, dict[str, Tensor]]:
        """Tensors of the published files, by file stem.

        A left out Domain-LoRA is written as zeros, which is what leaving it out means.
        """
        zero = {k: torch.zeros_like(v) for k, v in self.reference.published().items()}
        embedder = {k: v.detach().to(torch.bfloat16) for k, v in self.embedder.state_dict().items()}
        return {
            "default": self.reference.published(),
            "coord": self.domain.published() if self.domain is not None else zero,
            "domain_embedder": embedder,
        }

    def load_published(self, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over what `published` gave."""
        self.reference.load_published(files["default"])
        if self.domain is not None:
            self.domain.load_published(files["coord"])
        self.embedder.load_state_dict(dict(files["domain_embedder"]))
