"""The training set that a configuration names, as a Source."""

from __future__ import annotations

from pathlib import Path

from .config import Config
from .published import INDEX, published_source, read_records
from .shards import shard_source
from .triplets import Source


def source_of(config: Config, split: str) -> Source:
    """The pictures of a split, "train" or "held_out".

    Raises:
        ValueError: the set is missing, faulty or does not fit the configuration.
    """
    if config.dataset is None:
        from .small.world.triplets import world_source

        if config.world is None:
            raise ValueError("the configuration names no training set")
        return world_source(config.world, split)
    folder = Path(config.dataset.path)
    if (folder / INDEX).exists():
        return published_source(folder, config.dataset, split)
    return shard_source(folder, split, config.views, config.resolution)


def texts_of(config: Config) -> list[str]:
    """All captions and names of a set on disk, for the small model's vocabulary."""
    if config.dataset is None:
        return []
    folder = Path(config.dataset.path)
    if (folder / INDEX).exists():
        records = read_records(folder, config.views, config.dataset.skip_faulty)
        return [text for record in records for text in (record.caption, record.item)]
    from .shards import shard_texts

    return shard_texts(folder, "train")
