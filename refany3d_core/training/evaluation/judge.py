"""Judging pictures: what is judged, the measures of each, and their tables."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...asset import load_asset
from ...asset.model import Asset
from ...asset.views import render_reference_views
from ...pointmap.consistency import SurfaceColors
from ..checkpoint import save_json
from .fidelity import measure
from .learned_measures import Similarity


@dataclass(frozen=True)
class Sample:
    """One thing to judge.

    Attributes:
        name: for the table.
        asset: the asset that was asked for.
        prompt: the caption.
        image, point_map: float32 [H, W, 3] in 0..1.
        fov: vertical field of view in degrees, None where it is not known.
    """

    name: str
    asset: Asset
    prompt: str
    image: np.ndarray
    point_map: np.ndarray
    fov: float | None


def samples_in(path: Path) -> Iterator[Sample]:
    """Given pictures: a JSON list of {"mesh", "image", "point_map", "prompt", "fov"}.

    Paths are relative to the file; "fov" may be missing.

    Raises:
        ValueError: entries are incomplete or their files missing; all are named.
    """
    from PIL import Image

    entries = json.loads(path.read_text())
    wanted = ("mesh", "image", "point_map", "prompt")
    faults = []
    for i, entry in enumerate(entries):
        faults += [f"entry {i} has no '{key}'" for key in wanted if not entry.get(key)]
        files = [path.parent / entry[key] for key in wanted[:3] if entry.get(key)]
        faults += [f"entry {i}: there is no file '{f.name}'" for f in files if not f.is_file()]
    if faults:
        raise ValueError(f"{path.name}: {len(faults)} faults: " + "; ".join(faults))
    for i, entry in enumerate(entries):
        pictures = [
            np.asarray(Image.open(path.parent / entry[key]).convert("RGB"), np.float32) / 255
            for key in ("image", "point_map")
        ]
        asset = load_asset(path.parent / entry["mesh"])
        yield Sample(f"{i}", asset, entry["prompt"], pictures[0], pictures[1], entry.get("fov"))


def judge(samples: Iterable[Sample], similarities: list[Similarity]) -> list[dict]:
    """A row of measures for every sample.

    Args:
        samples: what to judge.
        similarities: further columns, of the image against reference views (the best view counts).
    """
    samples = list(samples)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(_measured, samples))
    for sample, row in zip(samples, rows) if similarities else ():
        views = render_reference_views(sample.asset, 8, max(sample.image.shape[:2])).colors
        for similarity in similarities:
            row[similarity.name] = max(similarity(sample.image, view) for view in views)
    return rows


def judge_by_views(
    names: Sequence[str],
    prompts: Sequence[str],
    images: Sequence[np.ndarray],
    views: Sequence[Sequence[np.ndarray]],
    similarities: Sequence[Similarity],
) -> list[dict]:
    """A row for every picture whose asset is known by its reference views alone.

    Args:
        names, prompts: for the table.
        images: float [H, W, 3] in 0..1.
        views: of each picture's asset, alike.
        similarities: the columns; the best view counts.
    """
    return [
        {"name": name, "prompt": prompt}
        | {s.name: float(max(s(image, view) for view in own)) for s in similarities}
        for name, prompt, image, own in zip(names, prompts, images, views)
    ]


def _measured(sample: Sample) -> dict:
    surface = SurfaceColors(sample.asset)
    found = measure(sample.image, sample.point_map, sample.asset, surface, sample.fov)
    return {"name": sample.name, "prompt": sample.prompt, **found}


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
