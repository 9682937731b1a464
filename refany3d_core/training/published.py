"""Reader of the published dataset layout: `meta_data.json` with pictures, orbits and point maps.

METHOD facts 36 and 45: each record names, relative to the data root, `json` (with `text`, the
caption, and `item`, the object), `image`, `video` and `coord` (the same orbit as pictures and as
point maps, mp4) and `pose_coord` (RGBA point map of the object in the image).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from .dataset import TripletPictures

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


def _capture(name: str, key: str, path: Path):
    try:
        import cv2
    except ImportError as e:
        raise ValueError("mp4 orbits need OpenCV: pip install opencv-python-headless") from e
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(f"{name}: {key} '{path.name}' is not a video")
    return capture


def _frame_count(name: str, key: str, path: Path) -> int:
    import cv2

    return int(_capture(name, key, path).get(cv2.CAP_PROP_FRAME_COUNT))


def published_source(
    records: list[Record], split: str, views: int, resolution: int
) -> Iterator[TripletPictures]:
    """The records of a split, one asset in one scene at a time (METHOD facts 42, 45 and 46).

    Raises:
        ValueError: a file turned unreadable; its record.
    """
    for record in records:
        if (crc32(record.item.encode()) % HELD_OUT_SHARE == 0) != (split == "held_out"):
            continue
        orbits = [_orbit(record, key, views, resolution) for key in ("video", "coord")]
        image, point_map = _targets(record, resolution)
        pictures = [torch.from_numpy(np.stack(x))[None] for x in (orbits, (image, point_map))]
        yield TripletPictures(pictures[0], pictures[1][:, None], [[record.caption]], [record.item])


def _orbit(record: Record, key: str, views: int, resolution: int) -> np.ndarray:
    """uint8 [n, 3, H, W], frames i * (length // n)."""
    import cv2
    from PIL import Image

    path = getattr(record, key)
    capture = _capture(record.name, key, path)
    step = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // views
    out = []
    for i in range(step * (views - 1) + 1):
        there, frame = capture.read()
        if not there:
            raise ValueError(f"{record.name}: {key} '{path.name}' ends at frame {i}")
        if i % step == 0:
            out.append(_fitted(Image.fromarray(frame[..., ::-1]), resolution))
    return np.stack(out)


def _targets(record: Record, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    coord = Image.open(record.pose_coord).convert("RGBA")
    on_white = Image.new("RGBA", coord.size, "white")
    # not blended: a mixed value would name a point that is not on the asset
    on_white.paste(coord, mask=coord.getchannel("A").point(lambda a: 255 if a else 0))
    image = Image.open(record.image).convert("RGB")
    return _fitted(image, resolution), _fitted(on_white.convert("RGB"), resolution)


def _fitted(image, resolution: int) -> np.ndarray:
    """Shorter side resized (bilinear), centre crop, uint8 [3, H, W]."""
    from PIL import Image

    width, height = image.size
    scale = resolution / min(width, height)
    size = max(resolution, round(width * scale)), max(resolution, round(height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    pixels = np.asarray(image.crop((left, top, left + resolution, top + resolution)))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
