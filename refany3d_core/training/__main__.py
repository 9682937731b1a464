"""Command line: python -m refany3d_core.training train CONFIG.toml --output FOLDER."""

from __future__ import annotations

import argparse
import logging
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

    from .stages import run_stages

    config = _overridden(args.config, args.set)
    stages = args.stages.split(",") if args.stages else _all_stages(config)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run_stages(config, Path(args.output), stages, device, args.deadline)


def _all_stages(config) -> list[str]:
    stages = [s for s in ("autoencoder", "base") if getattr(config, s) is not None]
    return [*stages, *config.refany3d]


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
