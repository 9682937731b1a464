"""The command `evaluate`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor

from ...host.demo_models import FOLDER, load_adapters
from ..config import Config, WorldConfig, load_config
from ..models import load_models, load_small
from ..pictures import save_grid
from ..sources import source_of
from . import learned_measures
from .generate import HeldOut, HeldOutRecords, Settings, bounds, generate
from .judge import judge, samples_in, summary, table, write
from .learned_measures import Similarity

log = logging.getLogger(__name__)

SHEET, SHEET_COLUMNS = 16, 4
"""Held-out assets on the sheet of pictures, and in a row of it."""


def run(args: argparse.Namespace) -> None:
    """Sample or read pictures, judge them, print the table, write CSV, JSON and a sheet.

    Raises:
        ValueError: an input is missing or has no such value.
    """
    similarities = [
        make(folder)
        for make, folder in (
            (learned_measures.clip_image_similarity, args.clip),
            (learned_measures.dino_similarity, args.dino),
        )
        if folder
    ]
    if args.matches:
        similarities.append(learned_measures.feature_matches())
    folder = Path(args.output)
    if args.pictures:
        name = Path(args.pictures).stem
        rows = judge(samples_in(Path(args.pictures)), similarities)
        write(rows, folder, name)
        log.info("%s", table({name: summary(rows)}))
        return
    config = load_config(args.config) if args.config else Config(world=WorldConfig())
    held_out = _held_out(config, args, bool(similarities))
    model = Path(args.model) if args.model else FOLDER
    if config.models is not None:
        models = load_models(config.models)
    else:
        run_folder = model if (model / "autoencoder.safetensors").is_file() else model.parent
        base = model / "base.safetensors"
        models = load_small(run_folder, base if base.is_file() else None)
    adapters = load_adapters(model)
    columns: dict[str, dict] = {}
    last = None
    for sampler in args.samplers.split(","):
        for references in args.references.split(","):
            settings = Settings(
                references, sampler, args.steps, args.guidance, args.seed, args.isolated
            )
            pictures = generate(models, adapters, held_out, settings)
            last = pictures if last is None else last
            name = f"{sampler}, {references} references"
            columns[name] = _judged(held_out, pictures, name, folder, similarities)
    if args.bounds and last is not None:
        for name, pictures in bounds(models, held_out, last).items():
            columns[name] = _judged(held_out, pictures, name, folder, similarities)
    log.info("%s", table(columns))
    (folder / "table.md").write_text(table(columns) + "\n")


def _held_out(config: Config, args: argparse.Namespace, compared: bool) -> HeldOut | HeldOutRecords:
    """What is sampled: held-out records of [dataset], or held-out assets of [world]."""
    if config.world is not None:
        kinds = tuple(args.kinds.split(",")) if args.kinds else ()
        return HeldOut(config.world, args.first, args.count, kinds)
    if not compared:
        raise ValueError(
            "records of a dataset carry no mesh, so only pictures can be compared: add --matches, "
            "--clip FOLDER or --dino FOLDER"
        )
    return HeldOutRecords(source_of(config, "held_out"), args.first, args.count)


def _judged(
    held_out: HeldOut | HeldOutRecords,
    pictures: Tensor,
    name: str,
    folder: Path,
    similarities: list[Similarity],
) -> dict[str, dict[str, float]]:
    """Judge pictures and write them down: rows, summary, and a sheet of view, picture and map."""
    rows = held_out.judge(pictures, similarities)
    stem = name.replace(", ", "_").replace(" ", "_")
    write(rows, folder, stem)
    views = held_out.pictures.views[:SHEET, 0, :1].float() / 255
    cells = torch.cat([views, pictures[:SHEET]], 1)
    columns = SHEET_COLUMNS if len(cells) % SHEET_COLUMNS == 0 else 1
    save_grid(folder / f"{stem}.png", cells.reshape(-1, 3 * columns, *cells.shape[2:]))
    return summary(rows)
