"""What every stage is: a name, the settings that it depends on, and a function of a record."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .store import DONE, FAILED, REFUSED, Record, Refused, Result

log = logging.getLogger(__name__)

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
"""What says nothing about a record, and would go wrong for every other one too."""

Pictures = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What a stage found: one dictionary a picture, and of the record as a whole."""

    pictures: Pictures
    data: Mapping[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """A step from a record to more of it."""

    @property
    def name(self) -> str:
        """Of its folder."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that its results depend on, beside the stages before it; JSON."""

    def __call__(self, record: Record, folder: Path) -> Outcome:
        """Work on a record, with files into `folder`.

        Raises:
            Refused: the record does not serve.
            Unreachable: something that it needs is not there just now.
        """


def each_picture(record: Record, work: Callable[[int], Mapping[str, Any]]) -> Pictures:
    """`work(index)` for the pictures that serve so far; one that it refuses ends there."""
    out: list[Mapping[str, Any]] = []
    before = list(record.results.values())[-1].pictures
    alive = record.alive()
    for index, picture in enumerate(before):
        if index not in alive:
            out.append({"refused": picture["refused"]})
            continue
        try:
            out.append(work(index))
        except Refused as error:
            out.append({"refused": str(error)})
    return out


def carry_out(stage: Stage, signature: str, record: Record) -> Result:
    """A stage's result for a record, on disk.

    Raises:
        OSError: the disk is full or gone; nothing is recorded.
    """
    start = time.monotonic()
    folder = record.begin(stage.name)
    pictures: Pictures = ()
    data: Mapping[str, Any] = {}
    try:
        outcome = stage(record, folder)
        pictures, data = outcome.pictures, outcome.data
        reasons = list(dict.fromkeys(p["refused"] for p in pictures if "refused" in p))
        refused = len(pictures) == sum("refused" in p for p in pictures)
        status, reason = (REFUSED, "; ".join(reasons)) if refused else (DONE, "")
    except Refused as error:
        status, reason = REFUSED, str(error)
    except Unreachable as error:
        status, reason = FAILED, str(error)
    except Exception as error:  # a bug or a library's must not end the run for all others
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        log.exception("%s: %s", record.key, stage.name)
        status, reason = FAILED, f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - start, 3)
    result = Result(stage.name, signature, status, reason, pictures, data, seconds)
    record.commit(result)
    return result


class Unreachable(Exception):
    """What a stage needs is not there just now, such as a server; says what."""


class Lazy:
    """A thing that is made by the first thread that needs it, and used by one at a time."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._made = make, None
        self._lock = threading.RLock()

    def __enter__(self) -> Any:
        self._lock.acquire()
        try:
            if self._made is None:
                self._made = self._make()
        except BaseException:
            self._lock.release()
            raise
        return self._made

    def __exit__(self, *_: object) -> None:
        self._lock.release()
