"""Flow matching on the base and on RefAny3D: what a training step draws and minimises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .adapters import Adapters
from .config import BaseConfig, RefAny3DConfig
from .latents import TripletTokens
from .sequence import ReferenceMemory, Sequence, make_sequence, split_sequence
from .text import LENGTH, TextEncoder
from .transformer import Flux

Values = Mapping[str, Tensor]


def noisy(clean: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, velocity) with x_t = (1 - t) x_0 + t noise (METHOD fact 48).

    Args:
        clean: tokens [B, T, 64].
        t: [B] in 0..1.
    """
    clean = clean.float()
    noise = torch.randn_like(clean)
    share = t[:, None, None]
    return clean + (noise - clean) * share, noise - clean


def logit_normal(batch: int, device: torch.device) -> Tensor:
    """t = sigmoid(normal), [batch] (METHOD fact 48)."""
    return torch.randn(batch, device=device).sigmoid()


def drop(tokens: Tensor, other: Tensor, probability: float) -> Tensor:
    """Rows of tokens [B, ...] replaced by `other` [...] with the probability, whole rows at a
    time."""
    gone = torch.rand(len(tokens), device=tokens.device) < probability
    return torch.where(gone.view(-1, *[1] * (tokens.ndim - 1)), other, tokens)


def order_tokens(rgb: Tensor, point_map: Tensor, views: Tensor, point_maps: bool = True) -> Tensor:
    """Image branches in the order of BranchLayout: targets, map references, RGB references.

    Args:
        rgb, point_map: targets [B, T, 64].
        views: [B, 2, n, T, 64], RGB then map.
        point_maps: False leaves out everything that is a point map.
    """
    rgb_views, map_views = views[:, 0].flatten(1, 2), views[:, 1].flatten(1, 2)
    if not point_maps:
        return torch.cat([rgb, rgb_views], 1)
    return torch.cat([rgb, point_map, map_views, rgb_views], 1)


def variant_sequence(
    config: RefAny3DConfig, grid: tuple[int, int], views: int, device: torch.device
) -> Sequence:
    """The sequence that a variant is trained and sampled with."""
    return make_sequence(
        LENGTH,
        grid,
        grid,
        views,
        device,
        point_maps=config.point_maps,
        shared_positions=config.shared_positions,
        text_agnostic=config.text_agnostic,
    )


@dataclass
class BaseObjective:
    """Text-to-image flow matching, every `context_every`-th step beside clean views of the asset.

    A FLUX.1 has seen pictures that contain several views of one thing and can carry an appearance
    from one part of its canvas to another; a small model trained on single pictures cannot. The
    steps with
    views give it that: views at the reference positions, clean, seen through the method's attention
    groups, without point maps, adapters or domain tokens. Pictures are RGB renders or point maps,
    views are of the picture's own domain.
    """

    config: BaseConfig
    model: Flux
    text: TextEncoder
    data: TripletTokens
    grid: tuple[int, int]
    sequences: tuple[Sequence, Sequence] = field(init=False)

    def __post_init__(self) -> None:
        device, pairs = self.data.views.device, self.data.views.shape[2]
        self.sequences = tuple(
            make_sequence(LENGTH, self.grid, self.grid, n, device, point_maps=False)
            for n in (0, pairs)
        )

    def __call__(self, step: int) -> tuple[Tensor, Values]:
        config, data = self.config, self.data
        device = data.views.device
        every = config.context_every
        in_context = bool(every) and step % every == every - 1
        batch = config.context_batch if in_context else config.batch
        asset = torch.randint(len(data.views), (batch,), device=device)
        scene = torch.randint(data.targets.shape[1], (batch,), device=device)
        domain = (torch.rand(batch, device=device) < config.map_share).long()
        caption = torch.where(
            domain[:, None].bool(), data.map_captions[asset], data.captions[asset, scene]
        )
        context, pooled = self.text(drop(caption, data.empty, config.text_drop))
        t = logit_normal(batch, device)
        x, velocity = noisy(data.targets[asset, scene, domain], t)
        if in_context:
            views = drop(data.views[asset, domain], data.black, config.reference_drop)
            x = torch.cat([x, views.flatten(1, 2).float()], 1)
        predicted = self.model(
            self.sequences[in_context], x, context, pooled, t, torch.ones_like(t)
        )
        loss = F.mse_loss(predicted.float(), velocity)
        return loss, {"context" if in_context else "single": loss}


@dataclass
class RefAny3DObjective:
    """The published objective: MSE on both velocities at the same t, guidance 1 (METHOD fact
    48)."""

    config: RefAny3DConfig
    model: Flux
    text: TextEncoder
    adapters: Adapters
    data: TripletTokens
    grid: tuple[int, int]
    sequence: Sequence = field(init=False)

    def __post_init__(self) -> None:
        views = self.data.views
        self.sequence = variant_sequence(self.config, self.grid, views.shape[2], views.device)

    def __call__(self, step: int) -> tuple[Tensor, Values]:
        config, data = self.config, self.data
        device = data.views.device
        copies = config.shared_targets or 1
        asset = torch.randint(len(data.views), (config.batch // copies,), device=device)
        views = drop(data.views[asset], data.black, config.reference_drop)
        asset = asset.repeat_interleave(copies)
        scene = torch.randint(data.targets.shape[1], asset.shape, device=device)
        caption = drop(data.captions[asset, scene], data.empty, config.text_drop)
        t = logit_normal(len(asset), device)
        return self.loss(data.targets[asset, scene], views, caption, t)

    def loss(
        self, targets: Tensor, views: Tensor, caption: Tensor, t: Tensor
    ) -> tuple[Tensor, Values]:
        """Loss of given samples.

        Args:
            targets: [B, 2, T, 64].
            views: [B, 2, n, T, 64], or fewer: each then serves B / len(views) targets in a row.
            caption: int64 [B, text].
            t: [B].
        """
        with torch.no_grad():
            context, pooled = self.text(caption)
        rgb, rgb_velocity = noisy(targets[:, 0], t)
        point_map, map_velocity = noisy(targets[:, 1], t)
        deltas, domain_tokens = self.adapters.deltas(), self.adapters.domain_tokens()
        sequence, guidance, memory = self.sequence, torch.ones_like(t), None
        ordered = partial(order_tokens, point_maps=self.config.point_maps)
        if self.config.shared_targets:
            memory = ReferenceMemory(len(t) // len(views))
            sequence, references = split_sequence(sequence)
            rows = slice(None, None, memory.copies)
            nothing = rgb[:1, :0].expand(len(views), -1, -1)
            self.model(
                references,
                ordered(nothing, nothing, views.float()),
                context[rows, :0],
                pooled[rows],
                t[rows],
                guidance[rows],
                deltas,
                domain_tokens,
                memory,
            )
            views = targets[:, :, None, :0]
        predicted = self.model(
            sequence,
            ordered(rgb, point_map, views.float()),
            context,
            pooled,
            t,
            guidance,
            deltas,
            domain_tokens,
            memory,
        ).float()
        n = rgb.shape[1]
        rgb_loss = F.mse_loss(predicted[:, :n], rgb_velocity)
        if not self.config.point_maps:
            return rgb_loss, {"rgb": rgb_loss}
        map_loss = F.mse_loss(predicted[:, n:], map_velocity)
        return rgb_loss + map_loss, {"rgb": rgb_loss, "map": map_loss}
