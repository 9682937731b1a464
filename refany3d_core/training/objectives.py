"""Flow matching on both targets: what a training step minimises (METHOD facts 48 and 51)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..host.train import TrainingForward
from ..host.transformer import Inputs
from ..method.guidance import REFERENCE_GUIDANCE

TRAINING_GUIDANCE = REFERENCE_GUIDANCE
"""Distilled guidance of every branch in training (METHOD fact 48)."""

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """B samples of A assets, B a multiple of A; latents are in the transformer's space.

    Attributes:
        targets: clean latents [B, 2, 16, h, w], RGB then map.
        references: clean latents [A, 2, n, 16, hr, wr].
        context: text tokens [B, T, C].
        pooled: pooled text [B, V].
        t: noise levels [B] in 0..1, one for both targets.
        noise: [B, 2, 16, h, w], independent for the two targets.
    """

    targets: Tensor
    references: Tensor
    context: Tensor
    pooled: Tensor
    t: Tensor
    noise: Tensor


def noisy(clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, velocity): x_t = (1 - t) x_0 + t noise, velocity = noise - x_0 (METHOD fact 48)."""
    share = t.view(-1, *[1] * (clean.ndim - 1))
    return clean + (noise - clean) * share, noise - clean


def refany3d_loss(
    forward: TrainingForward, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, Values]:
    """Mean squared error of both velocities, equal weights, their sum (METHOD fact 48).

    Args:
        forward: the pass; batch.references of fewer assets than targets are shared among them.
        batch: the samples.
        dtype: of the transformer's inputs.

    Returns:
        The loss, and its parts "rgb" and "map" for the log.
    """
    x, velocity = noisy(batch.targets, batch.noise, batch.t)
    joint = torch.cat(x.unbind(1), dim=-1)
    views, maps = batch.references.unbind(1)
    references = [*views.unbind(1), *maps.unbind(1)]
    inputs = Inputs(
        joint.to(dtype),
        batch.t,
        batch.context.to(dtype),
        batch.pooled.to(dtype),
        torch.full_like(batch.t, TRAINING_GUIDANCE),
        [latent.to(dtype) for latent in references],
    )
    assets, samples = len(batch.references), len(batch.targets)
    predicted = forward(inputs, copies=samples // assets if assets < samples else 0).float()
    rgb, point_map = predicted.chunk(2, dim=-1)
    rgb_loss = F.mse_loss(rgb, velocity[:, 0])
    if not forward.components.point_maps:
        return rgb_loss, {"rgb": rgb_loss}
    map_loss = F.mse_loss(point_map, velocity[:, 1])
    return rgb_loss + map_loss, {"rgb": rgb_loss, "map": map_loss}
