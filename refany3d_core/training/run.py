"""A whole training run in a folder: the stages of a configuration, each resumed or skipped when it
is finished."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from .checkpoint import save_json
from .config import Config, flat
from .loop import make_accelerator
from .models import Models, load_models
from .refany3d import AdapterTraining, EncodedSet, encode_set
from .small.stages import SmallRun
from .sources import source_of

log = logging.getLogger(__name__)

CACHE = "encodings"
"""Folder of the encodings in a run's folder."""


def stages_of(config: Config) -> list[str]:
    """All stages of a configuration, in order."""
    small = [s for s in ("autoencoder", "base") if getattr(config, s) is not None]
    return [*small, *config.refany3d]


def train(
    config: Config,
    folder: Path,
    stages: Sequence[str] = (),
    device: str = "",
    processes: int = 0,
    cache: Path | None = None,
    watch: Callable[[int, int, float], None] | None = None,
) -> None:
    """Run stages in the order given.

    Args:
        config: what to train.
        folder: where the outputs go.
        stages: "autoencoder", "base", or names under [refany3d]; all by default.
        device: "cpu" or "cuda"; "" takes CUDA when there is one.
        processes: how many processes are expected; 0 for as many as there are.
        cache: where encodings go; by default into the run's folder.
        watch: see Loop.

    Raises:
        ValueError: a stage is not in the configuration, an input is missing or does not fit, or
            there are not as many processes as expected.
    """
    known = stages_of(config)
    for stage in stages:
        if stage not in known:
            raise ValueError(f"stage '{stage}' is not in the configuration; it has {known}")
    accelerator = make_accelerator(device)
    if processes and accelerator.num_processes != processes:
        raise ValueError(
            f"{processes} processes are wanted and {accelerator.num_processes} run; start them by "
            "torchrun, or by accelerate launch --num_processes N (on CPUs with --cpu)"
        )
    log.info("%d processes, device %s", accelerator.num_processes, accelerator.device)
    folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        save_json(folder / "config.json", flat(config))
    cache = cache or folder / CACHE
    small = SmallRun(config, folder, accelerator) if config.models is None else None
    models: Models | None = None
    data: tuple[EncodedSet, EncodedSet | None] | None = None
    for stage in stages or known:
        if stage == "autoencoder" and small:
            small.train_autoencoder()
        elif stage == "base" and small:
            small.train_base(cache)
        else:
            variant = config.refany3d[stage]
            if small or models is None:
                models = small.models(variant.start) if small else load_models(config.models)
            if data is None:
                data = _encoded(config, models, cache, accelerator)
            training = AdapterTraining(
                models, data[0], variant, folder / stage, accelerator, data[1], config.cpu_bfloat16
            )
            if training.finished:
                log.info("%s is finished already", stage)
                continue
            log.info("%s: %s", stage, training.run(watch))


def _encoded(config, models, cache, accelerator) -> tuple[EncodedSet, EncodedSet | None]:
    """The training set and the held-out one, where the set has held-out assets."""
    data = encode_set(source_of(config, "train"), models, cache, accelerator)
    log.info("%d assets encoded", len(data.triplets.assets))
    try:
        held_out = source_of(config, "held_out")
    except ValueError:
        return data, None
    if not held_out.chunks:
        return data, None
    return data, encode_set(held_out, models, cache, accelerator)
