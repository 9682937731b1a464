"""Files of a training run: written whole or not at all, read without unpickling."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file beside its place, flush it to disk, then move it there in one step.

    Raises:
        ValueError: it cannot be written, on a full disk for one; what was there before stays.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with _written_aside(path) as part:
        save_file(tensors, part, dict(metadata or {}))


def save_json(path: Path, value: object) -> None:
    """Write JSON in the same way."""
    with _written_aside(path) as part:
        part.write_text(json.dumps(value, indent=1))


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # several may write it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.chmod(0o666 & ~_umask())  # as any other file of the user's, readable by others
        with open(part, "rb") as f:
            os.fsync(f.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as e:
        part.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} cannot be written ({e}); the file before it is as it was. Make room on "
            "the disk and start the same command again: it goes on from the last checkpoint"
        ) from e


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process may make a file: True in one process at a time, the others go on.

    The system drops the claim with the process, so it never goes stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with open(lock, "a+b") as file:
        try:
            _lock(file)
        except OSError:
            yield False
            return
        yield True
    lock.unlink(missing_ok=True)


def _lock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file to main memory."""
    return load_file(path, device="cpu")


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with safe_open(path, "pt") as f:
        return f.metadata() or {}
