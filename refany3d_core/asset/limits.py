"""Bounds on what a file may ask of the machine: where it may read, and how much it may unpack."""

import io
import os
import struct
import urllib.parse
import warnings
import zipfile
from pathlib import Path

import numpy as np

MAX_FILE_BYTES = 4 << 30
"""Largest file that is read."""
MAX_TRIMESH_BYTES = 1 << 30
"""Largest file for trimesh's readers, which take several times its size in memory."""
MAX_UNPACKED_BYTES = 2 << 30
"""Largest content of an archive such as 3MF."""
MAX_IMAGE_PIXELS = 170_000_000
"""Largest texture: 0.7 GB of RGBA, more than 8192 x 16384."""


def check_file_size(path: Path) -> None:
    """Raise ValueError when a file is missing, empty or larger than MAX_FILE_BYTES."""
    if not path.is_file():
        raise ValueError(f"there is no file {path.name}")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); copy or export it again")
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path.name} has {size / 2**30:.1f} GiB, the limit is {MAX_FILE_BYTES >> 30} GiB"
        )


def inside(folder: Path, name: str) -> Path:
    """The file that a mesh file names, if it lies in the mesh's own folder or below.

    Args:
        folder: the mesh file's folder.
        name: a relative URI or path as written in the file.

    Raises:
        ValueError: a web address, an absolute path, or a way out of the folder.
    """
    name = urllib.parse.unquote(name).replace("\\", "/")
    if "://" in name or name.lower().startswith(("http:", "https:", "file:", "ftp:")):
        raise ValueError(
            f"it refers to {name[:80]!r}; only files beside it are read, nothing is downloaded: "
            "put the file next to it and name it relatively"
        )
    root = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(root, name))
    absolute = name.startswith("/") or (len(name) > 1 and name[1] == ":")
    if absolute or "\x00" in name or os.path.commonpath([root, target]) != root:
        raise ValueError(
            f"it refers to {name[:80]!r}, which lies outside its own folder and is not read: put "
            "the file next to it and name it relatively"
        )
    return Path(target)


def check_archive(data: bytes, name: str) -> None:
    """Raise ValueError when a zip (3MF) is broken or unpacks to more than MAX_UNPACKED_BYTES."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{name} is not a readable archive ({error})") from error
    if total > MAX_UNPACKED_BYTES:
        raise ValueError(
            f"{name} unpacks to {total / 2**30:.1f} GiB, the limit is "
            f"{MAX_UNPACKED_BYTES >> 30} GiB"
        )


def decode_image(data: bytes, what: str) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 4] (sRGB, alpha), its size checked before its pixels.

    Args:
        data: bytes of a PNG, JPEG, WebP, BMP, TGA, ...
        what: name of the image for messages.

    Raises:
        ValueError: not an image that Pillow reads, or larger than MAX_IMAGE_PIXELS.
    """
    from PIL import Image, UnidentifiedImageError

    too_large = (
        f"{what} has {{}} pixels, the limit is {MAX_IMAGE_PIXELS // 10**6} megapixels; "
        "scale it down"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ValueError(f"{what} is not a picture in a known format") from error
    except Image.DecompressionBombError as error:
        raise ValueError(too_large.format("far too many")) from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError(f"{what} cannot be read ({error})") from error
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(too_large.format(f"{width:,} x {height:,}"))
    try:
        if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it
            grey = np.asarray(image, np.int64) // 257
            image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        return np.array(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise ValueError(f"{what} is damaged ({error})") from error
