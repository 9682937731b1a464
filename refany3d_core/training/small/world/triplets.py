"""Triplets of the procedural world, and of real meshes put into it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ....asset import FORMATS, load_asset
from ....asset.cameras import Camera
from ....asset.model import Asset
from ....asset.render import render
from ....asset.views import render_reference_views
from ...config import WorldConfig
from ...published import is_held_out
from ...triplets import Source, TripletPictures
from .assets import AssetTable, make_assets
from .render import render_targets, render_views
from .scenes import FIELD_OF_VIEW, SceneTable, background, random_scenes
from .scenes import Camera as SceneCamera

HELD_OUT_ASSETS = 64
"""Held-out assets of the world, one scene each."""

_WORD = re.compile(r"[a-z]+")
_KEPT_MESHES = 64


def world_source(config: WorldConfig, split: str) -> Source:
    """The procedural world, `config.chunk` assets a chunk; with `meshes`, a share of the chunks
    are real meshes before procedural backdrops.

    Raises:
        ValueError: the folder of meshes has none for the split, or a subject has no such split.
    """
    if config.subject >= 0:
        return _subject_source(config, split)
    if split == "held_out":
        config = dataclasses.replace(config, scenes=1, assets=HELD_OUT_ASSETS, mesh_share=0.0)
    chunks = -(-config.assets // config.chunk)
    files = mesh_files(Path(config.meshes), split) if config.mesh_share else []
    every = round(1 / config.mesh_share) if config.mesh_share else 0

    def make(i: int) -> TripletPictures:
        start = i * config.chunk
        count = min(config.chunk, config.assets - start)
        scenes = scenes_of(config, split, start, count)
        if every and i % every == every - 1:
            rng = np.random.default_rng([config.seed, 3000, i])
            chosen = [files[k] for k in rng.integers(len(files), size=count)]
            return mesh_chunk(config, chosen, scenes, rng)
        assets = make_assets(
            config.seed, split, count, start, without=config.held_out_kinds * (split == "train")
        )
        return world_chunk(config, assets, scenes, torch.device("cpu"))

    made = config.named() | {"split": split, "files": [p.name for p in files]}
    return Source(chunks, make, json.dumps(made, sort_keys=True))


def _subject_source(config: WorldConfig, split: str) -> Source:
    """One asset whose reference views are the targets."""
    if split == "held_out":
        raise ValueError("a set of one subject holds nothing out")

    def make(i: int) -> TripletPictures:
        asset = make_assets(config.seed, "held_out", 1, config.subject)
        seen = render_views(asset, config.views, config.resolution, torch.device("cpu"))
        views = torch.stack([seen.rgb, seen.point_map], 1)
        caption = f"a {asset.name(0)}"
        return TripletPictures(
            views, views.transpose(1, 2), [[caption] * config.views], asset.names()
        )

    made = {"subject": [config.seed, config.subject, config.views, config.resolution]}
    return Source(1, make, json.dumps(made))


def scenes_of(config: WorldConfig, split: str, start: int, count: int) -> SceneTable:
    """count * config.scenes scenes, those of one asset one after another."""
    held_out = int(split == "held_out")
    rng = np.random.default_rng([config.seed, 1000 + held_out, start])
    return random_scenes(rng, count * config.scenes)


def world_chunk(
    config: WorldConfig, assets: AssetTable, scenes: SceneTable, device: torch.device
) -> TripletPictures:
    """Views of the assets, and the assets in their scenes (`config.scenes` of each in a row)."""
    repeated = assets[np.repeat(np.arange(len(assets)), config.scenes)]
    pictures = render_views(assets, config.views, config.resolution, device)
    views = torch.stack([pictures.rgb, pictures.point_map], 1)
    targets = []
    for i in range(0, len(repeated), config.chunk):
        rows = slice(i, i + config.chunk)
        pictures = render_targets(repeated[rows], scenes[rows], config.resolution, device)
        targets.append(torch.stack([pictures.rgb, pictures.point_map], 1))
    captions = scenes.captions(repeated.names())
    return TripletPictures(
        views,
        torch.cat(targets).unflatten(0, (len(assets), config.scenes)),
        [captions[i : i + config.scenes] for i in range(0, len(captions), config.scenes)],
        assets.names(),
    )


def mesh_files(folder: Path, split: str) -> list[Path]:
    """Mesh files under a folder that belong to a split, by a hash of their names, sorted.

    Raises:
        ValueError: there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower().lstrip(".") in FORMATS)
    chosen = [p for p in found if is_held_out(p.stem) == (split == "held_out")]
    if not chosen:
        raise ValueError(
            f"'{folder.name}' has {len(found)} mesh files, none of them for the split '{split}' "
            "(one in twenty is held out, by its name)"
        )
    return chosen


@lru_cache(maxsize=_KEPT_MESHES)
def _loaded(file: Path) -> Asset:
    return load_asset(file)


def mesh_chunk(
    config: WorldConfig,
    files: list[Path],
    scenes: SceneTable,
    rng: np.random.Generator | None = None,
) -> TripletPictures:
    """Meshes before procedural backdrops; with `rng` each turned, stretched and with its colour
    channels exchanged, so that a few files give many assets.

    Raises:
        ValueError: a mesh cannot be read; its name.
    """
    views, targets, captions, kinds = [], [], [], []
    for i, file in enumerate(files):
        try:
            asset = _loaded(file) if rng is None else _varied(_loaded(file), rng)
        except ValueError as e:
            raise ValueError(f"mesh {file.name}: {e}; take it out of the folder") from e
        kinds.append(" ".join(_WORD.findall(file.stem.lower())) or "thing")
        channels = np.arange(3) if rng is None else rng.permutation(3)
        seen = render_reference_views(asset, config.views, config.resolution)
        views.append(np.stack([_bytes(seen.colors[..., channels]), _bytes(seen.point_maps)]))
        part = scenes[slice(i * config.scenes, (i + 1) * config.scenes)]
        pairs = [
            _in_scene(asset, part[slice(j, j + 1)], config.resolution, channels)
            for j in range(config.scenes)
        ]
        targets.append(np.stack(pairs))
        captions.append(part.captions([kinds[-1]] * config.scenes))
    stacked = [torch.from_numpy(np.stack(x)) for x in (views, targets)]
    return TripletPictures(stacked[0], stacked[1], captions, kinds)


def _varied(asset: Asset, rng: np.random.Generator) -> Asset:
    """The asset turned about the vertical and stretched along its own axes, by up to a quarter."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.eye(3)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    matrix = turn * rng.uniform(0.8, 1.25, 3)
    return Asset(
        [dataclasses.replace(part, vertices=part.vertices @ matrix.T) for part in asset.parts]
    )


def camera_of(scene: SceneTable, resolution: int) -> Camera:
    """The camera of one scene, in the normalised frame."""
    seen = SceneCamera(scene, resolution, "cpu")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = seen.axes[0].T.numpy(), seen.eye[0, 0].numpy()
    right, up = scene.shift[0] * resolution / 2
    fov = math.degrees(FIELD_OF_VIEW)
    return Camera(pose, fov, resolution, resolution, (float(right), float(-up)))


def _in_scene(asset: Asset, scene: SceneTable, resolution: int, channels: np.ndarray) -> np.ndarray:
    """uint8 [2, 3, H, W] of one asset in one scene: RGB, its object's channels in the order given,
    and point map."""
    seen = SceneCamera(scene, resolution, "cpu")
    view = render(asset, camera_of(scene, resolution))
    half = torch.from_numpy((asset.extent * asset.scale / 2).astype(np.float32))[None]
    behind = background(scene, half, seen)[0].unflatten(0, (resolution, resolution)).numpy()
    light = 0.8 + 0.1 * (1 + view.normal[..., 1:2])
    rgb = np.where(view.mask[..., None], view.color[..., channels] * light, behind)
    return np.stack([_bytes(rgb), _bytes(view.point_map)])


def _bytes(picture: np.ndarray) -> np.ndarray:
    """Float [..., H, W, 3] in 0..1 to uint8 [..., 3, H, W], truncated as published (fact 40)."""
    return np.moveaxis((np.clip(picture, 0, 1) * 255).astype(np.uint8), -1, -3)
