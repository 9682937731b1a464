"""Sampling with the trainer's own transformer: the published schedule, Euler steps, image
guidance."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..method.guidance import IMAGE_GUIDANCE, TARGET_GUIDANCE, published_sigmas
from .adapters import Adapters
from .objectives import order_tokens
from .sequence import ReferenceMemory, Sequence, split_sequence
from .transformer import Flux


@torch.no_grad()
def sample_picture(
    model: Flux, sequence: Sequence, context: Tensor, pooled: Tensor, noise: Tensor, steps: int
) -> Tensor:
    """Text to image with the base alone: clean tokens [B, T, 64] from noise of the same shape."""
    x = noise
    sigmas = published_sigmas(steps, noise.shape[1]).tolist()
    for now, after in zip(sigmas, sigmas[1:]):
        t = torch.full((len(x),), now, device=x.device)
        velocity = model(sequence, x, context, pooled, t, torch.full_like(t, TARGET_GUIDANCE))
        x = x + (after - now) * velocity.float()
    return x


@torch.no_grad()
def sample_pair(
    model: Flux,
    adapters: Adapters,
    sequence: Sequence,
    context: Tensor,
    pooled: Tensor,
    views: Tensor,
    black: Tensor,
    noise: Tensor,
    steps: int,
    image_guidance: float = IMAGE_GUIDANCE,
    isolated_references: bool = False,
) -> Tensor:
    """Image and point map, denoised side by side (METHOD facts 23-26).

    Args:
        model, adapters: what was trained.
        sequence: layout of the conditional pass.
        context, pooled: encoded captions [B, text, C], [B, P].
        views: references [B, 2, n, T, 64].
        black: tokens of a black picture [T, 64], the references of the negative pass.
        noise: [B, 2, T, 64], RGB then map.
        steps: Euler steps.
        image_guidance: s; 1 leaves the negative pass out.
        isolated_references: references see only their own pair, once for all steps, as a model
            trained with `shared_targets` knows them (METHOD fact 30).

    Returns:
        Clean tokens [B, 2, T, 64]; the map is noise where the model has no point-map branch.
    """
    x = noise
    maps = sequence.layout.point_maps
    deltas, domain_tokens = adapters.deltas(), adapters.domain_tokens()
    open_sequence = dataclasses.replace(sequence, isolated=False)
    empty = black.expand_as(views)
    memory = None
    if isolated_references:
        memory = ReferenceMemory(1)
        sequence, alone = split_sequence(sequence)
        nothing = noise[:, 0, :0]
        t = torch.zeros(len(noise), device=noise.device)
        model(
            alone, order_tokens(nothing, nothing, views, maps), context[:, :0], pooled, t,
            torch.full_like(t, TARGET_GUIDANCE), deltas, domain_tokens, memory,
        )  # fmt: skip
        views = views[:, :, :0]
    sigmas = published_sigmas(steps, noise.shape[2]).tolist()
    for now, after in zip(sigmas, sigmas[1:]):
        t = torch.full((len(x),), now, device=x.device)

        def velocity(
            sequence: Sequence, references: Tensor, memory: ReferenceMemory | None = None
        ) -> Tensor:
            tokens = order_tokens(x[:, 0], x[:, 1], references, maps)
            guidance = torch.full_like(t, TARGET_GUIDANCE)
            out = model(
                sequence, tokens, context, pooled, t, guidance, deltas, domain_tokens, memory
            ).float()
            out = out.unflatten(1, (-1, x.shape[2]))
            return out if maps else torch.cat([out, torch.zeros_like(out)], 1)

        v = velocity(sequence, views, memory)
        if image_guidance != 1:
            negative = velocity(open_sequence, empty)
            v = negative + image_guidance * (v - negative)
        x = x + (after - now) * v
    return x
