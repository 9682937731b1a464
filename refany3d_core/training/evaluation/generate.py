"""Pictures of held-out assets by a trained model, made by the host's own samplers as the nodes make
them, with their floors and ceilings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...asset.load import load_bytes
from ...asset.model import Asset
from ...host.conditioning import with_references
from ...host.latents import Latent, empty_joint_latent, split_joint_latent
from ...host.locked_latent import locked_joint_latent
from ...host.patch import patch_model
from ...host.routing import Adapters
from ...host.sampling import PUBLISHED_SCHEDULE, sample_joint, sigmas
from ...method.approximation import Approximation
from ...method.components import Components
from ...method.guidance import TARGET_GUIDANCE
from ...reference import Reference
from ..config import WorldConfig
from ..models import Models
from ..small.world.assets import AssetTable, make_assets
from ..small.world.mesh import asset_glb
from ..small.world.triplets import camera_of, scenes_of, world_chunk
from ..triplets import Source, TripletPictures
from .judge import Judged, Judgement, Sample, judge, judge_by_views

WORLD_FOV = 45.0
"""Vertical field of view of the procedural world's cameras, degrees."""
REFERENCES = ("right", "wrong", "none")
BOUNDS = ("another picture", "one colour", "round trip", "exact")
"""Floors: the map with another sample's picture, and the subject in its mean colour; ceilings: the
true pictures through the autoencoder, and as they are."""


@dataclass(frozen=True)
class Settings:
    """How samples are made.

    Attributes:
        references: "right", "wrong" (those of the next asset) or "none" (black).
        sampler: one of the host's.
        steps: of the published schedule.
        image_guidance: s; 1 leaves the negative pass out.
        seed: of the noise.
        isolated: references see only their own pair (METHOD fact 30).
        components: which parts of the method are on.
        views: reference views of each asset, 0 for all that there are.
        locked: the true point map is held, as Lock Pose does: the scene's camera is asked for.
    """

    references: str = "right"
    sampler: str = "euler"
    steps: int = 20
    image_guidance: float = 2.0
    seed: int = 0
    isolated: bool = False
    components: Components = Components()
    views: int = 0
    locked: bool = False


class HeldOut:
    """Held-out assets of the procedural world, one scene each.

    Args:
        config: the world.
        first: first asset.
        count: how many.
        kinds: words of the kinds to take; all by default.
    """

    def __init__(
        self, config: WorldConfig, first: int, count: int, kinds: Sequence[str] = ()
    ) -> None:
        config = replace(config, scenes=1, mesh_share=0.0)
        found: list[tuple[int, AssetTable]] = []
        index = first
        while len(found) < count:
            row = make_assets(config.seed, "held_out", 1, index)
            if not kinds or row.name(0) in kinds:
                found.append((index, row))
            index += 1
        self.numbers = [i for i, _ in found]
        self.names = [f"{i}_{row.name(0)}" for i, row in found]
        self._glbs = [asset_glb(row, 0) for _, row in found]
        scenes = [scenes_of(config, "held_out", i, 1) for i, _ in found]
        self.cameras = [camera_of(scene, config.resolution) for scene in scenes]
        chunks = [
            world_chunk(config, row, scene, torch.device("cpu"))
            for (_, row), scene in zip(found, scenes)
        ]
        self.captions = [chunk.captions[0][0] for chunk in chunks]
        self.pictures = TripletPictures(
            torch.cat([chunk.views for chunk in chunks]),
            torch.cat([chunk.targets for chunk in chunks]),
            [chunk.captions[0] for chunk in chunks],
            [chunk.kinds[0] for chunk in chunks],
        )

    def __len__(self) -> int:
        return len(self.names)

    def samples(self, pictures: Tensor, maps: bool = True, asked: bool = False) -> Iterator[Sample]:
        """Pictures with their assets.

        Args:
            pictures: [N, 2, 3, H, W] in 0..1, RGB then map.
            maps: the maps are the method's; without, they are left out.
            asked: the scenes' cameras were asked for.
        """
        for i, pair in enumerate(pictures):
            image, point_map = pair.permute(0, 2, 3, 1).float().cpu().numpy()
            asset: Asset = load_bytes(self._glbs[i], "glb")
            yield Sample(
                self.names[i], asset, self.captions[i], image, point_map if maps else None,
                WORLD_FOV, self.cameras[i] if asked else None,
            )  # fmt: skip

    def judge(
        self, pictures: Tensor, judgement: Judgement, maps: bool = True, asked: bool = False
    ) -> list[Judged]:
        """Measure every picture; `maps` and `asked` as for `samples`."""
        return judge(self.samples(pictures, maps, asked), judgement)


class HeldOutRecords:
    """Held-out records of a dataset. Their assets are known by their views alone, so only the
    columns that compare pictures can be had.

    Args:
        source: the held-out split, targets of one size.
        first: first record.
        count: how many at most.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, source: Source, first: int, count: int) -> None:
        found: list[TripletPictures] = []
        for i in range(source.chunks):
            found.append(source.make(i))
            if sum(len(chunk.views) for chunk in found) >= first + count:
                break
        if not found or sum(len(chunk.views) for chunk in found) <= first:
            raise ValueError("the dataset has no held-out records from there on")
        rows = slice(first, first + count)
        self.pictures = TripletPictures(
            torch.cat([chunk.views for chunk in found])[rows],
            torch.cat([chunk.targets[:, :1] for chunk in found])[rows],
            [captions[:1] for chunk in found for captions in chunk.captions][rows],
            [kind for chunk in found for kind in chunk.kinds][rows],
        )
        self.names = self.pictures.kinds
        self.captions = [captions[0] for captions in self.pictures.captions]

    def __len__(self) -> int:
        return len(self.names)

    def judge(
        self, pictures: Tensor, judgement: Judgement, maps: bool = True, asked: bool = False
    ) -> list[Judged]:
        """Compare every picture with the record's own views."""
        images = pictures[:, 0].permute(0, 2, 3, 1).float().cpu().numpy()
        views = self.pictures.views[:, 0].permute(0, 1, 3, 4, 2).float().numpy() / 255
        return judge_by_views(self.names, self.captions, list(images), list(views), judgement)


@torch.no_grad()
def generate(
    models: Models,
    adapters: Adapters,
    held_out: HeldOut | HeldOutRecords,
    settings: Settings,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Pictures of the held-out assets, [N, 2, 3, H, W] in 0..1, RGB then map.

    Args:
        models, adapters: what samples.
        held_out: the assets.
        settings: how.
        rows: which of the assets, all by default.

    Raises:
        ValueError: a setting has no such value.
    """
    if settings.references not in REFERENCES:
        raise ValueError(f"references is '{settings.references}', expected {', '.join(REFERENCES)}")
    patched = patched_model(models, adapters, settings)
    encode = models.encoders.pictures
    source = held_out.pictures
    black = encode(torch.zeros_like(source.views[:1, 0, 0]))
    height, width = source.targets.shape[-2:]
    out = []
    for i in range(len(held_out)) if rows is None else rows:
        j = (i + 1) % len(held_out) if settings.references == "wrong" else i
        shown = source.views[j][:, : settings.views or None]
        views, maps = encode(shown.flatten(0, 1)).chunk(2)
        if settings.references == "none":
            views, maps = black.expand_as(views), black.expand_as(maps)
        (text,) = models.encoders.texts([held_out.captions[i]])
        start = empty_joint_latent(width, height, 1)
        if settings.locked:
            true_map = source.targets[i, 0, 1].movedim(0, -1)[None].float() / 255
            start = locked_joint_latent("evaluate", models.vae, true_map, 1.0)
        reference = Reference(views, maps, black)
        seed = settings.seed + i
        out.append(
            sample_pair(models, patched, reference, text, start, (width, height), settings, seed)
        )
    return torch.stack(out)


def patched_model(models: Models, adapters: Adapters, settings: Settings) -> Any:
    """The MODEL with the adapters, as the settings ask for it."""
    approximation = Approximation()
    if settings.isolated:
        approximation = Approximation(reference_reuse=settings.steps, isolated_references=True)
    return patch_model(models.model, adapters, settings.components, approximation)


@torch.no_grad()
def sample_pair(
    models: Models,
    patched: Any,
    reference: Reference,
    text: tuple[Tensor, Tensor],
    start: Latent,
    size: tuple[int, int],
    settings: Settings,
    seed: int,
) -> Tensor:
    """One picture and its map by the published schedule, [2, 3, H, W] in 0..1, RGB then map.

    Args:
        models: whose VAE decodes.
        patched: of `patched_model`.
        reference: the asset's.
        text: of the encoders.
        start: joint LATENT.
        size: (width, height), pixels.
        settings: sampler, steps and guidance.
        seed: of the noise.
    """
    context, pooled = text
    options = {"pooled_output": pooled[None], "guidance": TARGET_GUIDANCE}
    positive, negative = with_references([(context[None], options)], reference)
    levels = sigmas(patched, PUBLISHED_SCHEDULE, settings.steps, *size)
    latent = sample_joint(
        patched, positive, negative, start, levels, settings.image_guidance, settings.sampler, seed
    )
    return _decoded(models, [p["samples"] for p in split_joint_latent(latent)])


def _decoded(models: Models, latents: list[Tensor]) -> Tensor:
    pictures = torch.cat([models.vae.decode(latent) for latent in latents])
    return pictures.cpu().float().clamp(0, 1).movedim(-1, 1)


@torch.no_grad()
def bounds(
    models: Models, held_out: HeldOut | HeldOutRecords, pictures: Tensor
) -> dict[str, Tensor]:
    """Floors and ceilings of the measures, as pictures like `generate`'s, by name in BOUNDS.

    Args:
        models: whose autoencoder makes the round trip.
        held_out: the assets.
        pictures: what the model made of them.
    """
    truth = held_out.pictures.targets[:, 0].float() / 255
    another = torch.stack([pictures[:, 0].roll(1, 0), pictures[:, 1]], 1)
    one = pictures.clone()
    for i, (image, point_map) in enumerate(pictures):
        inside = point_map.amin(0) < 1 - 1 / 16
        if inside.any():
            one[i, 0][:, inside] = image[:, inside].mean(1, keepdim=True)
    latents = [models.encoders.pictures(pair) for pair in held_out.pictures.targets[:, 0]]
    round_trip = torch.stack([_decoded(models, list(pair[:, None])) for pair in latents])
    return dict(zip(BOUNDS, (another, one, round_trip, truth)))
