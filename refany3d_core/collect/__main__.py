"""Command line: python -m refany3d_core.collect {run,report,export} ..., see docs/dataset.md."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

CONFIG = "config.json"


def _plan(work: Path):
    """The configuration that a folder was last run with."""
    from .config import load_config
    from .engine import Plan

    try:
        path = json.loads((work / CONFIG).read_text(encoding="utf-8"))["path"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"'{work}' was not made by run; give the folder of --output") from error
    return Plan(load_config(path))


def _run(args: argparse.Namespace) -> int:
    from .config import load_config
    from .engine import Plan, ranks, run
    from .report import write_report
    from .store import FAILED, write_whole

    config = load_config(args.config)
    work = Path(args.output)
    plan = Plan(config)
    work.mkdir(parents=True, exist_ok=True)
    write_whole(work / CONFIG, json.dumps({"path": str(Path(args.config).resolve())}).encode())
    counts = run(plan, work)
    rank, world = ranks()
    if world > 1:  # the last one to end tells the whole
        print(f"Process {rank} of {world} is done. All records, as they are now:\n")
    print(write_report(plan, work))
    if counts[FAILED]:
        print(f"{counts[FAILED]} records failed; the same command tries them again")
    return 1 if counts[FAILED] else 0


def _report(args: argparse.Namespace) -> int:
    from .report import write_report

    print(write_report(_plan(Path(args.work)), Path(args.work)))
    return 0


def _export(args: argparse.Namespace) -> int:
    from .export import export

    written, total = export(_plan(Path(args.work)), Path(args.work), Path(args.to))
    print(f"{written} triplets written, {total} in {args.to}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m refany3d_core.collect", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="from pictures to posed records; goes on where it ended")
    run.add_argument("config", metavar="CONFIG.toml")
    run.add_argument("--output", required=True, metavar="WORK")
    run.set_defaults(call=_run)
    report = commands.add_parser("report", help="yields by stage, contact sheets")
    report.add_argument("work", metavar="WORK")
    report.set_defaults(call=_report)
    export = commands.add_parser("export", help="kept records in the layout that training reads")
    export.add_argument("work", metavar="WORK")
    export.add_argument("--to", required=True, metavar="DATASET")
    export.set_defaults(call=_export)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "fsspec", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return args.call(args)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(
            f"{error}: free or mend the disk and run the same command again; what is done stays",
            file=sys.stderr,
        )
    return 1


if __name__ == "__main__":
    sys.exit(main())
