"""Joint latents: RGB image and point map as two panels side by side."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch

from ..method.trimming import object_tokens
from ..reference import LATENT_CHANNELS, Reference

TOKEN_PIXELS = 16
"""Pixels a side of one token: 8 of the VAE times the patch of 2."""
MIN_PIXELS = 64
MAX_PIXELS = 4096

VAE_PIXELS = 8
"""Pixels a side of one latent."""

Latent = dict[str, Any]


def check_size(node: str, width: int, height: int) -> None:
    """Raise ValueError unless width and height (pixels of one panel) are in range and whole tokens.

    Nodes that check them in validate_inputs switch off the host's own check of the range.
    """
    for name, size in (("width", width), ("height", height)):
        if not MIN_PIXELS <= size <= MAX_PIXELS or size % TOKEN_PIXELS:
            whole = round(size / TOKEN_PIXELS) * TOKEN_PIXELS
            nearest = min(max(MIN_PIXELS, whole), MAX_PIXELS)
            raise ValueError(
                f"{node}: {name} is {size}, but has to be a multiple of {TOKEN_PIXELS} from "
                f"{MIN_PIXELS} to {MAX_PIXELS}; use {nearest}"
            )


def empty_joint_latent(width: int, height: int, batch_size: int) -> Latent:
    """Empty LATENT [batch_size, 16, height / 8, 2 * width / 8], for pixels of one panel."""
    shape = (batch_size, LATENT_CHANNELS, height // VAE_PIXELS, 2 * width // VAE_PIXELS)
    return {"samples": torch.zeros(shape, device=comfy.model_management.intermediate_device())}


def joint_size(latent: Latent) -> tuple[int, int]:
    """Width and height in pixels of one panel of a joint LATENT.

    Raises:
        ValueError: it is not a joint latent.
    """
    samples = latent["samples"]
    if samples.ndim != 4 or samples.shape[1] != LATENT_CHANNELS or samples.shape[-1] % 2:
        raise ValueError(
            f"'latent' is {tuple(samples.shape)}, not a joint latent of 16 "
            "channels with two panels; connect Lock Pose's or Place in Photo's latent, or nothing"
        )
    return samples.shape[-1] // 2 * VAE_PIXELS, samples.shape[-2] * VAE_PIXELS


def as_joint_latent(latent: Latent, width: int, height: int) -> Latent:
    """A joint LATENT whose noise mask, if it is of the image's size, leaves the point map free.

    Args:
        latent: as a user connected it.
        width: of one picture in pixels, as the node is set.
        height: likewise.

    Raises:
        ValueError: it is one picture of that size, without a point map.
    """
    samples, mask = latent["samples"], latent.get("noise_mask")
    if samples.shape[-2:] == (height // VAE_PIXELS, width // VAE_PIXELS):
        raise ValueError(
            f"'latent' is one picture of {width}x{height} pixels, not an image and its point map "
            "side by side; join both with Join Joint Latent, or connect nothing"
        )
    if mask is None:
        return latent
    panel = samples.shape[-1] / 2 / samples.shape[-2]
    ratio = mask.shape[-1] / mask.shape[-2]
    if abs(ratio - panel) < abs(ratio - 2 * panel):
        mask = torch.cat([mask, torch.ones_like(mask)], dim=-1)
    return {**latent, "noise_mask": mask}


def split_joint_latent(latent: Latent) -> tuple[Latent, Latent]:
    """The two panels of a joint LATENT.

    Raises:
        ValueError: the latent is not two panels wide.
    """
    samples = latent["samples"]
    if samples.ndim != 4 or samples.shape[-1] % 2:
        raise ValueError(
            f"Split Joint Latent: 'latent' is {tuple(samples.shape)}, not an RGB and a point-map "
            "panel side by side; connect the sampler that ran on Apply RefAny3D's latent"
        )
    rgb, point_map = samples.chunk(2, dim=-1)
    return {"samples": rgb.contiguous()}, {"samples": point_map.contiguous()}


def encode_references(vae: Any, views: torch.Tensor, point_maps: torch.Tensor) -> Reference:
    """Encode n views, their point maps and one black image.

    Args:
        vae: FLUX's VAE.
        views: IMAGE [n, H, W, 3] in 0..1.
        point_maps: IMAGE [n, H, W, 3] in 0..1, of the same views.

    Raises:
        ValueError: views and maps do not belong together, or the VAE is not FLUX's.
    """
    _check_views(views, point_maps)
    count = len(views)
    black = torch.zeros_like(views[:1, ..., :3])
    pictures = torch.cat([views[..., :3], point_maps[..., :3], black])
    latents = vae.encode(pictures)
    expected = (LATENT_CHANNELS, pictures.shape[1] // VAE_PIXELS, pictures.shape[2] // VAE_PIXELS)
    if tuple(latents.shape[1:]) != expected:
        raise ValueError(
            f"Point Map Encode: 'vae' makes latents of {tuple(latents.shape[1:])} from these "
            f"views, FLUX's makes {expected}; load FLUX's VAE (ae.safetensors)"
        )
    shown = object_tokens(point_maps, TOKEN_PIXELS)
    return Reference(latents[:count], latents[count : 2 * count], latents[2 * count :], shown)


def _check_views(views: torch.Tensor, point_maps: torch.Tensor) -> None:
    remedy = "render both with the same Render Reference Views node"
    if len(views) != len(point_maps):
        raise ValueError(
            f"Point Map Encode: there are {len(views)} views but {len(point_maps)} point_maps; "
            f"{remedy}"
        )
    if views.shape[1:3] != point_maps.shape[1:3]:
        sizes = [f"{x.shape[2]}x{x.shape[1]}" for x in (views, point_maps)]
        raise ValueError(
            f"Point Map Encode: views are {sizes[0]} but point_maps are {sizes[1]}; {remedy}"
        )
    height, width = views.shape[1:3]
    if height % TOKEN_PIXELS or width % TOKEN_PIXELS:
        raise ValueError(
            f"Point Map Encode: views are {width}x{height}, but both have to be multiples of "
            f"{TOKEN_PIXELS}; choose such a resolution in Render Reference Views"
        )
