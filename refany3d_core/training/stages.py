"""The stages of a training run, each from its inputs on disk to its outputs on disk."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .adapters import Adapters
from .autoencoder import DOWNSCALE, Autoencoder, random_crop, reconstruction_loss
from .checkpoint import (
    dequantise_rows,
    load_metadata,
    load_tensors,
    quantise_rows,
    save_json,
    save_tensors,
)
from .config import Config, RefAny3DConfig, flat
from .dataset import Source, world_source
from .disk import Dataset
from .latents import TripletTokens, encode_triplets, picture_pool
from .loop import Loop
from .monitor import decode_tokens, pair_measures, save_grid
from .objectives import BaseObjective, RefAny3DObjective
from .parallel import Workers
from .sampling import sample_pair, sample_picture
from .sequence import make_sequence
from .text import LENGTH, TextEncoder, Tokenizer, world_vocabulary
from .transformer import PATCH, Flux, FluxShape
from .world.assets import make_assets

log = logging.getLogger(__name__)

HELD_OUT = 32
"""Held-out assets that are watched during training."""
GRID_ROWS = 12
SAMPLE_STEPS = 20


class Run:
    """One training run in a folder; finished stages are loaded, unfinished ones resumed.

    Args:
        config: what to train.
        folder: where the outputs go and finished stages are found.
        device: where to train; on CUDA in bfloat16 autocast.
    """

    def __init__(self, config: Config, folder: Path, device: torch.device) -> None:
        self.workers = Workers(device)
        self.config, self.folder, self.device = config, folder, self.workers.device
        self.started = time.monotonic()
        self.dataset = Dataset(config.dataset, config.world) if config.dataset else None
        world = config.world
        tokens = world.resolution // (DOWNSCALE * PATCH)
        self.grid = (tokens, tokens)
        self.bfloat16 = device.type == "cuda" or config.cpu_bfloat16
        self.dtype = torch.bfloat16 if self.bfloat16 else torch.float32
        # before CUDA starts: the drawing processes are forks
        self.assets = make_assets(world.seed, "train", world.assets, workers=world.workers)
        self.held_out = make_assets(world.seed, "held_out", HELD_OUT)
        self._say("drew %d assets", world.assets)
        torch.manual_seed(config.seed)
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        if config.compile:
            # a block that cannot be compiled here runs as it is, with a warning
            torch._dynamo.config.suppress_errors = True
            torch._dynamo.config.recompile_limit = 64
        folder.mkdir(parents=True, exist_ok=True)
        save_json(folder / "config.json", flat(config))
        self.data: TripletTokens | None = None
        self.held_out_data: TripletTokens | None = None

    def _say(self, text: str, *args: object) -> None:
        log.info("[%.0f s] " + text, time.monotonic() - self.started, *args)

    def autocast(self) -> torch.autocast:
        """bfloat16 on CUDA, on the CPU where the configuration asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def _cast(self, step: Callable) -> Callable:
        def run(index: int) -> tuple:
            with self.autocast():
                return step(index)

        return run

    # Stage 1a
    def autoencoder(self, train: bool) -> Autoencoder:
        """The autoencoder: from disk, or fitted and trained when allowed."""
        path = self.folder / "autoencoder.safetensors"
        encoder = self.folder / "patch_basis.safetensors"
        model = Autoencoder().to(self.device, memory_format=torch.channels_last)
        if not path.exists():
            if not train or self.config.autoencoder is None:
                raise ValueError(f"{path} is missing: train the autoencoder first")
            self._train_autoencoder(model, encoder)
            save_tensors(path, model.host_state_dict())
        tensors = {**load_tensors(encoder, self.device), **load_tensors(path, self.device)}
        names = model.state_dict().keys()
        model.load_state_dict({k: tensors[k].float() for k in names})
        return model.requires_grad_(False)

    def _train_autoencoder(self, model: Autoencoder, encoder: Path) -> None:
        config = self.config.autoencoder
        if self.dataset is None:
            pool = picture_pool(self.config.world, config.pool, self.device)
        else:
            pool = self.dataset.pictures(config.pool).to(self.device)
        self._say("rendered %d pictures", len(pool))
        if encoder.exists():
            model.load_state_dict(load_tensors(encoder), strict=False)
        else:
            self._say("16 components hold %.4f of the variance", model.fit(pool))
            save_tensors(encoder, {"projection": model.projection, "bias": model.bias})

        def step(index: int) -> tuple[Tensor, dict[str, Tensor]]:
            rows = torch.randint(len(pool), (config.batch,), device=self.device)
            pictures = random_crop(pool[rows], config.crop).float().div(255)
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            return reconstruction_loss(model, pictures, config.noise)

        def show(name: str) -> None:
            pictures = pool[:: max(1, len(pool) // 24)][:24].float() / 255
            with torch.no_grad(), self.autocast():
                decoded = model.decode(model.encode(pictures)).float()
            both = torch.stack([pictures, decoded], 1).reshape(-1, 8, *pictures.shape[1:])
            save_grid(self.folder / "samples" / f"{name}.png", both)

        loop = Loop(
            "autoencoder",
            config,
            {"autoencoder": model},
            self._cast(step),
            self.folder,
            show,
            self.workers,
        )
        loop.resume()
        self._say("autoencoder: %s", loop.run())

    # Data
    def encode(self, model: Autoencoder, tokenizer: Tokenizer) -> None:
        """Render and encode the training set and the watched held-out set, or read them from the
        run."""
        if self.data is not None:
            return
        self.data = self._encoded("train", model, tokenizer)
        self.held_out_data = self._encoded("held_out", model, tokenizer)
        self._say("%d triplets", self.data.targets.shape[0] * self.data.targets.shape[1])

    def source(self, split: str) -> Source:
        """The training set's pictures: rendered now, or read from the dataset."""
        if self.dataset is not None:
            return self.dataset.source(split)
        world = self.config.world
        if split == "train":
            return world_source(world, self.assets, split, self.device)
        one = dataclasses.replace(world, scenes=1)
        return world_source(one, self.held_out, split, self.device)

    def tokenizer(self) -> Tokenizer:
        """The text encoder's, or before there is one, that of the training set's captions."""
        path = self.folder / "text_encoder.safetensors"
        if path.exists():
            return Tokenizer(json.loads(load_metadata(path)["vocabulary"]))
        return Tokenizer(world_vocabulary(self.dataset.texts() if self.dataset else ()))

    def _encoded(self, split: str, model: Autoencoder, tokenizer: Tokenizer) -> TripletTokens:
        with self.workers.first_alone():
            return self._encode_split(split, model, tokenizer)

    def _encode_split(self, split: str, model: Autoencoder, tokenizer: Tokenizer) -> TripletTokens:
        world, dataset = self.config.world, self.config.dataset
        path = self.folder / f"{split}.tokens.safetensors"
        made_of = json.dumps([flat(world), flat(dataset) if dataset else None])
        if path.exists() and load_metadata(path).get("made_of") == made_of:
            return TripletTokens(**load_tensors(path, self.device))
        seconds = world.encode_seconds if split == "train" else 0.0
        with self.autocast():
            data = encode_triplets(
                self.source(split), model, tokenizer, self.device, self.dtype, seconds
            )
        save_tensors(path, vars(data), {"made_of": made_of})
        return data

    def prepare_data(self) -> None:
        """Encode the sets now, so that the budgets that follow know what time is left."""
        self.encode(self.autoencoder(train=False), self.tokenizer())

    # Stage 1b
    def base(self, autoencoder: Autoencoder, train: bool) -> tuple[Flux, TextEncoder, Tokenizer]:
        """Base transformer and text encoder: from disk, or trained when allowed."""
        config = self.config.base
        if config is None:
            raise ValueError("the configuration has no [base]: its sizes are needed")
        path, text_path = self.folder / "base.safetensors", self.folder / "text_encoder.safetensors"
        tokenizer = self.tokenizer()
        shape = FluxShape(
            config.hidden,
            config.double_blocks,
            config.single_blocks,
            config.text_width,
            config.text_width,
        )
        model, text = Flux(shape), TextEncoder(len(tokenizer.vocabulary), config.text_width)
        model.initialise()
        start = self.folder / config.start if config.start else path
        if start.exists():
            model.load_state_dict(dequantise_rows(load_tensors(start)))
            text.load_state_dict({k: v.float() for k, v in load_tensors(text_path).items()})
        model, text = model.to(self.device), text.to(self.device)
        if not path.exists():
            if not train:
                raise ValueError(f"{path} is missing: train the base first")
            self.encode(autoencoder, tokenizer)
            if self.config.compile:
                model.compile_blocks()
            self._train_base(model, text, autoencoder)
            self.save_base(model, path)
            save_tensors(
                text_path,
                {k: v.half() for k, v in text.state_dict().items()},
                {"vocabulary": json.dumps(tokenizer.vocabulary)},
            )
            model.load_state_dict(dequantise_rows(load_tensors(path)))
            text.load_state_dict({k: v.float() for k, v in load_tensors(text_path).items()})
        return model.requires_grad_(False), text.requires_grad_(False), tokenizer

    def save_base(self, model: Flux, path: Path) -> None:
        """Write the base as it is bundled: int8 rows."""
        save_tensors(
            path,
            quantise_rows(model.state_dict()),
            {"shape": json.dumps(dataclasses.asdict(model.shape))},
        )

    def _train_base(self, model: Flux, text: TextEncoder, autoencoder: Autoencoder) -> None:
        config = self.config.base
        model.gradient_checkpointing = config.gradient_checkpointing
        objective = BaseObjective(config, model, text, self.data, self.grid)
        data = self.held_out_data
        sequence = make_sequence(LENGTH, self.grid, self.grid, 0, self.device, point_maps=False)
        generator = torch.Generator(self.device).manual_seed(0)
        noise = torch.randn(24, *data.black.shape, device=self.device, generator=generator)

        def show(name: str) -> None:
            rows = torch.arange(24, device=self.device) % len(data.captions)
            captions = torch.cat([data.captions[rows[:16], 0], data.map_captions[rows[16:]]])
            with torch.no_grad(), self.autocast(), model.plain_blocks():
                context, pooled = text(captions)
                tokens = sample_picture(model, sequence, context, pooled, noise, SAMPLE_STEPS)
                pictures = decode_tokens(autoencoder, tokens, self.grid)
            save_grid(
                self.folder / "samples" / f"{name}.png", pictures.reshape(3, 8, *pictures.shape[1:])
            )

        loop = Loop(
            "base",
            config,
            {"base": model, "text": text},
            self._cast(objective),
            self.folder,
            show,
            self.workers,
        )
        loop.resume()
        self._say("base: %s", loop.run())

    # Stage 2
    def refany3d(self, name: str) -> None:
        """Train one variant's adapters into folder/NAME, unless they are there."""
        config = self.config.refany3d[name]
        folder = self.folder / name
        if (folder / "domain_embedder.safetensors").exists():
            self._say("%s is finished already", name)
            return
        autoencoder = self.autoencoder(train=False)
        model, text, tokenizer = self.base(autoencoder, train=False)
        start = self.folder / config.start
        if config.start and (start / "base.safetensors").exists():
            model.load_state_dict(dequantise_rows(load_tensors(start / "base.safetensors")))
        self.encode(autoencoder, tokenizer)
        model.requires_grad_(config.train_base)
        if self.config.compile:
            model.compile_blocks()
        torch.manual_seed(config.seed)
        adapters = Adapters(model.shape, config.rank, config.domain_lora).to(self.device)
        if config.start:
            files = ("default", "coord", "domain_embedder")
            adapters.load_published({f: load_tensors(start / f"{f}.safetensors") for f in files})
        model.gradient_checkpointing = config.gradient_checkpointing
        objective = RefAny3DObjective(config, model, text, adapters, self.data, self.grid)
        modules = {"adapters": adapters, **({"base": model} if config.train_base else {})}

        def show(step: str) -> None:
            self.watch(name, step, config, objective, autoencoder)

        loop = Loop("adapters", config, modules, self._cast(objective), folder, show, self.workers)
        loop.resume()
        self._say("%s: %s", name, loop.run())
        if config.train_base:
            self.save_base(model, folder / "base.safetensors")
        for stem, tensors in adapters.published().items():
            save_tensors(folder / f"{stem}.safetensors", tensors)

    @torch.no_grad()
    def watch(
        self,
        name: str,
        step: str,
        config: RefAny3DConfig,
        objective: RefAny3DObjective,
        autoencoder: Autoencoder,
    ) -> None:
        """Sample the held-out assets, write a grid and a line of measures."""
        data = self.held_out_data
        data = dataclasses.replace(
            data, **{k: getattr(data, k)[:HELD_OUT] for k in ("views", "targets", "captions")}
        )
        count = len(data.views)
        generator = torch.Generator(self.device).manual_seed(0)
        noise = torch.randn(count, 2, *data.black.shape, device=self.device, generator=generator)
        measures: dict[str, float] = {}
        with self.autocast(), objective.model.plain_blocks():
            context, pooled = objective.text(data.captions[:, 0])
            tokens = sample_pair(
                objective.model,
                objective.adapters,
                objective.sequence,
                context,
                pooled,
                data.views.float(),
                data.black.float(),
                noise,
                SAMPLE_STEPS,
            )
            pictures = decode_tokens(autoencoder, tokens, self.grid)
            truth = decode_tokens(autoencoder, data.targets[:GRID_ROWS, 0], self.grid)
            views = decode_tokens(autoencoder, data.views[:GRID_ROWS, 0], self.grid)
            for key, references in (
                ("right", data.views),
                ("wrong", data.views.roll(1, 0)),
                ("black", data.black.expand_as(data.views)),
            ):
                torch.manual_seed(1)
                t = torch.linspace(0.05, 0.95, count, device=self.device)
                _, losses = objective.loss(data.targets[:, 0], references, data.captions[:, 0], t)
                measures |= {f"{part}_{key}": float(v) for part, v in losses.items()}
        if config.point_maps and self.dataset is None:
            measures |= pair_measures(pictures[:, 0], pictures[:, 1], self.held_out)
        rows = torch.cat([pictures[:GRID_ROWS], truth, views], 1)
        save_grid(self.folder / "samples" / f"{name}_{step}.png", rows)
        self._say("%s %s %s", name, step, {k: round(v, 4) for k, v in measures.items()})
        save_json(self.folder / name / f"{step}.json", measures)
