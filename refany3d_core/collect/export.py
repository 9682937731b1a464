"""Kept pictures as triplets in the published layout, which the trainer reads."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from .asset import load_mesh
from .engine import SOURCE, Plan, ranks
from .pictures import read_mask, read_rgb
from .pose import camera_of
from .record import CAMERA, write_index, write_record
from .store import DONE, Record, keys

log = logging.getLogger(__name__)

NOTE = "collected"
"""Key in a record's camera.json that tells what it was made of."""


@dataclass(frozen=True)
class Kept:
    """A picture that passed all stages, and the name of its triplet."""

    record: Record
    index: int
    name: str
    signature: str


def kept(plan: Plan, work: Path) -> Iterator[Kept]:
    """This process's share of the kept pictures."""
    rank, world = ranks()
    for key in keys(work):
        if crc32(key.encode()) % world != rank:
            continue
        record = Record(work, key)
        last = plan.state(record)
        if last is None or last.status != DONE or not plan.finished(last):
            continue
        for index in record.alive():
            yield Kept(record, index, f"{key}-{index}", last.signature)


def export(plan: Plan, work: Path, dataset: Path) -> tuple[int, int]:
    """Write what is kept and not there yet; take out what these settings no longer keep.

    Args:
        plan: of the configuration.
        work: folder of the records.
        dataset: the data root, for `[dataset] path` of the trainer.

    Returns:
        (records written now, records in the index).

    Raises:
        ValueError: nothing was collected there, or a triplet cannot be written.
        OSError: the disk is full or gone. What is whole stays.
    """
    if not any(True for _ in keys(work)):
        raise ValueError(f"'{work}' has no records; run the collection first")
    rank, world = ranks()
    dataset.mkdir(parents=True, exist_ok=True)
    wanted = list(kept(plan, work))
    signature_of = {one.name: one.signature for one in wanted}
    for folder in sorted(dataset.iterdir()):
        note = _note(folder)
        if note is None or crc32(str(note.get("key", "")).encode()) % world != rank:
            continue
        if signature_of.get(folder.name) != note.get("signature"):
            log.info("%s is no longer kept", folder.name)
            trash = folder.with_name(f".{folder.name}")
            folder.rename(trash)
            shutil.rmtree(trash)
    written = 0
    for one in wanted:
        if not (dataset / one.name).exists():
            _write(one, dataset)
            written += 1
    return written, write_index(dataset)


def _note(folder: Path) -> dict | None:
    try:
        return json.loads((folder / CAMERA).read_text(encoding="utf-8")).get(NOTE)
    except (OSError, ValueError, AttributeError):
        return None


def _write(one: Kept, dataset: Path) -> None:
    record, index = one.record, one.index
    pose = record.picture("pose", index)
    scores = {key: pose[key] for key in ("iou", "ambiguity", "colour_correlation")}
    note = {"key": record.key, "picture": index, "signature": one.signature, **scores}
    write_record(
        dataset,
        item=record.data(SOURCE)["item"],
        caption=record.picture(SOURCE, index)["caption"],
        image=read_rgb(record.file(SOURCE, f"{index}.png")),
        mask=read_mask(record.file("masks", f"{index}.png")).astype(np.float32),
        asset=load_mesh(record),
        camera=camera_of(pose),
        name=one.name,
        notes={"shift": pose["shift"], NOTE: note},
    )
