"""Which stages of a run are trained, and how much of the time each gets."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from .config import Config
from .stages import Run

SAVE_SECONDS = 8
"""Reserved for the samples and files of one stage when there is a deadline."""


def within(config: Config, stages: list[str], seconds: float) -> Config:
    """The configuration with the budgets of `stages` scaled down, if they must be, to sum to
    `seconds`."""
    parts = {"autoencoder": config.autoencoder, "base": config.base, **config.refany3d}
    wanted = sum(parts[s].seconds for s in stages)
    share = min(1.0, max(seconds, 1.0) / wanted) if wanted else 1.0
    scaled = {s: dataclasses.replace(parts[s], seconds=parts[s].seconds * share) for s in stages}
    variants = {name: scaled.get(name, variant) for name, variant in config.refany3d.items()}
    own = {k: v for k, v in scaled.items() if k in ("autoencoder", "base")}
    return dataclasses.replace(config, refany3d=variants, **own)


def run_stages(
    config: Config, folder: Path, stages: list[str], device: torch.device, deadline: float = 0.0
) -> None:
    """Run stages in the order given: "autoencoder", "base", or the names under [refany3d].

    Args:
        config: what to train.
        folder: where the outputs go.
        stages: which stages.
        device: where to train.
        deadline: seconds from now by which all is written; 0 for none. Budgets shrink to meet it.

    Raises:
        ValueError: a stage is not in the configuration.
    """
    known = {"autoencoder": config.autoencoder, "base": config.base, **config.refany3d}
    for stage in stages:
        if known.get(stage) is None:
            raise ValueError(
                f"stage '{stage}' is not in the configuration; it has {', '.join(known)}"
            )
    run = Run(config, folder, device)
    for i, stage in enumerate(stages):
        if deadline:
            if stage != "autoencoder":
                run.prepare_data()
            left = deadline - (time.monotonic() - run.started) - SAVE_SECONDS * (len(stages) - i)
            run.config = within(run.config, stages[i:], left)
        if stage == "autoencoder":
            run.autoencoder(train=True)
        elif stage == "base":
            run.base(run.autoencoder(train=False), train=True)
        else:
            run.refany3d(stage)
