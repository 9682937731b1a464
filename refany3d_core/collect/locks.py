"""Locks between processes, on one machine or on a shared disk, that end with their process.

One file; a record's lock is one byte of it. The system drops the locks of a process that dies.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RANGE = 2**40


class Locks:
    """The records' locks of a folder.

    Args:
        path: of the file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+b")
        self._held: set[int] = set()  # the system's locks do not hold between threads
        self._guard = threading.Lock()

    @contextmanager
    def holding(self, key: str, wait: bool = False) -> Iterator[bool]:
        """Whether the key's lock is held in the body; `wait`: until it is."""
        at = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % _RANGE
        with self._guard:
            free = at not in self._held
            if free:
                self._held.add(at)
        if not free:
            yield False
            return
        try:
            held = _take(self._file, at, wait)
            try:
                yield held
            finally:
                if held:
                    _drop(self._file, at)
        finally:
            with self._guard:
                self._held.discard(at)


if sys.platform == "win32":
    import msvcrt

    def _take(file, at: int, wait: bool) -> bool:
        while True:
            file.seek(at)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(1)

    def _drop(file, at: int) -> None:
        file.seek(at)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(file, at: int, wait: bool) -> bool:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, at)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _drop(file, at: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, at)
