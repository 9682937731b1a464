"""A Flux transformer in plain torch that runs the dual-branch sequence and can be differentiated.

Parameter names and shapes are those of the host's Flux (the original layout), so a state dict goes
there and back unchanged; `host.transformer` is the same computation on the host's own blocks.
Branches, positions, attention groups and adapters come from `method`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..method.adapters import MAP_DOMAIN, RGB_DOMAIN, LowRank
from ..method.attention import isolated_references, isolated_views
from ..method.branches import MAP_ROW, RGB_ROW, BranchLayout, ModulationDims, Stream
from ..method.guidance import REFERENCE_GUIDANCE, REFERENCE_TIMESTEP
from ..method.positions import grid_positions, reference_offset
from .layers import HEAD_WIDTH, DoubleBlock, Embedder, LastLayer, Modulation, QKNorm, SingleBlock

AXES = (16, 56, 56)
THETA = 10000
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


@dataclass(frozen=True)
class Sequence:
    """What stays the same for all batches of one layout.

    Attributes:
        layout: where the branches lie.
        cos, sin: rotary table, float32 [layout.total, HEAD_WIDTH / 2].
        text_agnostic: the map target does not see the text.
        isolated: views see only their own pair; False lets everything see everything (METHOD fact
            7).
    """

    layout: BranchLayout
    cos: Tensor
    sin: Tensor
    text_agnostic: bool = True
    isolated: bool = True


def make_sequence(
    text: int,
    size: tuple[int, int],
    reference_size: tuple[int, int],
    pairs: int,
    device: torch.device | str,
    *,
    point_maps: bool = True,
    shared_positions: bool = True,
    text_agnostic: bool = True,
    isolated: bool = True,
) -> Sequence:
    """The sequence of `pairs` reference pairs and targets of given (height, width) in tokens."""
    offset = reference_offset(reference_size[1])
    ids = [torch.zeros(text, 3), grid_positions(*size)]
    if point_maps:
        ids.append(grid_positions(*size, 0 if shared_positions else offset))
    domains = 2 if point_maps else 1
    ids.append(grid_positions(*reference_size, -offset).repeat(domains * pairs, 1))
    cos, sin = _rotary(torch.cat(ids))
    layout = BranchLayout(
        text, size[0] * size[1], reference_size[0] * reference_size[1], pairs, point_maps
    )
    return Sequence(layout, cos.to(device), sin.to(device), text_agnostic, isolated)


def split_sequence(sequence: Sequence) -> tuple[Sequence, Sequence]:
    """(text and targets, references) of a sequence, for a ReferenceMemory between them."""
    layout, main = sequence.layout, sequence.layout.main
    targets = dataclasses.replace(layout, pairs=0)
    references = dataclasses.replace(layout, text=0, target=0)
    cos, sin = sequence.cos, sequence.sin
    return (
        dataclasses.replace(sequence, layout=targets, cos=cos[:main], sin=sin[:main]),
        dataclasses.replace(sequence, layout=references, cos=cos[main:], sin=sin[main:]),
    )


def _rotary(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in float64, table in float32 (METHOD fact 14)."""
    angles = []
    for axis, width in enumerate(AXES):
        scale = torch.linspace(0, (width - 2) / width, width // 2, dtype=torch.float64)
        angles.append(ids[:, axis].double()[:, None] / THETA**scale)
    angle = torch.cat(angles, -1)
    return angle.cos().float(), angle.sin().float()


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
    sequence: Sequence, q: Tensor, k: Tensor, v: Tensor, memory: ReferenceMemory | None
) -> Tensor:
    layout = sequence.layout
    if memory is not None:
        if not layout.main:
            memory.write(k, v)
            return isolated_references(_attend, q, k, v, layout)
        k, v = memory.read(k, v)
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


class ReferenceMemory:
    """Keys and values of references that were computed once, for several targets of each asset.

    References that see only their own pair (METHOD fact 30, the published cache) depend neither on
    the targets nor on their noise, so one pass over them serves `copies` targets.

    Args:
        copies: targets of each asset, one after another in the batch of the targets.
    """

    def __init__(self, copies: int) -> None:
        self.copies = copies
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._next = 0

    def write(self, k: Tensor, v: Tensor) -> None:
        """Keep one layer's references, [A, heads, references, head_dim]."""
        self._layers.append((k, v))

    def read(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [A * copies, heads, main, head_dim] with that layer's references
        behind."""
        kept = self._layers[self._next]
        self._next += 1
        spread = (x.repeat_interleave(self.copies, 0) for x in kept)
        return tuple(torch.cat(pair, 2) for pair in zip((k, v), spread))


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
            image, text = self._run_double(block, image, text, vec, sequence, inner, memory)
        joint = torch.cat([text, image], 1)
        for i, block in enumerate(self.single_blocks):
            inner = _inside(deltas, f"single_blocks.{i}.")
            joint = self._run_single(block, joint, vec, sequence, inner, memory)
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
    out = _attention(sequence, q.to(v.dtype), k.to(v.dtype), v, memory)
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
    out = _attention(sequence, q.to(v.dtype), k.to(v.dtype), v, memory)
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
