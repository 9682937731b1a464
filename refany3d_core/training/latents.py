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
from .text import Tokenizer
from .transformer import pack
from .world.assets import AssetTable, make_assets
from .world.render import render_targets, render_views
from .world.scenes import MAP_TEMPLATE, SceneTable, random_scenes

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


def scenes_of(config: WorldConfig, split: str, start: int, count: int) -> SceneTable:
    """count * config.scenes scenes, those of one asset one after another."""
    held_out = int(split == "held_out")
    rng = np.random.default_rng([config.seed, 1000 + held_out, start])
    return random_scenes(rng, count * config.scenes)


@torch.no_grad()
def encode_world(
    config: WorldConfig,
    assets: AssetTable,
    split: str,
    model: Autoencoder,
    tokenizer: Tokenizer,
    device: torch.device,
    dtype: torch.dtype,
) -> TripletTokens:
    """Render and encode all triplets of the assets, chunk by chunk."""
    views, targets, captions = [], [], []
    began = time.monotonic()
    for start in range(0, len(assets), config.chunk):
        if device.type == "cuda":
            torch.cuda.synchronize()  # so that the clock tells the truth
        if config.encode_seconds and start and time.monotonic() - began > config.encode_seconds:
            log.warning("encoded %d of %d assets in the time allowed", start, len(assets))
            assets = assets[slice(start)]
            break
        part = assets[slice(start, start + config.chunk)]
        scenes = scenes_of(config, split, start, len(part))
        repeated = part[np.repeat(np.arange(len(part)), config.scenes)]
        pictures = render_views(part, config.views, config.resolution, device)
        both = torch.stack([pictures.rgb, pictures.point_map], 1)
        views.append(encode_pictures(model, both).to(dtype))
        encoded = []
        for i in range(0, len(repeated), config.chunk):
            rows = slice(i, i + config.chunk)
            pictures = render_targets(repeated[rows], scenes[rows], config.resolution, device)
            both = torch.stack([pictures.rgb, pictures.point_map], 1)
            encoded.append(encode_pictures(model, both).to(dtype))
        targets.append(torch.cat(encoded).unflatten(0, (len(part), config.scenes)))
        captions += [tokenizer(c) for c in scenes.captions(repeated)]
    black = torch.zeros(3, config.resolution, config.resolution, dtype=torch.uint8, device=device)
    maps = [tokenizer(MAP_TEMPLATE.format(kind=assets.name(i))) for i in range(len(assets))]
    return TripletTokens(
        torch.cat(views),
        torch.cat(targets),
        torch.tensor(captions, device=device).unflatten(0, (len(assets), config.scenes)),
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
