"""A record on disk: a folder for each stage that is done, renamed into place when it is whole.

    WORK/records/KEY/STAGE/result.json, and the stage's files beside it

A result carries the signature of all settings that it depends on; one with another signature counts
as not there. So the state of a run is what lies on disk, whenever and however it ended.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DONE, REFUSED, FAILED = "done", "refused", "failed"
"""The stage's files are there; the record does not serve, a result like any other; something around
it failed (a server, a disk, a bug), to be tried again by the next run."""
RESULT = "result.json"
RECORDS = "records"


class Refused(ValueError):
    """A record or picture does not serve; the message is the reason."""


@dataclass(frozen=True)
class Result:
    """What a stage says about a record.

    Attributes:
        stage, signature: of the stage.
        status: DONE, REFUSED or FAILED.
        reason: a sentence, unless done.
        pictures: one dictionary a picture, with the key "refused" where it ends here; empty where
            it ended before.
        data: of the record as a whole.
        seconds: that the stage took.
    """

    stage: str
    signature: str
    status: str
    reason: str = ""
    pictures: Sequence[Mapping[str, Any]] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def signatures(stages: Sequence[tuple[str, Any]]) -> list[str]:
    """For each (name, settings) the digest of it and all before it."""
    out, before = [], ""
    for name, settings in stages:
        text = json.dumps([before, name, settings], sort_keys=True, default=str)
        before = hashlib.sha256(text.encode()).hexdigest()[:16]
        out.append(before)
    return out


class Record:
    """One asset with one or more pictures of it."""

    def __init__(self, work: Path, key: str) -> None:
        self.key = key
        self.folder = work / RECORDS / key
        self.results: dict[str, Result] = {}

    def read(self, stage: str, signature: str) -> Result | None:
        """The stage's result, unless it is missing or of other settings; kept in `results`."""
        try:
            found = json.loads((self.folder / stage / RESULT).read_text(encoding="utf-8"))
            result = Result(**found)
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None
        if result.signature != signature:
            return None
        self.results[stage] = result
        return result

    def file(self, stage: str, name: str) -> Path:
        """A file that a stage left."""
        return self.folder / stage / name

    def data(self, stage: str) -> Mapping[str, Any]:
        """What a stage that is done says about the whole record."""
        return self.results[stage].data

    def picture(self, stage: str, index: int) -> Mapping[str, Any]:
        """What a stage that is done says about a picture."""
        return self.results[stage].pictures[index]

    def alive(self) -> list[int]:
        """The pictures that no stage so far has refused."""
        last = list(self.results.values())[-1].pictures
        return [i for i, picture in enumerate(last) if "refused" not in picture]

    def alive_before(self, stage: str) -> list[int]:
        """The pictures that no stage before this one has refused."""
        names = list(self.results)
        before = names.index(stage) - 1
        if before < 0:
            return []
        last = self.results[names[before]].pictures
        return [i for i, picture in enumerate(last) if "refused" not in picture]

    def begin(self, stage: str) -> Path:
        """An empty folder for a stage's files; drops what is there under other settings."""
        partial = self.folder / f".{stage}.partial"
        for old in (partial, self.folder / stage):
            if old.exists():
                # renamed first: half a folder must not pass for a whole one
                trash = self.folder / f".{stage}.old"
                shutil.rmtree(trash, ignore_errors=True)
                old.rename(trash)
                shutil.rmtree(trash)
        partial.mkdir(parents=True)
        return partial

    def commit(self, result: Result) -> None:
        """Write the result beside the files of `begin`, and rename the folder into place."""
        partial = self.folder / f".{result.stage}.partial"
        text = json.dumps(_finite(asdict(result)), indent=1, allow_nan=False)
        (partial / RESULT).write_text(text, encoding="utf-8")
        for file in partial.iterdir():
            _flush(file)
        partial.rename(self.folder / result.stage)
        self.results[result.stage] = result


def _finite(value: Any) -> Any:
    """JSON without NaN and infinity: they become texts."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, flush it, and rename it into place; the last of several writers wins."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def keys(work: Path) -> Iterator[str]:
    """The records of a folder."""
    try:
        with os.scandir(work / RECORDS) as entries:
            yield from sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return
