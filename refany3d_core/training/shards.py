"""A training set on disk: safetensors shards of pictures, built in parallel and resumable.

A shard is a pure function of (configuration, split, index, meshes), so a build that was cut off
goes on where it stopped, and two machines can share one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ..asset import FORMATS, load_asset
from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from ..asset.views import render_reference_views
from .checkpoint import load_metadata, load_tensors, save_tensors
from .config import WorldConfig
from .dataset import TripletPictures, scenes_of, world_chunk
from .world.assets import make_assets
from .world.scenes import FIELD_OF_VIEW, SceneTable, background
from .world.scenes import Camera as SceneCamera

log = logging.getLogger(__name__)

_WORD = re.compile(r"[a-z]+")


def build(
    config: WorldConfig,
    folder: Path,
    split: str,
    meshes: Path | None = None,
    workers: int = 1,
) -> list[Path]:
    """Write the shards that are not there yet.

    Args:
        config: the world; `chunk` assets make one shard.
        folder: where SPLIT_00000.safetensors and so on go.
        split: "train" or "held_out".
        meshes: a folder of mesh files to use instead of procedural assets; every twentieth of them
            by name is held out.
        workers: processes.

    Returns:
        All shards of the split.

    Raises:
        ValueError: the folder of meshes has none for the split, or one cannot be read; its name.
    """
    files = mesh_files(meshes, split) if meshes else None
    count = len(files) if files else config.assets
    starts = range(0, count, config.chunk)
    paths = [folder / f"{split}_{i:05d}.safetensors" for i in range(len(starts))]
    todo = [(p, s, min(config.chunk, count - s)) for p, s in zip(paths, starts) if not p.exists()]
    log.info("%d of %d shards are there", len(paths) - len(todo), len(paths))
    job = partial(_build_shard, config, split, files)
    if workers <= 1:
        for task in todo:
            log.info("%s", job(task).name)
        return paths
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        for path in pool.map(job, todo):
            log.info("%s", path.name)
    return paths


def mesh_files(folder: Path, split: str) -> list[Path]:
    """Mesh files under a folder that belong to a split, sorted.

    Raises:
        ValueError: there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower().lstrip(".") in FORMATS)
    chosen = [p for i, p in enumerate(found) if (i % 20 == 19) == (split == "held_out")]
    if not chosen:
        raise ValueError(
            f"'{folder.name}' has {len(found)} mesh files, none of them for the split '{split}' "
            "(every twentieth is held out)"
        )
    return chosen


def _build_shard(
    config: WorldConfig, split: str, files: list[Path] | None, task: tuple[Path, int, int]
) -> Path:
    path, start, count = task
    scenes = scenes_of(config, split, start, count)
    if files is None:
        assets = make_assets(config.seed, split, count, start)
        chunk = world_chunk(config, assets, scenes, torch.device("cpu"))
    else:
        chunk = _mesh_chunk(config, files[start : start + count], scenes)
    poses = {
        "azimuth": torch.from_numpy(scenes.azimuth),
        "pitch": torch.from_numpy(scenes.pitch),
        "roll": torch.from_numpy(scenes.roll),
        "distance": torch.from_numpy(scenes.distance),
        "shift": torch.from_numpy(scenes.shift),
    }
    text = {"captions": json.dumps(chunk.captions), "kinds": json.dumps(chunk.kinds)}
    tensors = {"views": chunk.views, "targets": chunk.targets, **poses}
    save_tensors(path, tensors, {**text, "config": json.dumps(dataclasses.asdict(config))})
    return path


def _mesh_chunk(config: WorldConfig, files: list[Path], scenes: SceneTable) -> TripletPictures:
    views, targets, captions, kinds = [], [], [], []
    for i, file in enumerate(files):
        try:
            asset = load_asset(file)
        except ValueError as e:
            raise ValueError(f"mesh {file.name}: {e}; take it out of the folder") from e
        kinds.append(" ".join(_WORD.findall(file.stem.lower())) or "thing")
        seen = render_reference_views(asset, config.views, config.resolution)
        views.append(np.stack([_bytes(seen.colors), _bytes(seen.point_maps)]))
        rows = slice(i * config.scenes, (i + 1) * config.scenes)
        part = scenes[rows]
        targets.append(
            np.stack([_in_scene(asset, part[slice(j, j + 1)], config.resolution)
                      for j in range(config.scenes)])
        )  # fmt: skip
        captions.append(part.captions([kinds[-1]] * config.scenes))
    stacked = (torch.from_numpy(np.stack(x)) for x in (views, targets))
    return TripletPictures(*stacked, captions, kinds)


def _in_scene(asset: Asset, scene: SceneTable, resolution: int) -> np.ndarray:
    """uint8 [2, 3, H, W] of one asset in one scene: RGB and point map."""
    seen = SceneCamera(scene, resolution, "cpu")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = seen.axes[0].T.numpy(), seen.eye[0, 0].numpy()
    right, up = scene.shift[0] * resolution / 2
    fov = math.degrees(FIELD_OF_VIEW)
    view = render(asset, Camera(pose, fov, resolution, resolution, (float(right), float(-up))))
    half = torch.from_numpy((asset.extent * asset.scale / 2).astype(np.float32))[None]
    behind = background(scene, half, seen)[0].unflatten(0, (resolution, resolution)).numpy()
    light = 0.8 + 0.1 * (1 + view.normal[..., 1:2])
    rgb = np.where(view.mask[..., None], view.color * light, behind)
    return np.stack([_bytes(rgb), _bytes(view.point_map)])


def _bytes(picture: np.ndarray) -> np.ndarray:
    """Float [..., H, W, 3] in 0..1 to uint8 [..., 3, H, W], truncated as published (fact 40)."""
    return np.moveaxis((np.clip(picture, 0, 1) * 255).astype(np.uint8), -1, -3)


def shard_texts(folder: Path, split: str) -> list[str]:
    """Every caption and kind in the shards of a split."""
    out: list[str] = []
    for path in sorted(folder.glob(f"{split}_*.safetensors")):
        text = load_metadata(path)
        out += [c for scenes in json.loads(text["captions"]) for c in scenes]
        out += json.loads(text["kinds"])
    return out


def shard_source(folder: Path, split: str) -> Iterator[TripletPictures]:
    """The shards of a split.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(folder.glob(f"{split}_*.safetensors"))
    if not paths:
        raise ValueError(
            f"'{folder.name}' has no shard {split}_*.safetensors; make some with "
            f"python -m refany3d_core.training build CONFIG.toml --output {folder.name}"
        )
    for path in paths:
        text, tensors = load_metadata(path), load_tensors(path)
        yield TripletPictures(
            tensors["views"],
            tensors["targets"],
            json.loads(text["captions"]),
            json.loads(text["kinds"]),
        )
