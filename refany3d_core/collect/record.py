"""Triplets on disk in the published layout (METHOD facts 36, 38, 45).

    DATASET/meta_data.json
    DATASET/NAME/caption.json   text (the caption) and item (the object)
                 image.png, mask.png
                 video.mkv, coord.mkv   the orbit as pictures and as point maps
                 pose_coord.png         RGBA point map of what is visible of the object
                 camera.json            camera to world in the asset's normalised frame, fov

A record is one folder that gets its name when it is whole; the index is made of what is there.
Orbits are FFV1, which is exact: as mp4, point maps lose 0.014 on average.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from ..asset.views import render_reference_views
from ..files import written_whole

INDEX = "meta_data.json"
VIEWS = 8
RESOLUTION = 512
FILES = {
    "json": "caption.json",
    "image": "image.png",
    "mask": "mask.png",
    "video": "video.mkv",
    "coord": "coord.mkv",
    "pose_coord": "pose_coord.png",
}
"""What the index names, and its file in the record's folder."""
CAMERA = "camera.json"
_PARTIAL = ".partial"
_LEFT_OVER_SECONDS = 3600
_FRAME_RATE = 10
OUTLINE_ERROR = 0.03
"""By which the outlines of mask and render may differ, as a part of the picture's longer side."""
MIN_SEEN = 0.25
"""Part of the mask that the asset covers at least: less is another camera's, or another mask."""


def write_record(
    dataset: Path,
    *,
    item: str,
    caption: str,
    image: np.ndarray,
    mask: np.ndarray,
    asset: Asset,
    camera: Camera,
    name: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one record; the index is not touched, see `write_index`.

    Args:
        dataset: the data root, made when missing.
        item: the object's name.
        caption: of the image.
        image: float [H, W, 3] in 0..1.
        mask: float [H, W], above 0.5 on what is visible of the object.
        asset: the object.
        camera: that took the image, W x H.
        name: of the record's folder; by default the item's and a digest of the content, so that the
            same triplet is there once.
        notes: more to keep in camera.json.

    Returns:
        The record's folder. One of this name that is there already is left as it is.

    Raises:
        ValueError: a caption or item is missing, sizes differ, or the camera does not see the asset
            where the mask is.
        OSError: the disk is full or read-only; nothing is left behind.
    """
    item, caption = item.strip(), caption.strip()
    for key, value in (("item", item), ("caption", caption)):
        if not value:
            raise ValueError(f"{key} is empty; write what the picture shows")
    if image.shape[:2] != mask.shape or image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"the image is {image.shape[1]} x {image.shape[0]}, the mask {mask.shape[1]} x "
            f"{mask.shape[0]} and the camera's picture {camera.width} x {camera.height}; make them "
            "the same size"
        )
    if name is not None and (folder := dataset / name).exists():
        return folder
    pictures = {
        FILES["image"]: _bytes(image),
        FILES["mask"]: np.where(mask > 0.5, 255, 0).astype(np.uint8),
        FILES["pose_coord"]: _posed_map(asset, camera, mask > 0.5),
    }
    views = render_reference_views(asset, VIEWS, RESOLUTION)
    orbits = {
        FILES["video"]: _bytes(views.colors),
        FILES["coord"]: _bytes(views.point_maps),
    }
    texts = {
        FILES["json"]: {"text": caption, "item": item},
        CAMERA: {
            "camera_to_world": camera.pose.tolist(),
            "fov": camera.fov,
            "width": camera.width,
            "height": camera.height,
            **(notes or {}),
        },
    }
    folder = dataset / (name or _name(item, [*pictures.values(), *orbits.values()], caption))
    if folder.exists():
        return folder
    _remove_left_overs(dataset)
    partial = dataset / f".{uuid4().hex}{_PARTIAL}"
    try:
        partial.mkdir(parents=True)
        _write_files(partial, pictures, orbits, texts)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process wrote the same record meanwhile
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _remove_left_overs(dataset: Path) -> None:
    """Folders of writers that were killed."""
    for folder in dataset.glob(f".*{_PARTIAL}"):
        try:
            if time.time() - folder.stat().st_mtime > _LEFT_OVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another process was quicker
            continue


def _write_files(
    folder: Path,
    pictures: Mapping[str, np.ndarray],
    orbits: Mapping[str, np.ndarray],
    texts: Mapping[str, Mapping[str, Any]],
) -> None:
    from PIL import Image

    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    for name, frames in orbits.items():
        write_frames(folder / name, frames)
    for name, text in texts.items():
        (folder / name).write_text(json.dumps(text, ensure_ascii=False, indent=1), "utf-8")


def write_index(dataset: Path) -> int:
    """Make meta_data.json name every record that is there; what others wrote into it stays.

    Several processes may do so at a time: the index is replaced whole, and made again when a record
    came meanwhile.

    Returns:
        The number of entries.

    Raises:
        ValueError: the index that is there is no list of records.
    """
    index = dataset / INDEX
    while True:
        folders = _record_folders(dataset)
        entries = [{key: f"{name}/{file}" for key, file in FILES.items()} for name in folders]
        entries = [entry for entry in _entries(index) if not _ours(entry)] + entries
        with written_whole(index) as file:
            file.write(json.dumps(entries, ensure_ascii=False, indent=1).encode())
        if _record_folders(dataset) == folders:
            return len(entries)


def _record_folders(dataset: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(dataset)
        if entry.is_dir()
        and not entry.name.startswith(".")
        and os.path.exists(os.path.join(entry.path, FILES["json"]))
    )


def _entries(index: Path) -> list:
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ValueError(f"{INDEX} in '{index.parent.name}' is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{INDEX} in '{index.parent.name}' holds no list of records")
    return entries


def _ours(entry: object) -> bool:
    text = entry.get("json") if isinstance(entry, dict) else None
    return isinstance(text, str) and text.count("/") == 1 and text.endswith("/" + FILES["json"])


def write_frames(path: Path, frames: np.ndarray) -> None:
    """Frames uint8 [n, H, W, 3] as FFV1 in Matroska: what is read back is the same."""
    import av

    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=_FRAME_RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode(None))


def _posed_map(asset: Asset, camera: Camera, visible: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4]: the point map of the asset but for what something hides.

    Raises:
        ValueError: the asset is not seen where the mask is.
    """
    view = render(asset, camera)
    seen = view.mask & visible
    if not visible.any():
        raise ValueError("the mask is empty: nothing is selected; select the object")
    if seen.sum() < MIN_SEEN * visible.sum():
        raise ValueError(
            f"the camera sees the mesh in only {seen.sum() / visible.sum():.0%} of the mask; "
            "connect the camera_info and the mask of one picture"
        )
    on = view.mask & ~_hidden(view.mask & ~visible, visible)
    values = np.where(on[..., None], _bytes(view.point_map), 255)
    return np.dstack([values, np.where(on, 255, 0)]).astype(np.uint8)


def _hidden(off: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Of the render's pixels off the mask (bool [H, W]), those that something hides: pieces that
    reach farther from the mask than its outline is inexact."""
    from scipy import ndimage

    reach = max(off.shape) * OUTLINE_ERROR
    core = off & (ndimage.distance_transform_edt(~visible) > reach)
    return off & (ndimage.distance_transform_edt(~core) <= reach + 1) if core.any() else core


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _name(item: str, arrays: list[np.ndarray], caption: str) -> str:
    digest = hashlib.sha256(f"{item}\n{caption}".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    slug = re.sub(r"[^a-z0-9]+", "-", item.lower()).strip("-")[:40]
    return f"{slug or 'item'}-{digest.hexdigest()[:12]}"
