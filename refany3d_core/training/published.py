"""Reader of the published dataset layout: `meta_data.json` with pictures, orbits and point maps.

METHOD facts 36 and 45: each record names, relative to the data root, `json` (with `text`, the
caption, and `item`, the object), `image`, `video` and `coord` (the same orbit as pictures and as
point maps, mp4) and `pose_coord` (RGBA point map of the object in the image).
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch

from .config import DatasetConfig
from .triplets import Source, TripletPictures

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

INDEX = "meta_data.json"
_FILES = ("json", "image", "video", "coord", "pose_coord")
_SHOWN = 10
HELD_OUT_SHARE = 20
"""One asset in so many is held out, by the check sum of its name."""


@dataclass(frozen=True)
class Record:
    """One entry of the index whose files are there and readable.

    Attributes:
        name: of the image file, for messages.
        item: the object's name.
        caption: of the image.
        image, video, coord, pose_coord: paths.
    """

    name: str
    item: str
    caption: str
    image: Path
    video: Path
    coord: Path
    pose_coord: Path


def read_records(folder: Path, views: int, skip_faulty: bool = False) -> list[Record]:
    """The records of a dataset, each looked at: files, caption, sizes, number of frames.

    Args:
        folder: the data root.
        views: frames that each orbit must have at least.
        skip_faulty: leave faulty records out, with a warning, instead of refusing the dataset.

    Raises:
        ValueError: the index is missing or broken, records are faulty (how many, and the first ten
            by name), or none is left.
    """
    index = folder / INDEX
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ValueError(f"'{folder.name}' has no {INDEX}; give the data root") from e
    except ValueError as e:
        raise ValueError(f"{INDEX} is not JSON: {e}") from e
    if not isinstance(entries, list):
        raise ValueError(f"{INDEX} holds a {type(entries).__name__}, expected a list of records")
    records, faults = [], []
    for number, entry in enumerate(entries):
        try:
            records.append(_checked(folder, number, entry, views))
        except ValueError as e:
            faults.append(str(e))
    if faults:
        shown = "; ".join(faults[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        text = f"{len(faults)} of {len(entries)} records are faulty: {shown}{more}"
        if not skip_faulty:
            raise ValueError(f"{text}. Mend them, or set skip_faulty = true under [dataset]")
        log.warning("%s. They are skipped", text)
    if not records:
        raise ValueError(f"{INDEX} has no usable record")
    return records


def _checked(folder: Path, number: int, entry: object, views: int) -> Record:
    name = f"record {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is no object")
    if entry.get("image"):
        name = f"record {number} ({entry['image']})"
    missing = [key for key in _FILES if not entry.get(key)]
    if missing:
        raise ValueError(f"{name} has no {', '.join(missing)}")
    paths = {key: folder / entry[key] for key in _FILES}
    absent = [f"{key} '{entry[key]}'" for key, path in paths.items() if not path.is_file()]
    if absent:
        raise ValueError(f"{name}: there is no {', '.join(absent)}")
    empty = [f"{key} '{entry[key]}'" for key, path in paths.items() if not path.stat().st_size]
    if empty:
        raise ValueError(f"{name}: {', '.join(empty)} is empty")
    try:
        text = json.loads(paths["json"].read_text(encoding="utf-8"))
    except ValueError as e:
        raise ValueError(f"{name}: '{entry['json']}' is not JSON") from e
    caption = str(text.get("text") or "").strip() if isinstance(text, dict) else ""
    if not caption:
        raise ValueError(f"{name}: '{entry['json']}' has no text, the caption")
    sizes = {key: _size(name, key, paths[key]) for key in ("image", "pose_coord")}
    if sizes["image"] != sizes["pose_coord"]:
        raise ValueError(
            f"{name}: image is {'x'.join(map(str, sizes['image']))} but pose_coord "
            f"{'x'.join(map(str, sizes['pose_coord']))}"
        )
    lengths = {key: _frame_count(name, key, paths[key]) for key in ("video", "coord")}
    if lengths["video"] != lengths["coord"]:
        raise ValueError(
            f"{name}: video has {lengths['video']} frames but coord {lengths['coord']}"
        )
    if lengths["video"] < views:
        raise ValueError(f"{name}: {lengths['video']} frames are too few for {views} views")
    item = str(text.get("item") or entry["image"]).strip()
    files = {key: paths[key] for key in ("image", "video", "coord", "pose_coord")}
    return Record(name, item, caption, **files)


def _size(name: str, key: str, path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError, ValueError) as e:
        raise ValueError(f"{name}: {key} '{path.name}' is not a picture") from e


@contextmanager
def _video(name: str, key: str, path: Path) -> Iterator[Any]:
    """An open video (PyAV, which ComfyUI requires).

    Raises:
        ValueError: it is none.
    """
    import av

    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise ValueError(f"{name}: {key} '{path.name}' has no pictures")
            yield video
    except (av.error.FFmpegError, OSError) as e:
        raise ValueError(f"{name}: {key} '{path.name}' is not a video ({e})") from e


def _frame_count(name: str, key: str, path: Path) -> int:
    with _video(name, key, path) as video:
        counted = video.streams.video[0].frames  # 0 where the container does not say
        return counted or sum(1 for packet in video.demux(video=0) if packet.size)


def is_held_out(name: str) -> bool:
    """Whether an asset is held out, by the check sum of its name."""
    return crc32(name.encode()) % HELD_OUT_SHARE == 0


def published_source(folder: Path, config: DatasetConfig, split: str) -> Source:
    """The records of a split, in chunks of one size of pictures (METHOD facts 42, 45 and 46).

    Args:
        folder: the data root.
        config: resolution, views, chunk, buckets.
        split: "train" or "held_out".

    Raises:
        ValueError: records are faulty (see read_records), or none belongs to the split.
    """
    records = read_records(folder, config.views, config.skip_faulty)
    records = [r for r in records if is_held_out(r.item) == (split == "held_out")]
    sizes: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        sizes[_target_size(record, config)].append(record)
    chunks = [
        (size, group[i : i + config.chunk])
        for size, group in sorted(sizes.items())
        for i in range(0, len(group), config.chunk)
    ]

    def make(i: int) -> TripletPictures:
        size, group = chunks[i]
        square = (config.resolution, config.resolution)
        orbits = [
            [_orbit(record, key, config.views, square) for key in ("video", "coord")]
            for record in group
        ]
        pairs = [_targets(record, size) for record in group]
        return TripletPictures(
            torch.from_numpy(np.stack([np.stack(orbit) for orbit in orbits])),
            torch.from_numpy(np.stack([np.stack(pair) for pair in pairs]))[:, None],
            [[record.caption] for record in group],
            [record.item for record in group],
        )

    index = crc32((folder / INDEX).read_bytes())
    names = crc32(json.dumps([r.name for r in records]).encode())
    settings = (config.resolution, config.views, config.buckets, config.chunk)
    return Source(len(chunks), make, f"published {index:08x} {names:08x} {split} {settings}")


def _target_size(record: Record, config: DatasetConfig) -> tuple[int, int]:
    """Height and width of a record's targets: the square as published, or with `buckets` its own
    aspect ratio at about as many pixels, in steps of 64."""
    side = config.resolution
    if not config.buckets:
        return side, side
    width, height = _size(record.name, "image", record.image)
    ratio = (height / width) ** 0.5
    return tuple(max(64, round(side * r / 64) * 64) for r in (ratio, 1 / ratio))


def _orbit(record: Record, key: str, views: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 [n, 3, H, W], frames i * (length // n)."""
    path = getattr(record, key)
    step = _frame_count(record.name, key, path) // views
    out: list[np.ndarray] = []
    with _video(record.name, key, path) as video:
        for i, frame in enumerate(video.decode(video=0)):
            if i % step == 0 and len(out) < views:
                out.append(_fitted(frame.to_image(), size))
            if len(out) == views:
                break
    if len(out) < views:
        raise ValueError(f"{record.name}: {key} '{path.name}' ends after {len(out)} of its views")
    return np.stack(out)


def _targets(record: Record, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    # resized with its alpha before white goes in, as published (METHOD fact 57): a value mixed with
    # white would name a point that is not on the asset
    coord = _resized(Image.open(record.pose_coord).convert("RGBA"), size)
    pixels = np.asarray(coord)
    on_white = np.where(pixels[..., 3:] > 0, pixels[..., :3], 255).astype(np.uint8)
    image = Image.open(record.image).convert("RGB")
    return _fitted(image, size), np.ascontiguousarray(on_white.transpose(2, 0, 1))


def _fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """See _resized; uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(_resized(image, size)).transpose(2, 0, 1))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resized until it covers (height, width), bilinear, and cut to its middle."""
    from PIL import Image

    height, width = size
    scale = max(height / image.height, width / image.width)
    covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize(covering, Image.Resampling.BILINEAR)
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    return image.crop((left, top, left + width, top + height))
