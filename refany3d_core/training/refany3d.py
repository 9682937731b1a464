"""Training RefAny3D's adapters: models, encodings, the loop, validation pictures and files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from torch import Tensor

from ..host.conditioning import Conditioning, with_references
from ..host.latents import empty_joint_latent, split_joint_latent
from ..host.patch import patch_model
from ..host.routing import own
from ..host.sampling import PUBLISHED_SCHEDULE, sample_joint, sigmas
from ..host.train import TrainingForward, differentiable
from ..host.trainable import FILES, TrainableAdapters
from ..int8_rows import dequantise_rows, quantise_rows
from ..method.approximation import Approximation
from ..method.guidance import IMAGE_GUIDANCE, TARGET_GUIDANCE
from ..reference import Reference
from .batches import Batches
from .cache import EncodedTexts, EncodedTriplets, encode_pictures, encode_texts
from .checkpoint import load_tensors, save_tensors
from .config import RefAny3DConfig
from .loop import Interrupted, Loop
from .memory import check_memory
from .models import Models, on_device
from .objectives import refany3d_loss
from .pictures import save_grid
from .triplets import Source

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedSet:
    """Encoded triplets and captions."""

    triplets: EncodedTriplets
    texts: EncodedTexts


def encode_set(source: Source, models: Models, cache: Path, accelerator: Accelerator) -> EncodedSet:
    """Encode a training set, or what is missing of it, by all processes together."""
    first = accelerator.process_index * max(1, source.chunks // accelerator.num_processes)
    triplets = EncodedTriplets(encode_pictures(source, models.encoders, cache, first))
    captions = triplets.captions()
    texts = EncodedTexts(encode_texts(captions, models.encoders, cache, first))
    return EncodedSet(triplets, texts)


def autocast(device: torch.device, bfloat16: bool) -> torch.autocast:
    """bfloat16 products on the CPU, where that is asked for; the base's own dtype elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16 and device.type == "cpu")


@contextmanager
def host_interrupts() -> Iterator[None]:
    """The host's interrupt, which it raises from inside its blocks and samplers, as ours: the loop
    then writes a checkpoint of the last whole step."""
    try:
        yield
    except comfy.model_management.InterruptProcessingException as e:
        raise Interrupted from e


class AdapterTraining:
    """One variant's training in a folder: resumed, finished, or from the start.

    Args:
        models: base, text encoders and VAE.
        data: the training set.
        config: the recipe.
        folder: where checkpoints, pictures and the published files go.
        accelerator: the processes that train together.
        held_out: what validation pictures are made of; the training set when None.
        bfloat16: see `autocast`.
    """

    def __init__(
        self,
        models: Models,
        data: EncodedSet,
        config: RefAny3DConfig,
        folder: Path,
        accelerator: Accelerator,
        held_out: EncodedSet | None = None,
        bfloat16: bool = False,
    ) -> None:
        self.models, self.data, self.config, self.folder = models, data, config, folder
        self.accelerator, self.held_out = accelerator, held_out or data
        self.device = accelerator.device
        base = models.model.model
        self.dtype = base.get_dtype_inference()
        asset = data.triplets.assets[0]
        views = data.triplets.views(asset)[:, : config.reference_views or None]
        check_memory(base.diffusion_model, config, asset.size, views, data.texts(""), self.dtype)
        torch.manual_seed(config.seed)
        self.transformer = on_device(models.model)
        self.adapters = TrainableAdapters(self.transformer, config.rank).to(self.device)
        self.bfloat16 = bfloat16
        self.to_model = base.latent_format.process_in
        self.named: dict[str, Tensor] = {
            name: tensor
            for name, tensor in self.adapters.named_trained().items()
            if config.domain_lora or not name.startswith("coord.")
        }
        if config.train_base:
            self.transformer.requires_grad_(True)
            self.named |= {
                f"base.{name}": p
                for name, p in self.transformer.named_parameters()
                if not name.startswith("guidance_in.")  # not distilled: held at zero
            }
        if config.start:
            self._start_from(folder.parent / config.start)
        self.forward = TrainingForward(
            self.transformer, self.adapters, config.components, config.gradient_checkpointing
        )
        self.batches = Batches(data.triplets, data.texts, config, self.to_model, self.device)

    def _start_from(self, folder: Path) -> None:
        files = {file: folder / f"{file}.safetensors" for file in FILES}
        missing = [path.name for path in files.values() if not path.is_file()]
        if missing:
            raise ValueError(f"start is '{folder.name}', which has no {', '.join(missing)}")
        self.adapters.load_published({file: load_tensors(path) for file, path in files.items()})
        base = folder / "base.safetensors"
        if base.is_file():
            self.transformer.load_state_dict(dequantise_rows(load_tensors(base)))

    def step(self, number: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Forward and backward pass of batch `number`."""
        batch = self.batches(number)
        with host_interrupts(), differentiable(self.transformer):
            with autocast(self.device, self.bfloat16):
                loss, values = refany3d_loss(self.forward, batch, self.dtype)
            loss.backward()
        return loss, values

    def run(
        self,
        watch: Callable[[int, int, float], None] | None = None,
        show: Callable[[Tensor], None] | None = None,
    ) -> dict[str, float]:
        """Train to the end, or go on from the last checkpoint, and write the published files.

        Args:
            watch: see Loop.
            show: called with every validation picture, [H, W, 3] in 0..1.

        Raises:
            Interrupted: by `watch`, after a checkpoint.
        """
        made_of = json.dumps([self.config.rank, len(self.data.triplets.assets)])
        loop = Loop(
            "adapters", self.config, self.named, self.step, self.folder, self.accelerator,
            lambda name: self._validate(name, show) if self.config.samples else None,
            watch, made_of,
        )  # fmt: skip
        if loop.resume():
            log.info("going on from step %d", loop.done)
        summary = loop.run()
        if self.accelerator.is_main_process:
            self.save()
        self.accelerator.wait_for_everyone()
        return summary

    def save(self) -> None:
        """The published files, and the base if it was trained."""
        if self.config.train_base:
            save_tensors(
                self.folder / "base.safetensors", quantise_rows(self.transformer.state_dict())
            )
        for file, tensors in self.adapters.published().items():
            values = {key: tensor.detach().bfloat16() for key, tensor in tensors.items()}
            save_tensors(self.folder / f"{file}.safetensors", values)

    @torch.no_grad()
    def _validate(self, name: str, show: Callable[[Tensor], None] | None) -> None:
        """Pictures of held-out assets through the host's own sampler, with a fixed seed."""
        triplets, texts = self.held_out.triplets, self.held_out.texts
        chosen = triplets.assets[:: max(1, len(triplets.assets) // self.config.samples)]
        rows = []
        for asset in chosen[: self.config.samples]:
            views, maps = triplets.views(asset)[:, : self.config.reference_views or None]
            height, width = (8 * side for side in asset.size)
            context, pooled = texts(asset.captions[0])
            reference = Reference(views, maps, triplets.black[None])
            with host_interrupts():
                pair = self.sample(reference, context, pooled, width, height)
            rows.append(pair)
            if show:
                show(torch.cat(list(pair), dim=1))
        sides = {tuple(pair.shape) for pair in rows}
        if len(sides) == 1:
            grid = torch.stack(rows).movedim(-1, -3)
            save_grid(self.folder / "samples" / f"{name}.png", grid)

    @torch.no_grad()
    def sample(
        self,
        reference: Reference,
        context: Tensor,
        pooled: Tensor,
        width: int,
        height: int,
        seed: int = 0,
    ) -> Tensor:
        """Image and point map by the adapters as they are, [2, H, W, 3] in 0..1, made as the nodes
        make them."""
        adapters = own(self.adapters.modules_for_sampling(), "the trained adapters")
        approximation = Approximation()
        if self.config.shared_targets:  # references that see only their own pair, as trained
            approximation = Approximation(reference_reuse=1000, isolated_references=True)
        model = self.models.model
        patched = patch_model(model, adapters, self.config.components, approximation)
        options = {"pooled_output": pooled[None], "guidance": TARGET_GUIDANCE}
        prompt: Conditioning = [(context[None], options)]
        positive, negative = with_references(prompt, reference)
        latent = empty_joint_latent(width, height, 1)
        levels = sigmas(model, PUBLISHED_SCHEDULE, self.config.sample_steps, width, height)
        out = sample_joint(
            patched, positive, negative, latent, levels, IMAGE_GUIDANCE, "euler", seed
        )
        panels = [self.models.vae.decode(p["samples"]) for p in split_joint_latent(out)]
        return torch.cat(panels).cpu().float().clamp(0, 1)
