"""Files written whole or not at all, and what the system says about files in sentences."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

_LEFT_OVER_SECONDS = 3600
_LEFT_OVERS = (".*.part", ".tmp*")  # ours, and those that safetensors writes aside


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, beside its place; moved there in one step when the block ends well.

    It gets the rights that the user's umask gives. What killed processes left in the folder is
    removed. Folders are made.

    Raises:
        OSError: it cannot be written; what was there before stays, and nothing is left aside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(path.parent)
    part = path.with_name(f".{uuid4().hex}.part")  # several processes may write the same file
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_left_overs(folder: Path) -> None:
    for pattern in _LEFT_OVERS:
        for file in folder.glob(pattern):
            try:
                if time.time() - file.stat().st_mtime > _LEFT_OVER_SECONDS:
                    file.unlink()
            except OSError:  # another process was quicker, or it is not ours to remove
                continue


def write_trouble(error: OSError, path: Path) -> str:
    """Why a file cannot be written, and what to do."""
    where = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {where} is full: make room there and queue again"
    if error.errno == errno.EROFS:
        return f"{where} is read-only: make it writable, or move ComfyUI's folder to another disk"
    if isinstance(error, PermissionError):
        return f"ComfyUI has no right to write to {where}: give it that right"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name of {len(path.name)} characters is too long for its disk: shorten it"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"a file is where a folder should be on the way to {where}: rename or remove it"
    return f"{where} gives an error ({error.strerror or error}): check that disk"


def read_trouble(path: Path) -> str | None:
    """Why the system does not let a file be read, and what to do; None when it does, so that the
    file's content is at fault. Libraries that read files hide the difference."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except PermissionError:
        return f"ComfyUI has no right to read {path}: give it that right"
    except FileNotFoundError:
        return f"{path} is gone: refresh the page and choose another"
    except OSError as error:
        return f"{path} gives an error ({error.strerror or error}): check that disk"
    return None
