"""Pose lock: a joint latent whose point map is given, and held while sampling."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

from .joint import encode_panel, join_latents, panel_mask
from .latents import Latent


def locked_joint_latent(
    node: str, vae: Any, point_maps: torch.Tensor, strength: float, batch_size: int = 1
) -> Latent:
    """A joint LATENT with empty image panels and given point maps.

    Args:
        node: for messages.
        vae: FLUX's VAE.
        point_maps: IMAGE [n, H, W, 3] in 0..1.
        strength: 1 holds the maps at every step; below, every step keeps this part of them and
            takes the rest from the model.
        batch_size: how many images of each map.

    Raises:
        ValueError: the VAE is not FLUX's.
    """
    panels = encode_panel(node, vae, point_maps).repeat_interleave(batch_size, dim=0)
    mask = torch.full_like(panels[:, :1], 1.0 - strength)
    image = {"samples": torch.zeros_like(panels), "noise_mask": torch.ones_like(mask)}
    return join_latents(image, {"samples": panels, "noise_mask": mask})


def placed_joint_latent(
    node: str,
    vae: Any,
    picture: torch.Tensor,
    mask: torch.Tensor,
    point_map: torch.Tensor,
    strength: float,
    batch_size: int = 1,
) -> Latent:
    """A joint LATENT of a picture that may change inside a mask, and a given point map.

    Args:
        node: for messages.
        vae: FLUX's VAE.
        picture: IMAGE [1, H, W, 3] in 0..1, where sampling starts and what stays outside the mask.
        mask: float [H, W] in 0..1: how freely each pixel changes.
        point_map: IMAGE [1, H, W, 3] in 0..1.
        strength: of the point map, as for `locked_joint_latent`.
        batch_size: how many images.

    Raises:
        ValueError: the VAE is not FLUX's.
    """
    locked = locked_joint_latent(node, vae, point_map, strength, batch_size)
    samples, noise_mask = locked["samples"], locked["noise_mask"]
    half = samples.shape[-1] // 2
    samples[..., :half] = encode_panel(node, vae, picture).to(samples)
    noise_mask[..., :half] = panel_mask(mask).to(noise_mask)
    return locked


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
