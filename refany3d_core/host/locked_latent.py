"""Pose lock: a joint latent whose point map is given, and held while sampling."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

from .latents import Latent, empty_joint_latent


def locked_joint_latent(
    vae: Any, point_map: torch.Tensor, strength: float, batch_size: int
) -> Latent:
    """A joint LATENT with an empty image panel and a given point map.

    Args:
        vae: FLUX's VAE.
        point_map: IMAGE [1, H, W, 3] in 0..1.
        strength: 1 holds the map at every step; below, every step keeps this part of it and takes
            the rest from the model.
        batch_size: how many images.

    Raises:
        ValueError: the VAE is not FLUX's.
    """
    height, width = point_map.shape[1:3]
    latent = empty_joint_latent(width, height, batch_size)
    samples = latent["samples"]
    panel = vae.encode(point_map)
    expected = (1, samples.shape[1], samples.shape[2], samples.shape[3] // 2)
    if tuple(panel.shape) != expected:
        raise ValueError(
            f"Lock Pose: 'vae' makes a latent of {tuple(panel.shape)} from the point map, FLUX's "
            f"makes {expected}; load FLUX's VAE (ae.safetensors)"
        )
    half = samples.shape[-1] // 2
    samples[..., half:] = panel.to(samples)
    mask = torch.ones_like(samples[:, :1])
    mask[..., half:] = 1.0 - strength
    return {"samples": samples, "noise_mask": mask}


def release_below(model: ModelPatcher, sigma: float) -> ModelPatcher:
    """A clone of the model that heeds a noise mask only down to a noise level.

    Below, everything is denoised, so that the map can settle to what the image became.
    """
    released = model.clone()
    outer = model.model_options.get("denoise_mask_function")

    def mask_at(
        level: torch.Tensor, mask: torch.Tensor, extra_options: dict[str, Any]
    ) -> torch.Tensor:
        if float(level.max()) < sigma:
            return torch.ones_like(mask)
        return outer(level, mask, extra_options=extra_options) if outer else mask

    released.set_model_denoise_mask_function(mask_at)
    return released
