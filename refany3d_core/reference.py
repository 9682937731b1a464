"""The encoded reference that travels between nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


LATENT_CHANNELS = 16
"""Channels of FLUX's latents: what its VAE makes of a picture."""


@dataclass(frozen=True)
class Reference:
    """Latents of an asset's n reference views, their point maps and the black image.

    Attributes:
        view_latents: float tensor [n, 16, h, w], the RGB views.
        point_map_latents: float tensor [n, 16, h, w], their point maps, in the same order.
        empty_latent: float tensor [1, 16, h, w], a black image of the same size: the reference of
            the unconditional pass (METHOD fact 24 and 34).
        object_tokens: bool tensor [n, h / 2, w / 2], the tokens that show the object, or None
            where nothing is known of it.

    The latents are as the VAE node gives them, before the model's own latent scaling.
    """

    view_latents: torch.Tensor
    point_map_latents: torch.Tensor
    empty_latent: torch.Tensor
    object_tokens: torch.Tensor | None = None
