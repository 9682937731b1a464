"""The command `evaluate`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor

from ...host.demo_models import FOLDER, load_adapters
from ..config import Config, RefAny3DConfig, WorldConfig
from ..models import Models, load_models, load_small
from ..pictures import save_grid
from ..sources import source_of
from . import learned_measures, matching
from .generate import HeldOut, HeldOutRecords, Settings, bounds, generate
from .judge import Judged, Judgement, judge, samples_in, summary, table, write

log = logging.getLogger(__name__)

STEPS = 20
EACH = "{}"
"""Stands in `--model` for the number of a held-out asset: a model of each asset's own."""
SHEET, SHEET_COLUMNS = 16, 4
"""Held-out assets on the sheet of pictures, and in a row of it."""


def run(args: argparse.Namespace) -> None:
    """Sample or read pictures, judge them, print the table, write CSV, JSON and a sheet.

    Raises:
        ValueError: an input is missing or has no such value.
    """
    judgement = judgement_of(args)
    folder = Path(args.output)
    if args.proof:
        from .proof import prove

        prove(args, judgement)
        return
    if args.pictures:
        name = Path(args.pictures).stem
        rows = _rows(judge(samples_in(Path(args.pictures)), judgement))
        write(rows, folder, name)
        log.info("%s", table({name: summary(rows)}))
        return
    config: Config = args.config or Config(world=WorldConfig())
    model = Path(args.model) if args.model else FOLDER
    held_out = _held_out(config, args, judgement)
    variant = config.refany3d.get(model.name, RefAny3DConfig())
    if args.locked and not variant.point_maps:
        raise ValueError(f"{model.name} has no point maps, so --locked has nothing to hold")
    columns: dict[str, dict] = {}
    last = None
    for sampler in args.samplers.split(","):
        for references in args.references.split(","):
            settings = Settings(
                references, sampler, args.steps or STEPS, args.guidance, args.seed, args.isolated,
                variant.components, variant.reference_views, args.locked,
            )  # fmt: skip
            pictures = _generate(config, model, held_out, settings)
            last = pictures if last is None else last
            name = f"{sampler}, {references} references"
            columns[name] = _judged(held_out, pictures, name, folder, judgement, settings)
    if args.bounds and last is not None:
        models = models_of(config, _of_asset(model, held_out, 0))
        for name, pictures in bounds(models, held_out, last).items():
            if variant.point_maps or name in ("round trip", "exact"):
                columns[name] = _judged(held_out, pictures, name, folder, judgement, settings)
    log.info("%s", table(columns))
    (folder / "table.md").write_text(table(columns) + "\n")


def _generate(
    config: Config, model: Path, held_out: HeldOut | HeldOutRecords, settings: Settings
) -> Tensor:
    """Pictures by one model, or by a model of each asset's own where the folder has EACH in it."""
    if EACH not in str(model):
        return generate(models_of(config, model), load_adapters(model), held_out, settings)
    if settings.references == "wrong":
        raise ValueError("models of one asset each have no wrong references; take right or none")
    pictures = []
    for i in range(len(held_out)):
        own = _of_asset(model, held_out, i)
        of = generate(models_of(config, own), load_adapters(own), held_out, settings, (i,))
        pictures.append(of)
    return torch.cat(pictures)


def _of_asset(model: Path, held_out: HeldOut | HeldOutRecords, i: int) -> Path:
    """The folder with the number of held-out asset i in place of EACH.

    Raises:
        ValueError: it has EACH, and what is sampled has no numbers.
    """
    if EACH not in str(model):
        return model
    if not isinstance(held_out, HeldOut):
        raise ValueError(f"--model has {EACH}, which only held-out assets of [world] have")
    return Path(str(model).replace(EACH, str(held_out.numbers[i])))


def judgement_of(args: argparse.Namespace) -> Judgement:
    """The columns that the command line asks for.

    Raises:
        ValueError: a package, a checkpoint or a file of one is missing.
    """
    measures: list[learned_measures.Measure] = []
    if args.clip:
        measures.append(learned_measures.clip_image_similarity(args.clip))
    if args.dino:
        measures.append(learned_measures.dino_similarity(args.dino))
    if args.lpips:
        measures.append(learned_measures.lpips_distance(args.lpips))
    if args.matches:
        matcher = matching.matcher_of(args.matches)
        measures += [matching.match_count(matcher), matching.matching_error(matcher)]
    if args.judge:
        from .vision_judge import VisionJudge

        measures.append(VisionJudge(args.judge))
    features = learned_measures.lite_features() if args.rank else None
    return Judgement(measures, features, args.estimate)


def models_of(config: Config, model: Path) -> Models:
    """The frozen models that the files in a folder belong to.

    Raises:
        ValueError: a file is missing.
    """
    if config.models is not None:
        return load_models(config.models)
    run_folder = model if (model / "autoencoder.safetensors").is_file() else model.parent
    base = model / "base.safetensors"
    return load_small(run_folder, base if base.is_file() else None)


def _held_out(
    config: Config, args: argparse.Namespace, judgement: Judgement
) -> HeldOut | HeldOutRecords:
    """What is sampled: held-out records of [dataset], or held-out assets of [world]."""
    if config.world is not None:
        kinds = tuple(args.kinds.split(",")) if args.kinds else ()
        return HeldOut(config.world, args.first, args.count, kinds)
    if not judgement.measures and judgement.features is None:
        raise ValueError(
            "records of a dataset carry no mesh, so only pictures can be compared: add --matches, "
            "--rank, --clip FOLDER or --dino FOLDER"
        )
    return HeldOutRecords(source_of(config, "held_out"), args.first, args.count)


def _rows(judged: list[Judged]) -> list[dict]:
    return [found.row for found in judged]


def _judged(
    held_out: HeldOut | HeldOutRecords,
    pictures: Tensor,
    name: str,
    folder: Path,
    judgement: Judgement,
    settings: Settings,
) -> dict[str, dict[str, float]]:
    """Judge pictures and write them down: rows, summary, and a sheet of view, picture and map."""
    maps = settings.components.point_maps
    rows = _rows(held_out.judge(pictures, judgement, maps, settings.locked))
    stem = name.replace(", ", "_").replace(" ", "_")
    write(rows, folder, stem)
    views = held_out.pictures.views[:SHEET, 0, :1].float() / 255
    cells = torch.cat([views, pictures[:SHEET, : 1 + maps]], 1)
    columns = SHEET_COLUMNS if len(cells) % SHEET_COLUMNS == 0 else 1
    save_grid(folder / f"{stem}.png", cells.reshape(-1, cells.shape[1] * columns, *cells.shape[2:]))
    return summary(rows)
