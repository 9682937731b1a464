"""Train RefAny3D: python -m refany3d_core.training {train,verify,build,evaluate,bundle} ...

Run it with ComfyUI's Python; see docs/training.md.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path

FLUX = "refany3d_flux_dev.toml"
"""The configuration with FLUX.1-dev's usual file names."""


def _overridden(path: str, settings: list[str]):
    """A configuration file with settings such as base.seconds=60 put over it."""
    from ..toml_tables import read_toml
    from .config import load_config

    values = read_toml(_found(path))
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


def _found(path: str) -> Path:
    """The file, or the configuration of that name that comes with the trainer."""
    own = Path(__file__).parent / path
    return own if not Path(path).exists() and own.is_file() else Path(path)


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _train(args: argparse.Namespace) -> int:
    config = _overridden(args.config, args.set)
    _host(args)
    from .run import train

    stages = args.stages.split(",") if args.stages else ()
    cache = Path(args.cache) if args.cache else None
    train(config, Path(args.output), stages, args.device, args.processes, cache, _progress_bar())
    return 0


def _progress_bar():
    """A bar on a terminal, for the stage that runs; the log has lines in any case."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bar = tqdm(unit="step", dynamic_ncols=True)

    def watch(done: int, steps: int, loss: float) -> None:
        bar.total = steps
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        bar.update(done - bar.n)

    return watch


def _verify(args: argparse.Namespace) -> int:
    _host(args)
    from .verify import print_lines, verify

    lines = verify(Path(args.set_folder), Path(args.weights), args.gradient_checkpointing)
    return 0 if print_lines(lines, print) else 1


def _build(args: argparse.Namespace) -> int:
    config = _overridden(args.config, args.set)
    from .shards import build

    if config.world is None:
        raise ValueError(f"{args.config} has no [world], which says what is built")
    meshes = Path(args.meshes) if args.meshes else None
    paths = build(
        config.world, Path(args.output), args.split, meshes, args.workers, args.skip_faulty
    )
    print(f"{len(paths)} shards in {args.output}")
    return 0


def _bundle(args: argparse.Namespace) -> int:
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
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    name = args.config or (FLUX if args.proof and not args.model else "")
    args.config = _overridden(name, args.set) if name else None
    _host(args)
    from .evaluation.command import run

    run(args)
    return 0


def _host(args: argparse.Namespace) -> None:
    from .find_host import prepare_host

    prepare_host(args.base_directory, args.extra_model_paths)


def _command(commands: argparse._SubParsersAction, name: str, call, text: str):
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--base-directory", default="", help="ComfyUI's folder for models, as its own option"
    )
    command.add_argument(
        "--extra-model-paths", default="", help="a file like ComfyUI's extra_model_paths.yaml"
    )
    command.set_defaults(call=call)
    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m refany3d_core.training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    train = _command(commands, "train", _train, "train the stages of a configuration")
    train.add_argument("config", help="a TOML file, see docs/training.md")
    train.add_argument(
        "--output", required=True, help="folder of the run; finished stages in it are kept"
    )
    train.add_argument("--stages", default="", help="comma-separated; all by default")
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting"
    )
    train.add_argument("--cache", default="", help="folder of the encodings; OUTPUT/encodings")
    train.add_argument("--device", default="", help="cuda or cpu; CUDA when there is one")
    train.add_argument("--processes", type=int, default=0, help="refuse to run with another number")

    verify = _command(commands, "verify", _verify, "run a golden training set and compare")
    verify.add_argument("set_folder", metavar="SET", help="folder of the golden training set")
    verify.add_argument("weights", metavar="WEIGHTS", help="folder of the golden inference set")
    verify.add_argument("--gradient-checkpointing", action="store_true")

    build = _command(commands, "build", _build, "write a training set to disk, as shards")
    build.add_argument("config", help="a TOML file; its [world] says what is made")
    build.add_argument("--output", required=True, help="folder of the shards; finished ones stay")
    build.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    build.add_argument("--split", default="train", choices=("train", "held_out"))
    build.add_argument("--meshes", default="", help="a folder of meshes to use as assets")
    build.add_argument("--skip-faulty", action="store_true", help="leave unreadable meshes out")
    build.add_argument("--workers", type=int, default=1, help="processes")

    bundle = _command(commands, "bundle", _bundle, "copy a trained small model into one folder")
    bundle.add_argument("--output", required=True, help="folder of the run")
    bundle.add_argument("--variant", default="full", help="name under [refany3d]")
    bundle.add_argument("--to", required=True, help="such as demo_model, which the pack loads")

    _add_evaluate(commands)
    return parser


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = _command(
        commands, "evaluate", _evaluate, "measure a trained model, or given pictures"
    )
    command.add_argument("config", nargs="?", help="the TOML file of the run: its set is sampled")
    command.add_argument("--output", required=True, help="folder for results")
    command.add_argument(
        "--model",
        default="",
        help="folder of the files: a run's variant, or demo_model; {} stands for an asset's number",
    )
    command.add_argument("--pictures", default="", help="a JSON list of pictures to judge instead")
    command.add_argument(
        "--references", default="right,wrong", help="comma-separated: right, wrong, none"
    )
    command.add_argument(
        "--samplers", default="euler", help="comma-separated names of ComfyUI's samplers"
    )
    command.add_argument("--count", type=int, default=64, help="held-out assets")
    command.add_argument("--kinds", default="", help="comma-separated words; all by default")
    command.add_argument("--first", type=int, default=0, help="first held-out asset")
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting"
    )
    command.add_argument("--steps", type=int, default=0, help="20, or 28 with --proof")
    command.add_argument("--guidance", type=float, default=2.0, help="image guidance scale")
    command.add_argument(
        "--isolated", action="store_true", help="references see only their own pair (fact 30)"
    )
    command.add_argument("--bounds", action="store_true", help="adds floor and ceiling")
    command.add_argument(
        "--locked", action="store_true", help="hold the true point map, as Lock Pose does"
    )
    command.add_argument(
        "--estimate", action="store_true",
        help="adds shape and colour by a camera found without the map",
    )  # fmt: skip
    command.add_argument(
        "--rank", action="store_true", help="adds whose asset a picture is, by EfficientNet-Lite0"
    )
    command.add_argument("--clip", default="", help="folder of a CLIP checkpoint: adds CLIP-I")
    command.add_argument("--dino", default="", help="folder of a DINO checkpoint: adds DINO")
    command.add_argument(
        "--lpips", default="", metavar="FILE",
        help="torchvision's AlexNet or VGG16 weights: adds LPIPS",
    )  # fmt: skip
    command.add_argument(
        "--matches", nargs="?", const="sift", default="", metavar="MATCHER",
        help="adds match counts, with --locked the Matching Error: sift, or one of vismatch's, "
        "such as gim-dkm, romav2",
    )  # fmt: skip
    command.add_argument(
        "--judge", default="", metavar="FOLDER",
        help="folder of a vision-language model: adds its marks",
    )  # fmt: skip
    _add_proof(command)


def _add_proof(command: argparse.ArgumentParser) -> None:
    proof = command.add_argument_group("proof", "pictures of bundled and own meshes by FLUX.1-dev")
    proof.add_argument(
        "--proof", action="store_true", help="make the fixed list of pictures, a sheet, a report"
    )
    proof.add_argument(
        "--adapters", default="", metavar="NAMES",
        help="comma-separated names in models/refany3d or models/loras, published ones by default",
    )  # fmt: skip
    proof.add_argument(
        "--mesh", action="append", nargs=2, default=[], metavar=("FILE", "PROMPT"),
        help="one more picture, of your own mesh",
    )  # fmt: skip
    proof.add_argument("--only-mesh", action="store_true", help="leave the bundled meshes out")
    proof.add_argument("--resolution", type=int, default=512, help="pixels of a side")
    proof.add_argument("--views", type=int, default=8, help="reference views")


def main() -> int:
    args = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        return args.call(args)
    except ValueError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
