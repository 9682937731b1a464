"""Training triplets as pictures: an image, its caption, its point map, and views of its asset.

A source is any iterable of TripletPictures: the procedural world rendered as it is asked for
(here), shards on disk (`shards`), or the published layout (`published`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .config import WorldConfig
from .world.assets import AssetTable
from .world.render import render_targets, render_views
from .world.scenes import SceneTable, random_scenes


@dataclass(frozen=True)
class TripletPictures:
    """A chunk of A assets in S scenes each.

    Attributes:
        views: uint8 [A, 2, n, 3, H, W], domain RGB then map.
        targets: uint8 [A, S, 2, 3, H, W], RGB then map.
        captions: S captions for each asset.
        kinds: a word or two for each asset.
    """

    views: Tensor
    targets: Tensor
    captions: list[list[str]]
    kinds: list[str]


Source = Iterable[TripletPictures]


def scenes_of(config: WorldConfig, split: str, start: int, count: int) -> SceneTable:
    """count * config.scenes scenes, those of one asset one after another."""
    held_out = int(split == "held_out")
    rng = np.random.default_rng([config.seed, 1000 + held_out, start])
    return random_scenes(rng, count * config.scenes)


def world_source(
    config: WorldConfig, assets: AssetTable, split: str, device: torch.device
) -> Iterator[TripletPictures]:
    """The procedural world, `config.chunk` assets at a time."""
    for start in range(0, len(assets), config.chunk):
        part = assets[slice(start, start + config.chunk)]
        yield world_chunk(config, part, scenes_of(config, split, start, len(part)), device)


def world_chunk(
    config: WorldConfig, assets: AssetTable, scenes: SceneTable, device: torch.device
) -> TripletPictures:
    """Views of the assets, and the assets in their scenes (`config.scenes` of each in a row)."""
    repeated = assets[np.repeat(np.arange(len(assets)), config.scenes)]
    pictures = render_views(assets, config.views, config.resolution, device)
    views = torch.stack([pictures.rgb, pictures.point_map], 1)
    targets = []
    for i in range(0, len(repeated), config.chunk):
        rows = slice(i, i + config.chunk)
        pictures = render_targets(repeated[rows], scenes[rows], config.resolution, device)
        targets.append(torch.stack([pictures.rgb, pictures.point_map], 1))
    captions = scenes.captions(repeated.names())
    return TripletPictures(
        views,
        torch.cat(targets).unflatten(0, (len(assets), config.scenes)),
        [captions[i : i + config.scenes] for i in range(0, len(captions), config.scenes)],
        assets.names(),
    )
