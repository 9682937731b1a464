"""What the bundled small model shows of pose lock, consistency and the approximations.

    python benchmarks/run.py small_model [--count 16] [--steps 20]
        [--sections pose,photo,approximations]

Everything goes through the host, as a user's graph does; assets are held out from training.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace

import numpy as np

from .flux_bench import torch  # first: it sets the host up

# isort: split
from refany3d_core.asset.load import load_bytes
from refany3d_core.asset.model import Asset
from refany3d_core.asset.views import render_reference_views
from refany3d_core.host.conditioning import with_references
from refany3d_core.host.demo_models import load_demo_models
from refany3d_core.host.latents import empty_joint_latent, encode_references, split_joint_latent
from refany3d_core.host.locked_latent import locked_joint_latent, placed_joint_latent
from refany3d_core.host.patch import patch_model
from refany3d_core.host.sampling import PUBLISHED_SCHEDULE, sample_joint, sigmas
from refany3d_core.method.approximation import Approximation
from refany3d_core.pointmap.consistency import SurfaceColors, check_consistency
from refany3d_core.pointmap.paste import paste_back
from refany3d_core.pointmap.placement import place
from refany3d_core.pointmap.posed_view import orbit_camera, render_pose
from refany3d_core.training.evaluation.fidelity import image_subject, iou, measure
from refany3d_core.training.small.world.assets import make_assets
from refany3d_core.training.small.world.mesh import asset_glb
from refany3d_core.training.small.world.scenes import Camera as SceneCamera
from refany3d_core.training.small.world.scenes import SceneTable, background, random_scenes

SIZE, VIEWS, FOV = 96, 4, 45.0
SAMPLER = "lcm"
"""As the templates of the small model have it."""
EXACT = Approximation()
APPROXIMATIONS = {
    "exact": EXACT,
    "reference_reuse 2": Approximation(reference_reuse=2),
    "reference_reuse 4": Approximation(reference_reuse=4),
    "reference_reuse, whole run": Approximation(reference_reuse=1000),
    "isolated_references": Approximation(isolated_references=True),
    "isolated, whole run": Approximation(isolated_references=True, reference_reuse=1000),
    "trim_references": Approximation(trim_references=True),
    "balanced preset": Approximation(trim_references=True, reference_reuse=4),
    "fast preset": Approximation(trim_references=True, reference_reuse=1000, guidance_end=0.75),
    "guidance until 0.3": Approximation(guidance_end=0.3),
    "guidance until 0.6": Approximation(guidance_end=0.6),
}


@dataclass(frozen=True)
class Subject:
    """A held-out asset in a scene of its own."""

    asset: Asset
    surface: SurfaceColors
    prompt: str
    azimuth: float
    pitch: float
    distance: float
    scene: SceneTable

    def photo(self) -> np.ndarray:
        """The scene without the asset, float32 [SIZE, SIZE, 3] in 0..1."""
        still = replace(self.scene, roll=0 * self.scene.roll, shift=0 * self.scene.shift)
        half = torch.from_numpy(self.asset.extent * self.asset.scale / 2)[None].float()
        pixels = background(still, half, SceneCamera(still, SIZE, "cpu"))
        return pixels.reshape(SIZE, SIZE, 3).float().numpy()


class Small:
    """The bundled model behind the host's samplers."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.model, self.clip, self.vae, self.adapters = load_demo_models()

    def reference(self, asset: Asset):
        views = render_reference_views(asset, VIEWS, SIZE)
        pictures = (torch.from_numpy(x) for x in (views.colors, views.point_maps))
        return encode_references(self.vae, *pictures)

    def make(self, reference, prompt: str, seed: int, latent=None, approximation=EXACT):
        """(image, point map), float32 [H, W, 3] in 0..1."""
        positive = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))
        patched = patch_model(self.model, self.adapters, approximation=approximation)
        levels = sigmas(patched, PUBLISHED_SCHEDULE, self.steps, SIZE, SIZE)
        conditions = with_references(positive, reference, trim=approximation.trim_references)
        latent = latent or empty_joint_latent(SIZE, SIZE, 1)
        joint = sample_joint(patched, *conditions, latent, levels, 2.0, SAMPLER, seed)
        pictures = (self.vae.decode(x["samples"])[0] for x in split_joint_latent(joint))
        return tuple(np.clip(x.float().cpu().numpy(), 0, 1) for x in pictures)


def subjects(count: int) -> list[Subject]:
    table = make_assets(0, "held_out", count)
    scenes = random_scenes(np.random.default_rng(5), count)
    prompts, found = scenes.captions(table.names()), []
    for i in range(count):
        asset = load_bytes(asset_glb(table, i), "glb")
        angles = math.degrees(scenes.azimuth[i]), math.degrees(scenes.pitch[i])
        found.append(
            Subject(
                asset,
                SurfaceColors(asset),
                prompts[i],
                *angles,
                float(scenes.distance[i]),
                scenes[i : i + 1],
            )
        )
    return found


def show(name: str, rows: list[dict]) -> None:
    keys = [k for k in rows[0] if np.isfinite([row[k] for row in rows]).any()]
    cells = (f"{np.nanmean([r[k] for r in rows]):.3f} ± {np.nanstd([r[k] for r in rows]):.3f}"
             for k in keys)  # fmt: skip
    print(f"| {name} | " + " | ".join(f"{k} {c}" for k, c in zip(keys, cells)) + " |", flush=True)


def pose_and_consistency(small: Small, things: list[Subject]) -> None:
    rows: dict[str, list[dict]] = {"free": [], "locked": [], "wrong references": []}
    ranked = []
    for i, thing in enumerate(things):
        reference = small.reference(thing.asset)
        other = small.reference(things[(i + 1) % len(things)].asset)
        camera = orbit_camera(
            thing.azimuth, thing.pitch, thing.distance, 0.0, (0.0, 0.0), FOV, SIZE, SIZE
        )
        view = render_pose(thing.asset, camera)
        lock = locked_joint_latent("", small.vae, torch.from_numpy(view.point_map)[None], 1.0)
        made = {
            "free": small.make(reference, thing.prompt, i),
            "locked": small.make(reference, thing.prompt, i, lock),
            "wrong references": small.make(other, thing.prompt, i),
        }
        scores = {}
        for name, (image, point_map) in made.items():
            row = measure(image, point_map, thing.asset, thing.surface, FOV).values
            if name == "locked":
                row["asked_iou"] = iou(image_subject(image, view.mask), view.mask)
            check = check_consistency(image, point_map, thing.asset, thing.surface, FOV)
            scores[name] = row["score"] = check.score
            rows[name].append(row)
        ranked.append(scores["free"] > scores["wrong references"])
    for name, found in rows.items():
        show(name, found)
    print(f"right above wrong: {sum(ranked)} of {len(ranked)} pairs")


def photos(small: Small, things: list[Subject]) -> None:
    """Place in Photo beside Lock Pose, with floor and ceiling; the photo is the empty scene."""
    rows: dict[str, list[dict]] = {}
    same = 0
    for i, thing in enumerate(things):
        reference, photo = small.reference(thing.asset), thing.photo()
        camera = orbit_camera(
            thing.azimuth, thing.pitch, thing.distance, 0.0, (0.0, 0.0), FOV, SIZE, SIZE
        )
        placed = place(thing.asset, camera, (SIZE, SIZE), 20.0, grow=10, feather=6)
        asked = placed.visible
        source, point_map = (torch.from_numpy(x)[None] for x in (photo, placed.point_map))
        start = torch.from_numpy(placed.over(photo))[None]
        mask = torch.from_numpy(placed.paste.mask)
        latent = placed_joint_latent("", small.vae, start, mask, point_map, 1.0)
        image, found = small.make(reference, thing.prompt, i, latent)
        pasted, changed = paste_back(source, torch.from_numpy(image)[None], placed.paste)
        before, after = ((x[0].numpy() * 255).round().astype("u1") for x in (source, pasted))
        same += np.array_equal(before[changed == 0], after[changed == 0])
        lock = locked_joint_latent("", small.vae, point_map, 1.0)
        made = {
            "Place in Photo": (pasted[0].numpy(), found),
            "Lock Pose": small.make(reference, thing.prompt, i, lock),
            "floor: the photo alone": (photo, placed.point_map),
            "ceiling: the mesh's colours on the photo": (start[0].numpy(), placed.point_map),
        }
        for name, (picture, points) in made.items():
            row = measure(picture, points, thing.asset, thing.surface, FOV).values
            row["asked_iou"] = iou(image_subject(picture, asked), asked)
            rows.setdefault(name, []).append(row)
    for name, found in rows.items():
        show(name, found)
    print(f"outside of the margin the photo's bytes: {same} of {len(things)}")


def approximations(small: Small, things: list[Subject], only: list[str]) -> None:
    for name, approximation in APPROXIMATIONS.items():
        if only and name not in only:
            continue
        rows, start = [], time.monotonic()
        for i, thing in enumerate(things):
            picture, points = small.make(
                small.reference(thing.asset), thing.prompt, i, approximation=approximation
            )
            rows.append(measure(picture, points, thing.asset, thing.surface, FOV).values)
        show(f"{name} ({time.monotonic() - start:.0f} s)", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=16, help="held-out assets")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sections", default="pose,photo,approximations")
    parser.add_argument("--only", default="", help="approximations by name, separated by commas")
    options = parser.parse_args()
    things, small = subjects(options.count), Small(options.steps)
    with torch.inference_mode():
        if "pose" in options.sections:
            pose_and_consistency(small, things)
        if "photo" in options.sections:
            photos(small, things)
        if "approximations" in options.sections:
            approximations(small, things, [n for n in options.only.split(",") if n])


if __name__ == "__main__":
    main()
