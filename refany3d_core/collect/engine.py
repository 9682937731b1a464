"""The run: this process's share of the stream, each record through all stages, resumable.

Processes need not talk to each other: the stream is shared out by rank, records by their locks, and
the state is what lies on disk.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from . import pictures
from .asset import GivenAsset, GraphAsset
from .boxes import DetectedBoxes
from .config import Config, settings_of
from .filters import Filters
from .graph import Servers
from .locks import Locks
from .masks import GivenMasks, GraphMasks, Masks, SamMasks
from .pose import pose_stage
from .source import Item, RawPicture, items
from .stages import Outcome, Stage, carry_out
from .store import DONE, FAILED, Record, Refused, Result, keys, signatures

log = logging.getLogger(__name__)

SOURCE = "source"
_RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""As torchrun and Accelerate set them, and as SLURM does."""


def ranks() -> tuple[int, int]:
    """(this process's number, how many there are) by the launcher's environment.

    Raises:
        ValueError: they do not fit together.
    """
    for number, count in _RANKS:
        if number in os.environ and count in os.environ:
            rank, world = int(os.environ[number]), int(os.environ[count])
            if not 0 <= rank < world:
                raise ValueError(f"{number} is {rank} and {count} is {world}")
            return rank, world
    return 0, 1


class Plan:
    """The stages of a configuration and their signatures."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stages = _stages(config)
        # a record's key is a digest of its row: what follows does not depend on how it was found
        source = signatures([(SOURCE, settings_of(config.source, "limit"))])
        rest = signatures([(stage.name, stage.settings) for stage in self.stages])
        self.signature = dict(zip([SOURCE, *(s.name for s in self.stages)], source + rest))

    @property
    def names(self) -> list[str]:
        return list(self.signature)

    def state(self, record: Record) -> Result | None:
        """The record's last result under these settings, all before it read; None: not taken."""
        last = None
        for name, signature in self.signature.items():
            result = record.read(name, signature)
            if result is None:
                break
            last = result
            if result.status != DONE:
                break
        return last

    def finished(self, result: Result | None) -> bool:
        """Whether nothing more is to be done."""
        if result is None or result.status == FAILED:
            return False
        return result.status != DONE or result.stage == self.names[-1]

    def advance(self, record: Record) -> Result:
        """Carry out what is missing of a record that the source took in.

        Raises:
            OSError: the disk is full or gone.
        """
        result = self.state(record)
        if result is None:
            raise ValueError(f"{record.key} was not taken in")
        if result.status == FAILED:
            del record.results[result.stage]
        elif self.finished(result):
            return result
        for stage in self.stages[len(record.results) - 1 :]:
            result = carry_out(stage, self.signature[stage.name], record)
            if result.status != DONE:
                break
        return result


def _stages(config: Config) -> list[Stage]:
    uses_graph = "graph" in (config.masks.method, config.asset.method)
    servers = Servers(config.servers) if uses_graph else None
    stages: list[Stage] = []
    if config.boxes.method != "none":
        stages.append(DetectedBoxes(config))
    masks: dict[str, Any] = {"given": GivenMasks, "sam": SamMasks}
    made: Masks = (
        GraphMasks(config, servers) if servers and config.masks.method == "graph"
        else masks[config.masks.method](config)
    )  # fmt: skip
    stages.append(made)
    if servers and config.asset.method == "graph":
        stages.append(GraphAsset(config, servers))
    else:
        stages.append(GivenAsset(config))
    return [*stages, pose_stage(config), Filters(config)]


class TakenIn:
    """The first stage: a row's pictures on disk."""

    name = SOURCE
    settings: dict[str, Any] = {}

    def __init__(self, item: Item) -> None:
        self.item = item

    def __call__(self, record: Record, folder: Path) -> Outcome:
        item = self.item
        if item.refused:
            raise Refused(item.refused)
        if not 0 <= item.fov < 170:
            raise Refused(f"its fov is {item.fov}")
        found = []
        for index, raw in enumerate(item.pictures):
            try:
                found.append(self._picture(raw, index, folder))
            except Refused as error:
                found.append({"refused": str(error)})
        mesh = None if item.mesh is None else str(item.mesh)
        if isinstance(item.mesh, bytes):
            mesh = f"mesh.{item.mesh_format}"
            (folder / mesh).write_bytes(item.mesh)
        data = {"item": item.item, "mesh": mesh, "camera": item.camera, "fov": item.fov}
        return Outcome(found, data)

    def _picture(self, raw: RawPicture, index: int, folder: Path) -> dict[str, Any]:
        if not raw.caption:
            raise Refused("the caption is missing")
        image, alpha = pictures.decode(raw.image)
        if raw.half is not None:
            image = pictures.pair_half(image, raw.half)
        pictures.check_content(image)
        image.save(folder / f"{index}.png", compress_level=4)
        mask = alpha
        if raw.mask:
            found, holes = pictures.decode(raw.mask)
            mask = pictures.bright(found) if holes is None else holes
        if mask is not None:
            pictures.write_mask(mask, folder / f"mask_{index}.png")
        return {"caption": raw.caption, "size": list(image.size)}


@dataclass
class _Failures:
    """Failures in a row, over all threads."""

    limit: int
    row: int = 0

    def count(self, result: Result) -> bool:
        """Whether there are too many."""
        self.row = self.row + 1 if result.status == FAILED else 0
        return self.row >= self.limit


def run(plan: Plan, work: Path) -> Counter[str]:
    """Work on this process's share until nothing is left.

    Args:
        plan: of the configuration.
        work: folder of the records.

    Returns:
        How many records of its share have which status.

    Raises:
        ValueError: the source or a network cannot be read.
        OSError: the disk is full or gone. What is done stays.
        RuntimeError: too many failures in a row; the last reason.
    """
    rank, world = ranks()
    config = plan.config
    work.mkdir(parents=True, exist_ok=True)
    locks = Locks(work / "locks")
    counts: Counter[str] = Counter()
    busy_elsewhere: list[str] = []
    stop = threading.Event()

    def work_on(key: str, patient: bool = False) -> Result | None:
        if stop.is_set():
            return None
        record = Record(work, key)
        if plan.finished(result := plan.state(record)):
            return result
        with locks.holding(key, wait=patient) as mine:
            if not mine:
                busy_elsewhere.append(key)
                return None
            return plan.advance(Record(work, key))

    workers = config.run.workers or _workers(config)
    failures = _Failures(config.run.max_failures)
    waiting: set[Future] = set()

    def collect(ended: set[Future]) -> None:
        for future in ended:
            waiting.discard(future)
            result = future.result()
            if result is None:
                continue
            counts[result.status] += 1
            if failures.count(result):
                raise RuntimeError(
                    f"{failures.row} records failed in a row, the last at the stage "
                    f"'{result.stage}': {result.reason}. Mend it and run the same command again; "
                    "what is done stays"
                )

    with ThreadPoolExecutor(workers) as pool:
        try:
            for key in _share(plan, work, locks, rank, world):
                waiting.add(pool.submit(work_on, key))
                while len(waiting) > 2 * workers:
                    collect(wait(waiting, return_when=FIRST_COMPLETED).done)
            while waiting:
                collect(wait(waiting, return_when=FIRST_COMPLETED).done)
            for key in list(busy_elsewhere):  # a process that was killed leaves them undone
                waiting.add(pool.submit(work_on, key, patient=True))
            while waiting:
                collect(wait(waiting, return_when=FIRST_COMPLETED).done)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return counts


def _workers(config: Config) -> int:
    """Two for each server, so that one can be fetched while the next is made; else one."""
    graph = "graph" in (config.masks.method, config.asset.method)
    return 2 * len(config.servers.urls) if graph else 1


def _share(plan: Plan, work: Path, locks: Locks, rank: int, world: int) -> Iterator[str]:
    """Keys of this process: of what is on disk first, then of the stream, taken in."""
    signature = plan.signature[SOURCE]
    seen = set()
    for key in keys(work):
        if crc32(key.encode()) % world == rank and Record(work, key).read(SOURCE, signature):
            seen.add(key)
            yield key
    for item in items(plan.config, rank, world, work, signature):
        key = item.key
        if key in seen:
            continue
        seen.add(key)
        record = Record(work, key)
        with locks.holding(key) as mine:
            # one that is there, or is being taken in, is another process's
            if not mine or record.read(SOURCE, signature):
                continue
            carry_out(TakenIn(item), signature, record)
        yield key
