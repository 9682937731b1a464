"""A Flux transformer in plain torch that runs the dual-branch sequence and can be differentiated.

Parameter names and shapes are those of the host's Flux (the original layout), so a state dict goes
there and back unchanged; `host.transformer` is the same computation on the host's own blocks.
Branches, positions, attention groups and adapters come from `method`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..method.adapters import MAP_DOMAIN, RGB_DOMAIN, LowRank
from ..method.attention import isolated_references, isolated_views
from ..method.branches import MAP_ROW, RGB_ROW, BranchLayout, ModulationDims, Stream
from ..method.guidance import REFERENCE_GUIDANCE, REFERENCE_TIMESTEP
from .layers import HEAD_WIDTH, DoubleBlock, Embedder, LastLayer, Modulation, QKNorm, SingleBlock
from .sequence import ReferenceMemory, Sequence

PATCH = 2
SINUSOID = 256

Deltas = Mapping[str, tuple[LowRank | None, LowRank | None]]
"""(Reference-LoRA, Domain-LoRA) by path of the fused layer; None leaves one out."""


@dataclass(frozen=True)
class FluxShape:
    """Sizes of a Flux transformer; the head width is 128 as in FLUX.1."""

    hidden: int
    double_blocks: int
    single_blocks: int
    context: int
    pooled: int
    channels: int = 16


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate interleaved pairs of [B, heads, S, HEAD_WIDTH]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def sinusoid(t: Tensor) -> Tensor:
    """Timestep (0..1) or guidance embedding, [B, SINUSOID] float32."""
    half = SINUSOID // 2
    freqs = torch.exp(
        -math.log(10000) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )
    angle = 1000.0 * t.float()[:, None] * freqs
    return torch.cat([angle.cos(), angle.sin()], -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def _attention(
    block: nn.Module,
    sequence: Sequence,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    memory: ReferenceMemory | None,
) -> Tensor:
    layout = sequence.layout
    if memory is not None:
        if not layout.main:
            memory.write(block, k, v)
            return isolated_references(_attend, q, k, v, layout)
        k, v = memory.read(block, k, v)
    elif not sequence.isolated or layout.references == 0 and not layout.point_maps:
        return _attend(q, k, v)
    return isolated_views(_attend, q, k, v, layout, sequence.text_agnostic)


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)


def _split_qkv(x: Tensor, norm: QKNorm) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (_heads(part) for part in x.chunk(3, -1))
    return norm.query_norm(q), norm.key_norm(k), v


def _spread(rows: Tensor, dims: ModulationDims) -> Tensor:
    """Modulation rows [B, R, C] to tokens [B, S, C]."""
    return torch.cat([rows[:, r : r + 1].expand(-1, end - start, -1) for start, end, r in dims], 1)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6)


def _linear(
    layer: nn.Linear, x: Tensor, path: str, deltas: Deltas, layout: BranchLayout, stream: Stream
) -> Tensor:
    """The base layer over all tokens, plus the adapters' deltas on the ranges that have them.

    Both adapters are one low-rank product, their ranks side by side and zero off their ranges: on a
    short sequence that costs less than cutting the ranges out and putting them back.
    """
    y = layer(x)
    reference, domain = deltas.get(path, (None, None))
    ranges = (layout.reference_range(stream), layout.point_map_range(stream))
    pairs = [(p, r) for p, r in zip((reference, domain), ranges) if p is not None and r[1] > r[0]]
    if not pairs:
        return y
    inner = F.linear(x, torch.cat([pair.down for pair, _ in pairs]))
    on = inner.new_zeros(x.shape[1], inner.shape[2])
    rank = 0
    for pair, (start, end) in pairs:
        on[start:end, rank : rank + len(pair.down)] = 1
        rank += len(pair.down)
    return y + F.linear(inner * on, torch.cat([pair.up for pair, _ in pairs], 1))


class Flux(nn.Module):
    """Flux over the branches of a Sequence."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        self.shape = shape
        hidden, patch = shape.hidden, shape.channels * PATCH * PATCH
        self.img_in = nn.Linear(patch, hidden)
        self.txt_in = nn.Linear(shape.context, hidden)
        self.time_in = Embedder(SINUSOID, hidden)
        self.guidance_in = Embedder(SINUSOID, hidden)
        self.vector_in = Embedder(shape.pooled, hidden)
        self.double_blocks = nn.ModuleList(DoubleBlock(hidden) for _ in range(shape.double_blocks))
        self.single_blocks = nn.ModuleList(SingleBlock(hidden) for _ in range(shape.single_blocks))
        self.final_layer = LastLayer(hidden, patch)
        self._run_double, self._run_single = double_block, single_block
        self.gradient_checkpointing = False

    def compile_blocks(self) -> None:
        """Compile the blocks' code once for all blocks of a kind and layout."""
        self._run_double = torch.compile(double_block, dynamic=False)
        self._run_single = torch.compile(single_block, dynamic=False)

    @contextmanager
    def plain_blocks(self) -> Iterator[None]:
        """Run uncompiled while the context lasts: for sizes that come up once, such as samples."""
        compiled = self._run_double, self._run_single
        self._run_double, self._run_single = double_block, single_block
        try:
            yield
        finally:
            self._run_double, self._run_single = compiled

    def _run(self, block: Callable, *args: object) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def initialise(self) -> None:
        """Weights for training from nothing: zero gates and output, guidance without effect.

        A model trained from nothing is not guidance-distilled, so its guidance embedding, which the
        architecture has, is held at zero: any guidance value gives the same prediction.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.lin.weight)
        for embedder in (self.time_in, self.vector_in, self.guidance_in):
            nn.init.normal_(embedder.in_layer.weight, std=0.02)
            nn.init.normal_(embedder.out_layer.weight, std=0.02)
        nn.init.zeros_(self.guidance_in.out_layer.weight)
        nn.init.zeros_(self.final_layer.linear.weight)
        nn.init.zeros_(self.final_layer.adaLN_modulation[1].weight)
        self.guidance_in.requires_grad_(False)

    def modulation_rows(
        self, t: Tensor, pooled: Tensor, guidance: Tensor, domain_tokens: Tensor | None
    ) -> Tensor:
        """Modulation vectors of the five kinds of branches, [B, 5, hidden] (METHOD facts 2 and
        3)."""
        pooled = self.vector_in(pooled)
        noisy = self.time_in(sinusoid(t)) + self.guidance_in(sinusoid(guidance)) + pooled
        clean = self.time_in(sinusoid(torch.full_like(t, REFERENCE_TIMESTEP)))
        reference = (
            clean
            + self.guidance_in(sinusoid(torch.full_like(guidance, REFERENCE_GUIDANCE)))
            + pooled
        )
        rgb = 0 if domain_tokens is None else domain_tokens[RGB_DOMAIN]
        maps = 0 if domain_tokens is None else domain_tokens[MAP_DOMAIN]
        return torch.stack([noisy, noisy + rgb, noisy + maps, reference + maps, reference + rgb], 1)

    def forward(
        self,
        sequence: Sequence,
        tokens: Tensor,
        text: Tensor,
        pooled: Tensor,
        t: Tensor,
        guidance: Tensor,
        deltas: Deltas | None = None,
        domain_tokens: Tensor | None = None,
        memory: ReferenceMemory | None = None,
    ) -> Tensor:
        """Velocities of the targets.

        Args:
            sequence: the layout of the branches.
            tokens: packed image branches in the layout's order, [B, targets + references, 64].
            text: context [B, layout.text, context].
            pooled: pooled text [B, pooled].
            t: noise level of the targets, [B] in 0..1.
            guidance: distilled guidance of text and targets, [B].
            deltas: adapters by path, None for the base alone.
            domain_tokens: [2, hidden], None for none.
            memory: references that are not in the sequence; a sequence of references alone fills
                it.

        Returns:
            [B, layout.targets, 64]; without targets in the sequence nothing of use, [B, 0, hidden].
        """
        layout, deltas = sequence.layout, deltas or {}
        vec = F.silu(self.modulation_rows(t, pooled, guidance, domain_tokens))
        image = _linear(self.img_in, tokens, "img_in", deltas, layout, Stream.IMAGE)
        text = self.txt_in(text)
        for i, block in enumerate(self.double_blocks):
            inner = _inside(deltas, f"double_blocks.{i}.")
            image, text = self._run(
                self._run_double, block, image, text, vec, sequence, inner, memory
            )
        joint = torch.cat([text, image], 1)
        for i, block in enumerate(self.single_blocks):
            inner = _inside(deltas, f"single_blocks.{i}.")
            joint = self._run(self._run_single, block, joint, vec, sequence, inner, memory)
        targets = joint[:, layout.text : layout.main]
        if not layout.targets:
            return targets
        dims = [d for d in layout.image_dims() if RGB_ROW <= d[2] <= MAP_ROW]
        shift, scale = _spread(self.final_layer.adaLN_modulation[1](vec), dims).chunk(2, -1)
        return self.final_layer.linear(_norm(targets) * (1 + scale) + shift)


def _inside(deltas: Deltas, prefix: str) -> Deltas:
    """The adapters of one block, by path inside it."""
    return {path[len(prefix) :]: pair for path, pair in deltas.items() if path.startswith(prefix)}


def double_block(
    block: DoubleBlock,
    image: Tensor,
    text: Tensor,
    vec: Tensor,
    sequence: Sequence,
    deltas: Deltas,
    memory: ReferenceMemory | None = None,
) -> tuple[Tensor, Tensor]:
    """One double-stream block; vec [B, 5, hidden] is already through SiLU."""
    layout = sequence.layout
    rows = _linear(block.img_mod.lin, vec, "img_mod.lin", deltas, layout, Stream.ROWS)
    shift1, scale1, gate1, shift2, scale2, gate2 = _spread(rows, layout.image_dims()).chunk(6, -1)
    tshift1, tscale1, tgate1, tshift2, tscale2, tgate2 = block.txt_mod.lin(vec[:, :1]).chunk(6, -1)

    x = _norm(image) * (1 + scale1) + shift1
    x = _linear(block.img_attn.qkv, x, "img_attn.qkv", deltas, layout, Stream.IMAGE)
    q, k, v = _split_qkv(x, block.img_attn.norm)
    tq, tk, tv = _split_qkv(
        block.txt_attn.qkv(_norm(text) * (1 + tscale1) + tshift1), block.txt_attn.norm
    )
    q, k = (_rotate(torch.cat(x, 2), sequence.cos, sequence.sin) for x in ((tq, q), (tk, k)))
    v = torch.cat([tv, v], 2)
    out = _attention(block, sequence, q.to(v.dtype), k.to(v.dtype), v, memory)
    text_out, image_out = out.split([layout.text, out.shape[1] - layout.text], 1)

    image = image + gate1 * _linear(
        block.img_attn.proj, image_out, "img_attn.proj", deltas, layout, Stream.IMAGE
    )
    x = block.img_mlp[1](block.img_mlp[0](_norm(image) * (1 + scale2) + shift2))
    image = image + gate2 * _linear(block.img_mlp[2], x, "img_mlp.2", deltas, layout, Stream.IMAGE)
    text = text + tgate1 * block.txt_attn.proj(text_out)
    text = text + tgate2 * block.txt_mlp(_norm(text) * (1 + tscale2) + tshift2)
    return image, text


def single_block(
    block: SingleBlock,
    joint: Tensor,
    vec: Tensor,
    sequence: Sequence,
    deltas: Deltas,
    memory: ReferenceMemory | None = None,
) -> Tensor:
    """One single-stream block; vec [B, 5, hidden] is already through SiLU."""
    layout, hidden = sequence.layout, joint.shape[-1]
    rows = _linear(block.modulation.lin, vec, "modulation.lin", deltas, layout, Stream.ROWS)
    shift, scale, gate = _spread(rows, layout.joint_dims()).chunk(3, -1)
    x = _norm(joint) * (1 + scale) + shift
    x = _linear(block.linear1, x, "linear1", deltas, layout, Stream.JOINT)
    x, wide = x.split([3 * hidden, x.shape[-1] - 3 * hidden], -1)
    q, k, v = _split_qkv(x, block.norm)
    q, k = _rotate(q, sequence.cos, sequence.sin), _rotate(k, sequence.cos, sequence.sin)
    out = _attention(block, sequence, q.to(v.dtype), k.to(v.dtype), v, memory)
    x = torch.cat([out, F.gelu(wide, approximate="tanh")], -1)
    return joint + gate * _linear(block.linear2, x, "linear2", deltas, layout, Stream.JOINT)


def pack(latents: Tensor) -> Tensor:
    """Latents [..., 16, H, W] to tokens [..., H / 2 * W / 2, 64], features ordered (c ph pw)."""
    *lead, channels, height, width = latents.shape
    x = latents.reshape(*lead, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    n = len(lead)
    x = x.permute(*range(n), n + 1, n + 3, n, n + 2, n + 4)
    return x.reshape(*lead, height * width // PATCH**2, channels * PATCH**2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens [..., height * width, 64] of a picture of height x width tokens to latents."""
    *lead, _, features = tokens.shape
    channels, n = features // PATCH**2, len(lead)
    x = tokens.reshape(*lead, height, width, channels, PATCH, PATCH)
    x = x.permute(*range(n), n + 2, n, n + 3, n + 1, n + 4)
    return x.reshape(*lead, channels, height * PATCH, width * PATCH)
