"""Bounds on what a file may ask of the machine: where it may read, and how much it may unpack."""

import io
import os
import urllib.parse
import zipfile
from pathlib import Path

MAX_FILE_BYTES = 4 << 30
"""Largest file that is read."""
MAX_TEXT_BYTES = 1 << 30
"""Largest file of a format other than glTF, whose readers take several times its size in memory."""
MAX_UNPACKED_BYTES = 2 << 30
"""Largest content of an archive such as 3MF."""


class LimitError(ValueError):
    """A file asks for more than the machine should give: it is refused, not drawn in part."""


def check_file_size(path: Path) -> None:
    """Raise ValueError when a file is missing, empty or larger than MAX_FILE_BYTES."""
    if not path.is_file():
        raise ValueError(f"there is no file {path.name}")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); copy or export it again")
    if size > MAX_FILE_BYTES:
        raise LimitError(
            f"{path.name} has {size / 2**30:.1f} GiB, the limit is {MAX_FILE_BYTES >> 30} GiB"
        )


def beside(folder: Path, name: str) -> Path:
    """The file that a mesh file names, if it lies in the mesh's own folder or below.

    Where the named path leads elsewhere or nowhere, a file of the same name right beside the mesh
    is taken: exporters write paths of the machine that they ran on.

    Args:
        folder: the mesh file's folder.
        name: a relative URI or path as written in the file.

    Raises:
        ValueError: a web address, or no such file in the folder.
    """
    plain = urllib.parse.unquote(name).replace("\\", "/").strip()
    if "://" in plain and not plain.lower().startswith("file:"):
        raise ValueError(
            f"it refers to {name[:80]!r}; only files beside it are read, nothing is downloaded: "
            "put the file next to it and name it relatively"
        )
    root = os.path.realpath(folder)
    last = plain.rpartition("/")[2]
    outside = False
    for candidate in (plain, name, last):
        try:
            target = os.path.realpath(os.path.join(root, candidate))
            if os.path.commonpath([root, target]) != root:
                outside = True
            elif os.path.isfile(target):
                return Path(target)
        except (ValueError, OSError):  # a null byte, another drive, a name that is too long
            outside = True
    if outside:
        raise ValueError(
            f"it refers to {name[:80]!r}, which lies outside its own folder and is not read: put "
            "the file next to it"
        )
    raise ValueError(f"the file {name[:80]!r} is not beside the mesh")


def check_archive(data: bytes, name: str) -> None:
    """Raise ValueError when a zip (3MF) is broken or unpacks to more than MAX_UNPACKED_BYTES."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{name} is not a readable archive ({error})") from error
    if total > MAX_UNPACKED_BYTES:
        raise LimitError(
            f"{name} unpacks to {total / 2**30:.1f} GiB, the limit is "
            f"{MAX_UNPACKED_BYTES >> 30} GiB"
        )
