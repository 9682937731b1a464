"""Run the method with the host's own samplers."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher

from ..method.guidance import published_sigmas
from .conditioning import Conditioning
from .latents import TOKEN_PIXELS, Latent

PUBLISHED_SCHEDULE = "refany3d"
"""Name of the published schedule in the scheduler combo."""


def schedulers() -> list[str]:
    """The published schedule, then the host's."""
    return [PUBLISHED_SCHEDULE, *comfy.samplers.SCHEDULER_NAMES]


def sigmas(
    model: ModelPatcher,
    scheduler: str,
    steps: int,
    width: int,
    height: int,
    denoise: float = 1.0,
) -> torch.Tensor:
    """Noise levels [steps + 1] of a scheduler for a picture of width x height pixels.

    With `denoise` below 1 they are the last ones of a schedule with steps / denoise steps, as in
    the host's KSampler.

    Raises:
        ValueError: the scheduler gives no noise for so few steps.
    """
    total = max(steps, int(steps / denoise))
    if scheduler == PUBLISHED_SCHEDULE:
        tokens = (width // TOKEN_PIXELS) * (height // TOKEN_PIXELS)
        return published_sigmas(total, tokens)[-(steps + 1) :]
    sampling = model.get_model_object("model_sampling")
    levels = comfy.samplers.calculate_sigmas(sampling, scheduler, total)[-(steps + 1) :]
    if not levels[0] > 0:  # NaN included
        raise ValueError(
            f"RefAny3D Sampler: scheduler '{scheduler}' gives no noise to start from with steps "
            f"{steps}; raise steps, or choose another scheduler"
        )
    return levels


def sample_joint(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    latent: Latent,
    levels: torch.Tensor,
    image_guidance: float,
    sampler_name: str,
    seed: int,
) -> Latent:
    """Denoise a joint latent, with the host's preview, progress and interrupt.

    Args:
        model: patched by `patch_model`.
        positive: conditioning with the references.
        negative: conditioning with the black pair.
        latent: joint LATENT; its noise_mask, if any, holds what it covers with 0.
        levels: noise levels, falling.
        image_guidance: scale s of u + s (c - u); 1 leaves the unconditional pass out.
        sampler_name: one of the host's samplers.
        seed: of the noise.
    """
    samples = latent["samples"]
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    callback = latent_preview.prepare_callback(model, len(levels) - 1)
    samples = comfy.sample.sample_custom(
        model,
        noise,
        image_guidance,
        comfy.samplers.sampler_object(sampler_name),
        levels,
        positive,
        negative,
        samples,
        noise_mask=latent.get("noise_mask"),
        callback=callback,
        seed=seed,
    )
    return {**latent, "samples": samples}
