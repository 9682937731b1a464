"""Evaluation: the paper's columns and direct measures, on generated pictures or on given ones."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..asset import load_asset
from ..asset.load import load_bytes
from ..asset.model import Asset
from ..asset.views import render_reference_views
from ..pointmap.consistency import SurfaceColors
from .adapters import Adapters
from .autoencoder import Autoencoder
from .checkpoint import dequantise_rows, load_tensors, save_json
from .dataset import scenes_of, world_source
from .fidelity import measure
from .latents import encode_triplets
from .learned_measures import Similarity
from .monitor import decode_tokens, save_grid
from .objectives import variant_sequence
from .sampling import sample_pair
from .stages import Run
from .text import TextEncoder, Tokenizer
from .transformer import Flux
from .world.assets import make_assets
from .world.mesh import asset_glb

log = logging.getLogger(__name__)

WORLD_FOV = 45.0
"""Vertical field of view of the procedural world's cameras, degrees."""
REFERENCES = ("right", "wrong", "none")


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


@dataclass(frozen=True)
class Settings:
    """How the samples of a trained variant are made, with the attention that it was trained with.

    Attributes:
        variant: name under [refany3d] of the configuration.
        count: held-out assets, one scene each.
        seed: of the noise.
        steps: Euler steps of the published schedule.
        image_guidance: s; 1 leaves the negative pass out.
        references: "right", "wrong" (those of the next asset) or "none" (black).
        views: reference views used, 0 for all that the model was trained with.
        batch: assets sampled at once.
    """

    variant: str = "full"
    count: int = 64
    seed: int = 0
    steps: int = 20
    image_guidance: float = 2.0
    references: str = "right"
    views: int = 0
    batch: int = 16


def load_variant(
    run: Run, autoencoder: Autoencoder, name: str
) -> tuple[Flux, TextEncoder, Tokenizer, Adapters]:
    """Base, text encoder and adapters of a finished variant.

    Raises:
        ValueError: it is not in the configuration or not trained.
    """
    if name not in run.config.refany3d:
        known = ", ".join(run.config.refany3d)
        raise ValueError(f"'{name}' is not under [refany3d]; there are {known}")
    folder, config = run.folder / name, run.config.refany3d[name]
    if not (folder / "domain_embedder.safetensors").exists():
        raise ValueError(f"'{name}' is not trained: run train --stages {name} first")
    model, text, tokenizer = run.base(autoencoder, train=False)
    if (folder / "base.safetensors").exists():
        model.load_state_dict(dequantise_rows(load_tensors(folder / "base.safetensors")))
    adapters = Adapters(model.shape, config.rank, config.domain_lora).to(run.device)
    files = ("default", "coord", "domain_embedder")
    adapters.load_published({f: load_tensors(folder / f"{f}.safetensors") for f in files})
    return model.to(run.device), text, tokenizer, adapters.requires_grad_(False)


def captions_of(run: Run, count: int) -> list[str]:
    """Captions of the held-out scenes, the same as `generate` samples."""
    world = dataclasses.replace(run.config.world, scenes=1)
    held_out = make_assets(world.seed, "held_out", count)
    captions: list[str] = []
    for start in range(0, count, world.chunk):
        part = held_out[slice(start, start + world.chunk)]
        captions += scenes_of(world, "held_out", start, len(part)).captions(part.names())
    return captions


@torch.no_grad()
def generate(run: Run, settings: Settings) -> Tensor:
    """Pictures of held-out assets by a trained variant, [count, 2, 3, H, W] in 0..1, RGB then map.

    Raises:
        ValueError: the variant is not trained, or a setting has no such value.
    """
    if settings.references not in REFERENCES:
        raise ValueError(f"references is '{settings.references}', expected {', '.join(REFERENCES)}")
    autoencoder = run.autoencoder(train=False)
    model, text, tokenizer, adapters = load_variant(run, autoencoder, settings.variant)
    held_out = make_assets(run.config.world.seed, "held_out", settings.count)
    views = settings.views or run.config.world.views
    world = dataclasses.replace(run.config.world, scenes=1, views=views, encode_seconds=0.0)
    source = world_source(world, held_out, "held_out", run.device)
    data = encode_triplets(source, autoencoder, tokenizer, run.device, run.dtype)
    references = data.views.float()
    if settings.references == "wrong":
        references = references.roll(1, 0)
    elif settings.references == "none":
        references = data.black.float().expand_as(references)
    generator = torch.Generator(run.device).manual_seed(settings.seed)
    noise = torch.randn(len(held_out), 2, *data.black.shape, device=run.device, generator=generator)
    config = run.config.refany3d[settings.variant]
    sequence = variant_sequence(config, run.grid, views, run.device)
    pictures = []
    with run.autocast():
        for start in range(0, len(held_out), settings.batch):
            rows = slice(start, start + settings.batch)
            context, pooled = text(data.captions[rows, 0])
            tokens = sample_pair(
                model, adapters, sequence, context, pooled, references[rows], data.black.float(),
                noise[rows], settings.steps, settings.image_guidance, config.shared_targets > 0,
            )  # fmt: skip
            pictures.append(decode_tokens(autoencoder, tokens, run.grid))
    return torch.cat(pictures)


def samples_of(run: Run, pictures: Tensor, captions: list[str]) -> Iterator[Sample]:
    """Generated pictures with the held-out assets that were asked for."""
    held_out = make_assets(run.config.world.seed, "held_out", len(pictures))
    for i, pair in enumerate(pictures):
        image, point_map = pair.permute(0, 2, 3, 1).float().cpu().numpy()
        asset = load_bytes(asset_glb(held_out, i), "glb")
        yield Sample(f"{i}_{held_out.name(i)}", asset, captions[i], image, point_map, WORLD_FOV)


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
        yield Sample(f"{i}", asset, entry["prompt"], *pictures, entry.get("fov"))


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


def evaluate_variant(
    run: Run, settings: Settings, similarities: list[Similarity], folder: Path
) -> dict[str, dict[str, float]]:
    """Generate, judge and write; returns the summary."""
    pictures = generate(run, settings)
    rows = judge(samples_of(run, pictures, captions_of(run, settings.count)), similarities)
    changed = {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if f.name != "batch" and getattr(settings, f.name) != f.default
    }
    name = "_".join([settings.variant, *(f"{k}-{v}" for k, v in changed.items() if k != "variant")])
    write(rows, folder, name)
    save_grid(folder / f"{name}.png", pictures[:12].transpose(0, 1))
    return summary(rows)
