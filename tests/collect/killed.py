"""A collection whose processes are killed (SIGKILL) over and over, at every kind of moment.

    python killed.py CONFIG WORK WORLD

Libraries are imported once and every process is forked, so that dozens of kills take seconds. A
process dies when it first comes to its moment: before a stage, when its folder is begun, when the
work is done and when it is renamed into place, or around the saving of the stream's place. Prints
the moments at which processes died as JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import datasets  # noqa: E402, F401  once for all
import datasets.distributed  # noqa: E402, F401

from refany3d_core.collect import source, store  # noqa: E402
from refany3d_core.collect.config import load_config  # noqa: E402
from refany3d_core.collect.engine import Plan, run  # noqa: E402

MOMENTS = ("before", "started", "worked", "renamed")


def dying(moment: str, report: int) -> None:
    """Let this process die at the first event of this name, which goes to the pipe `report`."""

    def event(name: str) -> None:
        if name == moment:
            os.write(report, (name + "\n").encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def around(call: Callable, before: Callable[..., str], after: Callable[..., str]) -> Callable:
        def wrapped(*args):
            event(before(*args))
            out = call(*args)
            event(after(*args))
            return out

        return wrapped

    record = store.Record
    record.begin = around(
        record.begin, lambda _, stage: f"{stage}: before", lambda _, stage: f"{stage}: started"
    )
    record.commit = around(
        record.commit,
        lambda _, result: f"{result.stage}: worked",
        lambda _, result: f"{result.stage}: renamed",
    )
    source.write_whole = around(
        source.write_whole, lambda *_: "place: before", lambda *_: "place: renamed"
    )


def child(plan: Plan, work: Path, rank: int, world: int, moment: str, report: int) -> int:
    """Process id of a forked run that dies at a moment; "": that lives."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
        if moment:
            dying(moment, report)
        run(plan, work)
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    plan, work, world = Plan(load_config(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
    source._SAVE_EVERY = 1
    reading, writing = os.pipe()
    # the last stage first: what comes before it is then still to be done for most records
    stages = ["source", *reversed(plan.names[1:])]
    moments = ["place: before", "place: renamed"]
    moments += [f"{stage}: {moment}" for stage in stages for moment in MOMENTS]
    for moment in [*moments, ""]:
        pids = [child(plan, work, rank, world, moment, writing) for rank in range(world)]
        states = [os.waitpid(pid, 0)[1] for pid in pids]
    os.close(writing)
    with os.fdopen(reading) as stream:
        died = stream.read().split("\n")[:-1]
    sys.stdout.write(json.dumps({"died": died, "last": states}))


if __name__ == "__main__":
    main()
