"""A training set on disk: safetensors shards of pictures, built in parallel and resumable.

A shard is a pure function of (configuration, split, index, meshes), so a build that was cut off
goes on where it stopped, and two machines can share one.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from ..asset import load_asset
from .checkpoint import claimed, load_metadata, load_tensors, save_tensors
from .config import WorldConfig
from .small.world.assets import make_assets
from .small.world.scenes import SceneTable
from .small.world.triplets import mesh_chunk, mesh_files, scenes_of, world_chunk
from .triplets import Source, TripletPictures

log = logging.getLogger(__name__)


def build(
    config: WorldConfig,
    folder: Path,
    split: str,
    meshes: Path | None = None,
    workers: int = 1,
    skip_faulty: bool = False,
) -> list[Path]:
    """Write the shards that are not there yet.

    Args:
        config: the world; `chunk` assets make one shard.
        folder: where SPLIT_00000.safetensors and so on go.
        split: "train" or "held_out".
        meshes: a folder of mesh files to use instead of procedural assets; one in twenty is held
            out, by its name.
        workers: processes.
        skip_faulty: leave meshes out that cannot be read, with a warning.

    Returns:
        All shards of the split.

    Raises:
        ValueError: the folder of meshes has none for the split, or one cannot be read; its name.
    """
    files = mesh_files(meshes, split) if meshes else None
    count = len(files) if files else config.assets
    starts = range(0, count, config.chunk)
    paths = [folder / f"{split}_{i:05d}.safetensors" for i in range(len(starts))]
    wanted = _made_of(config, split, files)
    stale = [p.name for p in paths if p.exists() and load_metadata(p).get("made_of") != wanted]
    if stale:
        raise ValueError(
            f"{len(stale)} shards in '{folder.name}' were made with other settings ({stale[0]}); "
            "choose another folder, or delete them"
        )
    todo = [(p, s, min(config.chunk, count - s)) for p, s in zip(paths, starts) if not p.exists()]
    log.info("%d of %d shards are there", len(paths) - len(todo), len(paths))
    job = partial(_build_shard, config, split, files, skip_faulty)
    if workers <= 1:
        for task in todo:
            log.info("%s", job(task))
        return paths
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        for done in pool.map(job, todo):
            log.info("%s", done)
    return paths


def _build_shard(
    config: WorldConfig,
    split: str,
    files: list[Path] | None,
    skip_faulty: bool,
    task: tuple[Path, int, int],
) -> str:
    """Write one shard unless another process is at it; what was done, for the log."""
    path, start, count = task
    with claimed(path) as mine:
        if not mine or path.exists():
            return f"{path.name}: another process has it"
        scenes = scenes_of(config, split, start, count)
        if files is None:
            without = config.held_out_kinds * (split == "train")
            assets = make_assets(config.seed, split, count, start, without)
            chunk = world_chunk(config, assets, scenes, torch.device("cpu"))
        else:
            chosen = files[start : start + count]
            if skip_faulty:
                chosen, scenes = _readable(chosen, scenes, config.scenes)
            if not chosen:
                return f"{path.name}: none of its meshes can be read"
            chunk = mesh_chunk(config, chosen, scenes)
        text = {"captions": json.dumps(chunk.captions), "kinds": json.dumps(chunk.kinds)}
        tensors = {"views": chunk.views, "targets": chunk.targets}
        save_tensors(path, tensors, {**text, "made_of": _made_of(config, split, files)})
        return path.name


def _readable(files: list[Path], scenes: SceneTable, a_file: int) -> tuple[list[Path], SceneTable]:
    """The files that load and their scenes; the others are named in the log."""
    kept = []
    for i, file in enumerate(files):
        try:
            load_asset(file)
        except ValueError as e:
            log.warning("mesh %s is left out: %s", file.name, e)
            continue
        kept.append(i)
    rows = [i * a_file + j for i in kept for j in range(a_file)]
    return [files[i] for i in kept], scenes[np.array(rows, int)]


def _made_of(config: WorldConfig, split: str, files: list[Path] | None) -> str:
    names = [file.name for file in files] if files else None
    return json.dumps([config.named(), split, names])


def shard_texts(folder: Path, split: str) -> list[str]:
    """Every caption and kind in the shards of a split."""
    out: list[str] = []
    for path in sorted(folder.glob(f"{split}_*.safetensors")):
        text = load_metadata(path)
        out += [c for scenes in json.loads(text["captions"]) for c in scenes]
        out += json.loads(text["kinds"])
    return out


def shard_source(folder: Path, split: str, views: int, resolution: int) -> Source:
    """The shards of a split.

    Args:
        folder: what `build` wrote.
        split: "train" or "held_out".
        views, resolution: that are trained with.

    Raises:
        ValueError: there are none, they were made of different settings, or do not fit.
    """
    paths = sorted(folder.glob(f"{split}_*.safetensors"))
    if not paths:
        raise ValueError(
            f"'{folder.name}' has no shard {split}_*.safetensors; make some with "
            f"python -m refany3d_core.training build CONFIG.toml --output {folder.name}"
        )
    made = {load_metadata(path).get("made_of", "") for path in paths}
    if len(made) > 1:
        raise ValueError(
            f"'{folder.name}' holds shards of {len(made)} different settings; build each set in a "
            "folder of its own"
        )
    with safe_open(paths[0], "pt") as file:
        _, _, there, _, _, side = file.get_slice("views").get_shape()
    if (there, side) != (views, resolution):
        raise ValueError(
            f"'{folder.name}' has {there} views of {side} px, the configuration asks for "
            f"{views} of {resolution} px; change views and resolution under [dataset], or build "
            "the set anew"
        )

    def make(i: int) -> TripletPictures:
        text, tensors = load_metadata(paths[i]), load_tensors(paths[i])
        captions, kinds = json.loads(text["captions"]), json.loads(text["kinds"])
        return TripletPictures(tensors["views"], tensors["targets"], captions, kinds)

    return Source(len(paths), make, f"shards {len(paths)} {made.pop()}")
