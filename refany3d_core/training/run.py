"""A whole training run in a folder: the stages of a configuration, each resumed or skipped when it
is finished."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..host.trainable import FILES
from .checkpoint import save_json
from .config import Config, RefAny3DConfig, flat
from .loop import make_accelerator
from .models import Models, load_models
from .refany3d import AdapterTraining, EncodedSet, encode_set
from .small.stages import SmallRun
from .sources import source_of

if TYPE_CHECKING:
    from accelerate import Accelerator

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
    for stage in stages or known:
        if stage == "autoencoder" and small:
            small.train_autoencoder()
        elif stage == "base" and small:
            small.train_base(cache)
        else:
            variant = config.refany3d[stage]
            if small:
                models = small.models(variant.start)
            elif models is None and config.models is not None:
                models = load_models(config.models)
            assert models is not None
            train_variant(models, config, variant, folder / stage, cache, accelerator, watch)


def train_variant(
    models: Models,
    config: Config,
    variant: RefAny3DConfig,
    folder: Path,
    cache: Path,
    accelerator: Accelerator,
    watch: Callable[[int, int, float], None] | None = None,
    show: Callable[[Tensor], None] | None = None,
) -> None:
    """Encode the configuration's set where that is not done, and train one variant's adapters.

    Args:
        models: the frozen models.
        config: names the training set.
        variant: the recipe.
        folder: where checkpoints and the published files go; a finished variant is left as it is.
        cache: where encodings go.
        accelerator: the processes that train together.
        watch, show: see AdapterTraining.run.
    """
    if all((folder / f"{file}.safetensors").is_file() for file in FILES):
        log.info("%s is finished already", folder.name)
        return
    data, held_out = _encoded(config, models, cache, accelerator)
    training = AdapterTraining(
        models, data, variant, folder, accelerator, held_out, config.cpu_bfloat16
    )
    log.info("%s: %s", folder.name, training.run(watch, show))


def _encoded(
    config: Config, models: Models, cache: Path, accelerator: Accelerator
) -> tuple[EncodedSet, EncodedSet | None]:
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
