"""What a run shows while it trains: grids of held-out samples and a few numbers about them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .autoencoder import Autoencoder
from .transformer import unpack
from .world.assets import AssetTable
from .world.solids import Solids

log = logging.getLogger(__name__)

MAP_THRESHOLD = 0.92
"""A map pixel whose darkest channel is below this lies on the asset; the background is white."""
MEAN_SHADE = 0.9
"""Mean of the world's shading, scenes.shade."""


def decode_tokens(model: Autoencoder, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Packed tokens [..., T, 64] to pictures [..., 3, H, W] in 0..1."""
    latents = unpack(tokens.float(), *grid)
    pictures = model.decode(latents.reshape(-1, *latents.shape[-3:])).float().clamp(0, 1)
    return pictures.reshape(*tokens.shape[:-2], *pictures.shape[-3:])


def save_grid(path: Path, rows: Tensor) -> None:
    """Write pictures [rows, columns, 3, H, W] in 0..1 as one PNG."""
    from PIL import Image

    image = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    image = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def pair_measures(rgb: Tensor, point_map: Tensor, assets: AssetTable) -> Mapping[str, float]:
    """How well sampled pairs show their assets.

    Args:
        rgb, point_map: pictures [B, 3, H, W] in 0..1.
        assets: the B assets that were the references.

    Returns:
        colour_error: mean |rgb - colour of the asset at the mapped point| inside the map's subject;
        colour_error_other: the same against another asset of the set; map_distance: mean distance
        of mapped points to the asset's surface, in units of half its longest side; coverage: share
        of the picture that is subject.
    """
    inside = (point_map.amin(1) < MAP_THRESHOLD).flatten(1)
    colour, values = (x.flatten(2).transpose(1, 2) for x in (rgb, point_map))
    mean = lambda x: float((x * inside).sum() / inside.sum().clamp_min(1))
    solids = Solids(assets, rgb.device)
    distance, truth = solids.nearest_surface(solids.to_position(values))
    other = Solids(assets[np.roll(np.arange(len(assets)), 1)], rgb.device)
    _, wrong = other.nearest_surface(other.to_position(values))
    return {
        "colour_error": mean((colour - truth * MEAN_SHADE).abs().mean(-1)),
        "colour_error_other": mean((colour - wrong * MEAN_SHADE).abs().mean(-1)),
        "map_distance": mean(distance),
        "coverage": float(inside.float().mean()),
    }
