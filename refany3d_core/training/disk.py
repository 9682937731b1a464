"""A training set on disk, in either of its layouts."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from .config import DatasetConfig, WorldConfig
from .dataset import Source
from .published import INDEX, published_source, read_records
from .shards import shard_source, shard_texts


class Dataset:
    """Shards that `build` wrote, or the published layout.

    Args:
        config: where it lies.
        world: resolution and number of views that are trained with.

    Raises:
        ValueError: records of the published layout are faulty.
    """

    def __init__(self, config: DatasetConfig, world: WorldConfig) -> None:
        self.folder, self.world = Path(config.path), world
        self.records = None
        if (self.folder / INDEX).exists():
            self.records = read_records(self.folder, world.views, config.skip_faulty)

    def source(self, split: str) -> Source:
        """The pictures of a split, "train" or "held_out"."""
        if self.records is None:
            return shard_source(self.folder, split)
        return published_source(self.records, split, self.world.views, self.world.resolution)

    def texts(self) -> list[str]:
        """All captions and names, for a vocabulary."""
        if self.records is None:
            return shard_texts(self.folder, "train")
        return [*chain.from_iterable((r.caption, r.item) for r in self.records)]

    def pictures(self, assets: int) -> Tensor:
        """Pictures of both domains of about so many assets, uint8 [P, 3, H, W]."""
        pool, count = [], 0
        for chunk in self.source("train"):
            pool += [chunk.views.flatten(0, 2), chunk.targets.flatten(0, 2)]
            count += len(chunk.views)
            if count >= assets:
                break
        return torch.cat(pool)
