"""The encoded training set: tokens of references and targets, kept on the device."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .autoencoder import Autoencoder
from .config import WorldConfig
from .dataset import Source
from .text import Tokenizer
from .transformer import pack
from .world.assets import make_assets
from .world.render import render_targets, render_views
from .world.scenes import MAP_TEMPLATE, random_scenes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TripletTokens:
    """N assets in S scenes each.

    Attributes:
        views: [N, 2, n, T, 64], domain RGB then map; T tokens a picture.
        targets: [N, S, 2, T, 64].
        captions: int64 [N, S, text tokens].
        map_captions: int64 [N, text tokens].
        empty: int64 [text tokens], the empty caption.
        black: [T, 64], a black picture.
    """

    views: Tensor
    targets: Tensor
    captions: Tensor
    map_captions: Tensor
    empty: Tensor
    black: Tensor


def encode_pictures(model: Autoencoder, pictures: Tensor) -> Tensor:
    """uint8 pictures [..., 3, H, W] to packed tokens [..., T, 64]."""
    flat = pictures.reshape(-1, *pictures.shape[-3:]).float() / 255
    flat = flat.to(memory_format=torch.channels_last)
    latents = pack(model.encode(flat).contiguous())
    return latents.reshape(*pictures.shape[:-3], *latents.shape[-2:])


@torch.no_grad()
def encode_triplets(
    source: Source,
    model: Autoencoder,
    tokenizer: Tokenizer,
    device: torch.device,
    dtype: torch.dtype,
    seconds: float = 0.0,
) -> TripletTokens:
    """Encode all triplets of a source, chunk by chunk.

    Args:
        source: the pictures.
        model: the autoencoder.
        tokenizer: for the captions.
        device: where the tokens are kept.
        dtype: of the tokens.
        seconds: stop after that long, with what there is; 0 for no limit.

    Raises:
        ValueError: the source is empty.
    """
    views, targets, captions, maps = [], [], [], []
    began, side = time.monotonic(), 0
    for chunk in source:
        side = chunk.views.shape[-1]
        views.append(encode_pictures(model, chunk.views.to(device)).to(dtype))
        targets.append(encode_pictures(model, chunk.targets.to(device)).to(dtype))
        captions += [[tokenizer(c) for c in scenes] for scenes in chunk.captions]
        maps += [tokenizer(MAP_TEMPLATE.format(kind=kind)) for kind in chunk.kinds]
        if device.type == "cuda":
            torch.cuda.synchronize()  # so that the clock tells the truth
        if seconds and time.monotonic() - began > seconds:
            log.warning("encoded %d assets in the time allowed", len(captions))
            break
    if not views:
        raise ValueError("the training set is empty")
    black = torch.zeros(3, side, side, dtype=torch.uint8, device=device)
    return TripletTokens(
        torch.cat(views),
        torch.cat(targets),
        torch.tensor(captions, device=device),
        torch.tensor(maps, device=device),
        torch.tensor(tokenizer(""), device=device),
        encode_pictures(model, black).to(dtype),
    )


@torch.no_grad()
def picture_pool(config: WorldConfig, count: int, device: torch.device) -> Tensor:
    """Pictures of both domains for the autoencoder, uint8 [P, 3, H, W]."""
    assets = make_assets(config.seed, "train", count)
    pool = []
    for start in range(0, count, config.chunk):
        part = assets[slice(start, start + config.chunk)]
        rng = np.random.default_rng([config.seed, 2000, start])
        views = render_views(part, 2, config.resolution, device)
        pool += [views.rgb.flatten(0, 1), views.point_map[:, 0]]
        for _ in range(4):
            pictures = render_targets(
                part, random_scenes(rng, len(part)), config.resolution, device
            )
            pool += [pictures.rgb, pictures.point_map]
    black = torch.zeros_like(pool[0][:1]).expand(max(1, count // 50), -1, -1, -1)
    return torch.cat([*pool, black])
