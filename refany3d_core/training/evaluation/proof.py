"""The proof kit: a fixed list of pictures by a user's FLUX weights and the published files, laid
beside what was asked for, and measured."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import comfy.model_management
import numpy as np
import torch

from ...asset import load_asset
from ...asset.views import RenderedViews, render_reference_views
from ...host import model_files
from ...host.demo_models import load_adapters
from ...host.latents import check_size, empty_joint_latent, encode_references
from ...host.routing import Adapters
from ..checkpoint import save_json
from ..config import Config, WorldConfig, flat
from ..models import Models, load_models, load_small
from .generate import Settings, patched_model, sample_pair
from .judge import Judged, Judgement, Sample, judge, summary, table
from .sheet import Row, as_image, comparison

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parents[3] / "assets"
EXAMPLES = (
    ("spot", "A spotted toy cow on a picnic blanket in a sunny meadow, shallow focus, photo"),
    ("spot", "A spotted toy cow on a wooden desk beside an open book, soft window light, photo"),
    ("spot", "A spotted toy cow half buried in the sand of a beach, waves behind, photo"),
    ("mushroom", "A toy mushroom on mossy ground in a forest, morning light, photo"),
    ("mushroom", "A toy mushroom on a marble kitchen counter, photo"),
    ("snowman", "A small snowman figure in fresh snow in front of a wooden hut, photo"),
    ("snowman", "A small snowman figure on a window sill at night, fairy lights, photo"),
)
"""Bundled meshes and prompts in the manner of the paper's: the object, a place, a light."""
ADAPTERS = ("default.safetensors", "coord.safetensors", "domain_embedder.pth")
"""The published files, in the order of Load RefAny3D LoRAs."""
STEPS = 28
"""Of the published sampler."""
FLOOR = "another mesh"
"""The floor: the same pictures measured against the next mesh of the list."""


@dataclass(frozen=True)
class Example:
    """A mesh, a prompt, and the folder of what was made of them."""

    mesh: Path
    prompt: str
    folder: Path

    @property
    def described(self) -> dict[str, str]:
        """What it is made of, for its folder."""
        return {"mesh": self.mesh.name, "prompt": self.prompt}

    @property
    def done(self) -> bool:
        """Whether its pictures are there, of this mesh and prompt: the picture is written last."""
        if not (self.folder / "picture.png").is_file():
            return False
        before = json.loads((self.folder / "example.json").read_text())
        return self.described.items() <= before.items()


def prove(args: argparse.Namespace, judgement: Judgement) -> None:
    """Make what is missing of the pictures, measure all, and write sheet and report.

    Raises:
        ValueError: a file is missing, or the folder holds pictures of other settings.
    """
    folder = Path(args.output)
    examples = examples_of(args.mesh, args.only_mesh, folder)
    config: Config = args.config or Config(world=WorldConfig())
    settings = Settings(
        sampler=args.samplers.split(",")[0], steps=args.steps or STEPS,
        image_guidance=args.guidance, seed=args.seed, isolated=args.isolated,
    )  # fmt: skip
    check_size("evaluate --proof", args.resolution, args.resolution)
    names = args.adapters.split(",") if args.adapters else ADAPTERS
    if not args.model and len(names) != len(ADAPTERS):
        raise ValueError(
            f"--adapters has {len(names)} names, expected {len(ADAPTERS)}: {','.join(ADAPTERS)}"
        )
    made_of = {
        "models": flat(config.models) if config.models else str(args.model),
        "adapters": str(args.model) if args.model else list(names),
        **{k: v for k, v in asdict(settings).items() if k not in ("components", "references")},
        "resolution": args.resolution,
        "views": args.views,
    }
    check_made_of(folder, made_of)
    meshes = list(dict.fromkeys(example.mesh for example in examples))
    views = {mesh: render_reference_views(mesh, args.views, args.resolution) for mesh in meshes}
    missing = [example for example in examples if not example.done]
    if missing:
        log.info("%d of %d pictures are to be made", len(missing), len(examples))
        models = load_models(config.models) if config.models else load_small(Path(args.model))
        adapters = (
            load_adapters(Path(args.model)) if args.model else model_files.load_adapters(*names)
        )
        _make(missing, views, models, adapters, settings)
    samples, judged, columns = _judged(examples, meshes, judgement)
    rows = [
        Row(
            f"{e.mesh.name}: {e.prompt}", views[e.mesh].colors, s.image, s.point_map,
            j.render if j.row["posed"] else None,
        )
        for e, s, j in zip(examples, samples, judged)
        if s.point_map is not None
    ]  # fmt: skip
    comparison(rows).save(folder / "sheet.png")
    _report(folder, made_of, [one.row for one in judged], columns)
    log.info("%s\n%s", table(columns), folder / "report.md")


def _judged(
    examples: Sequence[Example], meshes: Sequence[Path], judgement: Judgement
) -> tuple[list[Sample], list[Judged], dict[str, dict]]:
    """The pictures, their measures, and the summaries of these and of the floor."""
    assets = {mesh: load_asset(mesh) for mesh in meshes}
    following = dict(zip(meshes, [*meshes[1:], meshes[0]]))
    samples = [
        Sample(e.folder.name, assets[e.mesh], e.prompt, *_read(e.folder), None) for e in examples
    ]
    others = [
        replace(sample, asset=assets[following[example.mesh]])
        for sample, example in zip(samples, examples)
    ]
    found = judge([*samples, *(others if len(meshes) > 1 else ())], judgement)
    judged, floor = found[: len(samples)], found[len(samples) :]
    columns = {"measured": summary([one.row for one in judged])}
    if floor:
        columns[FLOOR] = summary([one.row for one in floor])
    return samples, judged, columns


def examples_of(meshes: Sequence[Sequence[str]], only_mesh: bool, folder: Path) -> list[Example]:
    """The bundled list and the user's meshes.

    Args:
        meshes: file and prompt of each of the user's.
        only_mesh: leave the bundled list out.
        folder: of the results.

    Raises:
        ValueError: a mesh is missing.
    """
    wanted = [(Path(mesh), prompt) for mesh, prompt in meshes]
    if not only_mesh:
        wanted = [(BUNDLED / f"{name}.glb", prompt) for name, prompt in EXAMPLES] + wanted
    gone = [mesh.name for mesh, _ in wanted if not mesh.is_file()]
    if gone or not wanted:
        raise ValueError(f"there is no mesh {', '.join(gone) or 'given: add --mesh FILE PROMPT'}")
    return [
        Example(mesh, prompt, folder / f"{i:02d}_{mesh.stem}")
        for i, (mesh, prompt) in enumerate(wanted)
    ]


def check_made_of(folder: Path, made_of: dict) -> None:
    """Write a folder's settings down, or refuse to mix pictures of two settings in it.

    Raises:
        ValueError: it has those of others.
    """
    file = folder / "settings.json"
    plain = json.loads(json.dumps(made_of))
    if file.is_file() and (before := json.loads(file.read_text())) != plain:
        other = [k for k in plain if plain[k] != before.get(k)]
        raise ValueError(
            f"'{folder.name}' has pictures of other settings ({', '.join(other)}); take another "
            "--output, or the same settings to go on"
        )
    save_json(file, plain)


def _make(
    examples: Sequence[Example],
    views: dict[Path, RenderedViews],
    models: Models,
    adapters: Adapters,
    settings: Settings,
) -> None:
    """Sample the examples and write their pictures, one whole example after another."""
    texts = models.encoders.texts([example.prompt for example in examples])
    patched = patched_model(models, adapters, settings)
    for number, (example, text) in enumerate(zip(examples, texts), 1):
        started = time.monotonic()
        own = views[example.mesh]
        colors, maps = (torch.from_numpy(x) for x in (own.colors, own.point_maps))
        reference = encode_references(models.vae, colors, maps)
        size = colors.shape[2], colors.shape[1]
        pair = sample_pair(
            models, patched, reference, text, empty_joint_latent(*size, 1), size, settings,
            settings.seed,
        )  # fmt: skip
        image, point_map = pair.permute(0, 2, 3, 1).numpy()
        save_json(
            example.folder / "example.json",
            {**example.described, "seconds": round(time.monotonic() - started, 1)},
        )
        for name, picture in (("point_map.png", point_map), ("picture.png", image)):
            part = example.folder / f"{name}.part"
            as_image(picture).save(part, "PNG")
            os.replace(part, example.folder / name)
        log.info("%d of %d: %s", number, len(examples), example.folder.name)


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    pictures = (folder / name for name in ("picture.png", "point_map.png"))
    image, point_map = (
        np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in pictures
    )
    return image, point_map


def _report(
    folder: Path, made_of: dict, rows: list[dict], columns: dict[str, dict[str, dict[str, float]]]
) -> None:
    """report.json and report.md."""
    device = comfy.model_management.get_torch_device()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    where = {"device": machine, "torch": torch.__version__}
    save_json(folder / "report.json", {"settings": made_of, "machine": where, "examples": rows,
                                       "summary": columns})  # fmt: skip
    names = list(dict.fromkeys(k for row in rows for k, v in row.items() if isinstance(v, float)))
    lines = [
        "# RefAny3D for ComfyUI: proof sheet", "", "![reference views, picture, point map, the "
        "mesh from the map's camera](sheet.png)", "",
        f"Not chosen: every picture of the list, seed {made_of['seed']}, "
        f"{made_of['steps']} steps, image guidance {made_of['image_guidance']:g}, "
        f"{made_of['sampler']}, {made_of['resolution']} px, {made_of['views']} views. "
        f"{machine}, torch {torch.__version__}.", "",
        "```json", json.dumps({k: made_of[k] for k in ("models", "adapters")}, indent=1), "```", "",
        table(columns), "",
        f"Mean ± standard deviation (count). *{FLOOR}*: the floor, the same pictures measured "
        "against the next mesh of the list. On exact renders, the ceiling, they read: subject IoU "
        "0.99, colour error 0.01, map error 0.005 (docs/evidence.md).", "",
        "| example | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|",
        *(
            f"| {row['name']} | "
            + " | ".join(f"{row.get(name, float('nan')):.3f}" for name in names) + " |"
            for row in rows
        ),
    ]  # fmt: skip
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
