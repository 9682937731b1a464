"""Command line: python -m refany3d_core.training {train,evaluate} ..., see docs/training.md."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path


def _overridden(path: str, settings: list[str]):
    """A configuration file with settings such as base.seconds=60 put over it."""
    from .config import load_config, read_toml

    values = read_toml(path)
    for setting in settings:
        keys, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"--set {setting}: expected NAME=VALUE, such as base.seconds=60")
        *tables, name = keys.split(".")
        table = values
        for key in tables:
            table = table.setdefault(key, {})
        table[name] = _value(value)
    return load_config(path, values)


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _train(args: argparse.Namespace) -> None:
    import torch

    from .plan import run_stages

    config = _overridden(args.config, args.set)
    stages = args.stages.split(",") if args.stages else _all_stages(config)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run_stages(config, Path(args.output), stages, device, args.deadline)


def _all_stages(config) -> list[str]:
    stages = [s for s in ("autoencoder", "base") if getattr(config, s) is not None]
    return [*stages, *config.refany3d]


def _evaluate(args: argparse.Namespace) -> None:
    import torch

    from . import evaluate, learned_measures

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
    folder = Path(args.output) / "evaluation"
    if args.pictures:
        rows = evaluate.judge(evaluate.samples_in(Path(args.pictures)), similarities)
        evaluate.write(rows, folder, Path(args.pictures).stem)
        print(evaluate.table({Path(args.pictures).stem: evaluate.summary(rows)}))
        return
    if not args.config:
        raise ValueError("evaluate needs a configuration, or --pictures FILE.json")
    from .stages import Run

    config = _overridden(args.config, args.set)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run = Run(config, Path(args.output), device)
    columns = {}
    for variant in args.variants.split(","):
        for references in args.references.split(","):
            settings = evaluate.Settings(
                variant, args.count, args.seed, args.steps, args.guidance, references, args.views
            )
            name = f"{variant}, {references} references"
            columns[name] = evaluate.evaluate_variant(run, settings, similarities, folder)
    print(evaluate.table(columns))


def _build(args: argparse.Namespace) -> None:
    from .shards import build

    config = _overridden(args.config, args.set)
    meshes = Path(args.meshes) if args.meshes else None
    paths = build(config.world, Path(args.output), args.split, meshes, args.workers)
    print(f"{len(paths)} shards in {args.output}")


def _bundle(args: argparse.Namespace) -> None:
    run, variant, target = Path(args.output), Path(args.output, args.variant), Path(args.to)
    own_base = variant / "base.safetensors"
    files = [
        own_base if own_base.exists() else run / "base.safetensors",
        run / "text_encoder.safetensors",
        run / "autoencoder.safetensors",
        *(variant / f"{name}.safetensors" for name in ("default", "coord", "domain_embedder")),
    ]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{args.variant} is not finished: there is no {', '.join(missing)}")
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, target / file.name)
    total = sum(file.stat().st_size for file in files)
    print(f"{len(files)} files, {total / 1e6:.1f} MB, in {target}")


def _add_bundle(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("bundle", help="copy a trained small model into one folder")
    command.add_argument("--output", required=True, help="folder of the run")
    command.add_argument("--variant", default="full", help="name under [refany3d]")
    command.add_argument("--to", required=True, help="such as demo_model, which the pack loads")
    command.set_defaults(call=_bundle)


def _add_build(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("build", help="write a training set to disk, as shards")
    command.add_argument("config", help="a TOML file; its [world] says what is made")
    command.add_argument("--output", required=True, help="folder of the shards; finished ones stay")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--split", default="train", choices=("train", "held_out"))
    command.add_argument("--meshes", default="", help="a folder of meshes to use as assets")
    command.add_argument("--workers", type=int, default=1, help="processes")
    command.set_defaults(call=_build)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("evaluate", help="measure a trained variant, or given pictures")
    command.add_argument("config", nargs="?", help="the TOML file of the run")
    command.add_argument("--output", required=True, help="folder of the run; results go there too")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--pictures", default="", help="a JSON list of pictures to judge instead")
    command.add_argument("--variants", default="full", help="comma-separated, from [refany3d]")
    command.add_argument(
        "--references", default="right,wrong,none", help="comma-separated: right, wrong, none"
    )
    command.add_argument("--count", type=int, default=64, help="held-out assets")
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    command.add_argument("--steps", type=int, default=20)
    command.add_argument("--guidance", type=float, default=2.0, help="image guidance scale")
    command.add_argument("--views", type=int, default=0, help="reference views; 0 as trained")
    command.add_argument("--clip", default="", help="folder of a CLIP checkpoint: adds CLIP-I")
    command.add_argument("--dino", default="", help="folder of a DINO checkpoint: adds DINO")
    command.add_argument("--matches", action="store_true", help="adds SIFT matches")
    command.add_argument("--device", default="", help="such as cuda or cpu; CUDA when there is one")
    command.set_defaults(call=_evaluate)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m refany3d_core.training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train the stages of a configuration")
    train.add_argument("config", help="a TOML file, see docs/training.md")
    train.add_argument(
        "--output", required=True, help="folder of the run; finished stages in it are kept"
    )
    train.add_argument(
        "--stages", default="", help="comma-separated; all of the configuration by default"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting"
    )
    train.add_argument(
        "--deadline", type=float, default=0.0, help="seconds in which all must be written"
    )
    train.add_argument("--device", default="", help="such as cuda or cpu; CUDA when there is one")
    train.set_defaults(call=_train)
    _add_build(commands)
    _add_evaluate(commands)
    _add_bundle(commands)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        args.call(args)
    except ValueError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
