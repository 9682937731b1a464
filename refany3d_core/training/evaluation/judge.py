"""Judging pictures: what is judged, the measures of each, and their tables."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...asset import load_asset
from ...asset.cameras import Camera, from_viewport
from ...asset.model import Asset
from ...asset.render import View, render
from ...asset.views import render_reference_views
from ...pointmap.consistency import SurfaceColors
from ..checkpoint import save_json
from .estimated import measure_by_estimate, whole_subject
from .fidelity import image_subject, iou, measure
from .learned_measures import Compared, Features, Measure, ranks

VIEWS = 8
"""Reference views that pictures are compared with."""


@dataclass(frozen=True)
class Sample:
    """One thing to judge.

    Attributes:
        name: for the table.
        asset: the asset that was asked for.
        prompt: the caption.
        image: float32 [H, W, 3] in 0..1.
        point_map: like it; None of a method that makes none.
        fov: vertical field of view in degrees, None where it is not known.
        camera: that was asked for, None where the picture's pose was free.
    """

    name: str
    asset: Asset
    prompt: str
    image: np.ndarray
    point_map: np.ndarray | None
    fov: float | None
    camera: Camera | None = None


@dataclass(frozen=True)
class Judgement:
    """What is measured beside fidelity.

    Attributes:
        measures: columns of the picture and what it is compared with.
        features: of the network that ranks the assets; None for no ranking.
        estimate: the columns by a camera that is found without the map.
    """

    measures: Sequence[Measure] = ()
    features: Features | None = None
    estimate: bool = False


@dataclass(frozen=True, eq=False)
class Judged:
    """The measures of one picture, and the asset from its camera.

    Attributes:
        row: name, prompt and measures.
        render: float32 [H, W, 3], the asset on white from the camera that was asked for, or else
            from the one that the map comes nearest to; None where there is none.
        mask: bool [H, W], where the render shows the asset.
    """

    row: dict
    render: np.ndarray | None
    mask: np.ndarray | None


def samples_in(path: Path) -> Iterator[Sample]:
    """Given pictures: a JSON list of {"mesh", "image", "point_map", "prompt", "fov", "camera"}.

    Paths are relative to the file. "point_map" may be missing for all that a method without maps
    made; "fov" may be missing; "camera" is the one that was asked for, as LOAD3D_CAMERA has it.

    Raises:
        ValueError: entries are incomplete or their files missing; all are named.
    """
    from PIL import Image

    entries = json.loads(path.read_text())
    wanted, files = ("mesh", "image", "prompt"), ("mesh", "image", "point_map")
    faults = []
    for i, entry in enumerate(entries):
        faults += [f"entry {i} has no '{key}'" for key in wanted if not entry.get(key)]
        paths = [path.parent / entry[key] for key in files if entry.get(key)]
        faults += [f"entry {i}: there is no file '{f.name}'" for f in paths if not f.is_file()]
    if faults:
        raise ValueError(f"{path.name}: {len(faults)} faults: " + "; ".join(faults))
    for i, entry in enumerate(entries):
        image, point_map = (
            np.asarray(Image.open(path.parent / entry[key]).convert("RGB"), np.float32) / 255
            if entry.get(key)
            else None
            for key in ("image", "point_map")
        )
        assert image is not None
        asset, camera = load_asset(path.parent / entry["mesh"]), None
        if entry.get("camera"):
            height, width = image.shape[:2]
            camera = from_viewport(entry["camera"], asset, width, height)
        yield Sample(f"{i}", asset, entry["prompt"], image, point_map, entry.get("fov"), camera)


def judge(samples: Iterable[Sample], judgement: Judgement = Judgement()) -> list[Judged]:
    """Measure every sample."""
    samples = list(samples)
    call = partial(_measured, estimate=judgement.estimate)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        judged = list(pool.map(call, samples))
    if not judgement.measures and judgement.features is None:
        return judged
    views = [
        render_reference_views(sample.asset, VIEWS, max(sample.image.shape[:2])).colors
        for sample in samples
    ]
    for sample, own, found in zip(samples, views, judged):
        asked = sample.camera is not None
        compared = Compared(sample.image, own, sample.prompt, found.render, found.mask, asked)
        for column in judgement.measures:
            found.row.update(column(compared))
    if judgement.features is not None:
        images = [sample.image for sample in samples]
        _rank(judgement.features, [found.row for found in judged], images, views)
    return judged


def judge_by_views(
    names: Sequence[str],
    prompts: Sequence[str],
    images: Sequence[np.ndarray],
    views: Sequence[np.ndarray],
    judgement: Judgement,
) -> list[Judged]:
    """Measure pictures whose assets are known by their reference views alone.

    Args:
        names, prompts: for the table.
        images: float [H, W, 3] in 0..1.
        views: float [n, H, W, 3] of each picture's asset.
        judgement: its measures and ranking.
    """
    rows: list[dict] = []
    for name, prompt, image, own in zip(names, prompts, images, views):
        rows.append({"name": name, "prompt": prompt})
        for column in judgement.measures:
            rows[-1].update(column(Compared(image, own, prompt)))
    if judgement.features is not None:
        _rank(judgement.features, rows, images, views)
    return [Judged(row, None, None) for row in rows]


def _rank(
    features: Features,
    rows: list[dict],
    images: Sequence[np.ndarray],
    views: Sequence[np.ndarray],
) -> None:
    """Add each picture's ranking among all assets to its row. The subject alone is looked at, on
    white as the views are: of exact pictures of the world that ranks 0.80 of 64 right assets first,
    the whole picture 0.42."""
    subjects = [np.where(whole_subject(x)[..., None], x, 1.0) for x in images]
    for row, place in zip(rows, ranks(features, subjects, views)):
        row["ranked_first"] = float(place == 1)
        row["rank"] = float(place)


def _measured(sample: Sample, estimate: bool) -> Judged:
    row: dict = {"name": sample.name, "prompt": sample.prompt}
    view: View | None = None
    if sample.point_map is not None:
        surface = SurfaceColors(sample.asset)
        found = measure(sample.image, sample.point_map, sample.asset, surface, sample.fov)
        row.update(found.values)
        view = found.view
    if sample.camera is not None:
        view = render(sample.asset, sample.camera)
        row["asked_iou"] = iou(image_subject(sample.image, view.mask), view.mask)
    if estimate:
        row.update(measure_by_estimate(sample.image, sample.asset, sample.fov))
    if view is None:
        return Judged(row, None, None)
    return Judged(row, view.color, view.mask)


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and count of every measure over the rows that have it."""
    names = [k for k, v in rows[0].items() if isinstance(v, float)] if rows else []
    out = {}
    for name in names:
        values = np.array([row[name] for row in rows])
        values = values[np.isfinite(values)]
        mean, spread = (values.mean(), values.std()) if len(values) else (np.nan, np.nan)
        out[name] = {"mean": float(mean), "std": float(spread), "count": len(values)}
    return out


def table(columns: dict[str, dict[str, dict[str, float]]]) -> str:
    """Summaries side by side as Markdown: a row a measure, a column a run."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = ["| measure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [c.get(name) for c in columns.values()]
        shown = (f"{c['mean']:.3f} ± {c['std']:.3f} ({c['count']})" if c else "" for c in cells)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def write(rows: list[dict], folder: Path, name: str) -> None:
    """NAME.csv with all rows and NAME.json with the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    save_json(folder / f"{name}.json", summary(rows))
