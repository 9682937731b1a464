"""Joint latents out of two panels that are given: encoded, masked, joined."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from ..reference import LATENT_CHANNELS
from .latents import VAE_PIXELS, Latent


def encode_panel(node: str, vae: Any, picture: Tensor) -> Tensor:
    """The latents [B, 16, H / 8, W / 8] of pictures [B, H, W, 3] in 0..1.

    Raises:
        ValueError: the VAE is not FLUX's.
    """
    panel = vae.encode(picture[..., :3])
    height, width = picture.shape[1:3]
    expected = (len(picture), LATENT_CHANNELS, height // VAE_PIXELS, width // VAE_PIXELS)
    if tuple(panel.shape) != expected:
        raise ValueError(
            f"{node}: 'vae' makes a latent of {tuple(panel.shape)} from a picture, FLUX's makes "
            f"{expected}; load FLUX's VAE (ae.safetensors)"
        )
    return panel


def panel_mask(mask: Tensor) -> Tensor:
    """A mask [h, w] over pixels as one over latents, [1, 1, h / 8, w / 8]: a cell is as free as
    the freest of its pixels, so that nothing of what may change is held."""
    return adaptive_max_pool2d(mask[None, None], [side // VAE_PIXELS for side in mask.shape])


def join_latents(image: Latent, point_map: Latent) -> Latent:
    """One joint LATENT of two, image left, point map right, their noise masks joined.

    Args:
        image: LATENT [B, 16, h, w], with or without a noise mask, which may have any size.
        point_map: likewise, of the same height and width; one latent serves a whole batch.

    Raises:
        ValueError: they are no latents of FLUX, do not fit, or nothing in them may change.
    """
    for name, latent in (("image", image), ("point_map", point_map)):
        shape = tuple(latent["samples"].shape)
        if len(shape) != 4 or shape[1] != LATENT_CHANNELS:
            raise ValueError(
                f"Join Joint Latent: '{name}' is {shape}, FLUX's latents have 16 channels; encode "
                "the picture with VAE Encode and FLUX's VAE"
            )
    left, right = image["samples"], point_map["samples"]
    if left.shape[2:] != right.shape[2:]:
        sizes = [f"{x.shape[3] * VAE_PIXELS}x{x.shape[2] * VAE_PIXELS}" for x in (left, right)]
        raise ValueError(
            f"Join Joint Latent: 'image' is {sizes[0]} pixels, 'point_map' {sizes[1]}; make both "
            "the same size before VAE Encode"
        )
    count = max(len(left), len(right))
    if {len(left), len(right)} - {1, count}:
        raise ValueError(
            f"Join Joint Latent: 'image' holds {len(left)} latents, 'point_map' {len(right)}; give "
            "as many of both, or one of one"
        )
    panels = [comfy.utils.repeat_to_batch_size(x, count) for x in (left, right.to(left))]
    joint = {"samples": torch.cat(panels, dim=-1)}
    given = [latent.get("noise_mask") for latent in (image, point_map)]
    if all(mask is None for mask in given):
        return joint
    shape = (count, 1, *left.shape[2:])
    masks = [
        left.new_ones(shape) if mask is None else comfy.utils.reshape_mask(mask, shape).to(left)
        for mask in given
    ]
    joint["noise_mask"] = torch.cat(masks, dim=-1)
    if not (joint["noise_mask"] > 0).any():
        raise ValueError(
            "Join Joint Latent: the noise masks of 'image' and 'point_map' are empty, so nothing "
            "would be sampled; paint white where the picture may change"
        )
    return joint
