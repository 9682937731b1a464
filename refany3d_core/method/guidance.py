"""Image guidance and the sampling schedule.

The prediction of both targets is u + s (c - u): c with the asset's references, u with references
of a black image and the same text (paper, section 3.4; METHOD fact 24). That is ordinary
classifier-free guidance whose negative conditioning carries the black references, so any CFG
sampler applies it; s is the sampler's cfg.
"""

from __future__ import annotations

import math

import torch

IMAGE_GUIDANCE = 2.0
"""The published image guidance scale s."""
TARGET_GUIDANCE = 3.5
"""Distilled guidance of text and targets in the published demo."""
REFERENCE_GUIDANCE = 1.0
"""Distilled guidance of the references (METHOD fact 2)."""
REFERENCE_TIMESTEP = 0.0
"""References are clean (METHOD fact 2)."""

_BASE_TOKENS, _MAX_TOKENS = 256, 4096
_BASE_SHIFT, _MAX_SHIFT = 0.5, 1.15


def published_sigmas(steps: int, target_tokens: int) -> torch.Tensor:
    """The published schedule: linspace(1, 1 / steps) with the resolution-dependent exponential
    shift.

    sigma' = e^mu / (e^mu + 1 / sigma - 1), mu linear in the tokens of one target from 0.5 at 256 to
    1.15 at 4096, 0.63 at 512 x 512 px (METHOD fact 25).

    Args:
        steps: number of steps, at least 1.
        target_tokens: tokens of one target, (height / 16) * (width / 16) in pixels.

    Returns:
        float32 [steps + 1], falling from 1 to 0.
    """
    slope = (_MAX_SHIFT - _BASE_SHIFT) / (_MAX_TOKENS - _BASE_TOKENS)
    mu = _BASE_SHIFT + slope * (target_tokens - _BASE_TOKENS)
    sigmas = torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)
    sigmas = math.exp(mu) / (math.exp(mu) + 1.0 / sigmas - 1.0)
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()
