"""Training configurations: TOML files, checked against these dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..method.components import Components
from ..toml_tables import build, read_toml

OPTIMIZERS = ("prodigy", "adamw", "muon")


@dataclass(frozen=True)
class ModelsConfig:
    """The frozen models, by their names in ComfyUI's model folders.

    Attributes:
        base: FLUX.1-dev, in models/diffusion_models.
        weight_dtype: of the base: "default" (as the file), "fp8_e4m3fn" or "bf16".
        text_encoders: CLIP-L and T5-XXL, in models/text_encoders.
        text_type: of the text encoders, as DualCLIPLoader names it.
        vae: FLUX's, in models/vae.
        text_tokens: of T5; shorter prompts are padded to as many (METHOD fact 56).
    """

    base: str = "flux1-dev.safetensors"
    weight_dtype: str = "default"
    text_encoders: tuple[str, ...] = ("clip_l.safetensors", "t5xxl_fp16.safetensors")
    text_type: str = "flux"
    vae: str = "ae.safetensors"
    text_tokens: int = 512


@dataclass(frozen=True)
class WorldConfig:
    """The procedural training set of the small model.

    Attributes:
        seed: names the set.
        resolution: pixels of a side, a multiple of 16.
        views: reference views of an asset, at most 60.
        assets: training assets.
        scenes: pictures of each asset.
        chunk: assets rendered and encoded at once: one shard.
        meshes: a folder of mesh files that take the place of some procedural assets; "" for none.
        mesh_share: of the assets, which part is a mesh, turned, stretched and recoloured at random.
        held_out_kinds: kinds of assets that are never trained on, by their words.
        subject: a held-out asset by its number: its reference views are then the only targets,
            captioned with its kind, as DreamBooth is trained; -1 for the world's scenes.
    """

    seed: int = 0
    resolution: int = 96
    views: int = 4
    assets: int = 24000
    scenes: int = 6
    chunk: int = 128
    meshes: str = ""
    mesh_share: float = 0.0
    held_out_kinds: tuple[str, ...] = ()
    subject: int = -1

    def named(self) -> dict[str, Any]:
        """The settings that name the set of scenes: all but the subject, which has a set alone."""
        return {k: v for k, v in asdict(self).items() if k != "subject"}


@dataclass(frozen=True)
class DatasetConfig:
    """A training set on disk, instead of the procedural world.

    Attributes:
        path: folder of shards that `build` wrote, or of the published layout (meta_data.json).
        resolution: pixels of a reference's side, and of a target's shorter side (METHOD fact 46).
        views: reference views of an asset.
        skip_faulty: leave faulty records of the published layout out, with a warning.
        buckets: keep the targets' aspect ratio, cut to whole tokens at about resolution squared
            pixels, instead of the published centre square.
        chunk: records encoded at once: one shard.
    """

    path: str = ""
    resolution: int = 512
    views: int = 8
    skip_faulty: bool = False
    buckets: bool = False
    chunk: int = 16


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained: it ends after `steps` or `seconds`, whichever comes first.

    Attributes:
        steps: optimiser steps at most.
        seconds: wall-clock seconds at most; 0 for no limit.
        batch: samples of a process in one pass.
        accumulation: passes of a step, whose gradients are averaged.
        learning_rate: peak; with "prodigy" a factor of the rate that it finds itself.
        schedule: "constant", or "cosine" down to a hundredth.
        warmup: steps of a linear warm-up.
        optimizer: "adamw"; "prodigy"; or "muon", for training a base from nothing.
        weight_decay: decoupled weight decay.
        clip: largest norm of the gradient of all trained tensors together.
        gradient_checkpointing: compute each block's inside again in the backward pass: far less
            memory, a third more time.
        ema: decay of the moving average that is saved and sampled, 0 for none.
        log_every: steps between two lines of the log.
        checkpoint_seconds: seconds between two checkpoints to resume from.
        checkpoint_steps: steps between two checkpoints, 0 for none but those of the clock.
        sample_seconds: seconds between two validation pictures, 0 for none but the last.
    """

    steps: int = 100000
    seconds: float = 0.0
    batch: int = 256
    accumulation: int = 1
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 100
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip: float = 0.5
    gradient_checkpointing: bool = False
    ema: float = 0.0
    log_every: int = 50
    checkpoint_seconds: float = 120.0
    checkpoint_steps: int = 0
    sample_seconds: float = 120.0


@dataclass(frozen=True)
class AutoencoderConfig(StageConfig):
    """Stage 1a of the small model.

    Attributes:
        pool: assets whose pictures are used.
        crop: pixels of a side of the random crops that a step sees, a multiple of 8; 0 for whole
            pictures.
        noise: standard deviation of the noise on the training latents.
    """

    pool: int = 3000
    crop: int = 0
    noise: float = 0.1


@dataclass(frozen=True)
class BaseConfig(StageConfig):
    """Stage 1b of the small model: text-to-image Flux and text encoder.

    Attributes:
        hidden, double_blocks, single_blocks, text_width: sizes of the model.
        map_share: share of point maps among the pictures.
        text_drop: probability of an empty caption.
    """

    hidden: int = 256
    double_blocks: int = 2
    single_blocks: int = 4
    text_width: int = 128
    map_share: float = 0.25
    text_drop: float = 0.1


@dataclass(frozen=True)
class RefAny3DConfig(StageConfig):
    """Both LoRAs and the domain embedder on the base (METHOD facts 45-53). The defaults are the
    published recipe.

    Attributes:
        seed: of initialisation and of everything that is drawn.
        rank: rank of both LoRAs.
        text_drop, reference_drop: probability of an empty caption, of black references.
        train_base: also train the base; a departure from the published recipe.
        shared_targets: targets of each asset that share one pass over its references, which then
            see only their own pair, as in the published cache (METHOD fact 30); 0 for the published
            training, in which the references see text and targets too.
        reference_views: how many of the set's reference views are used, from the front on; 0 for
            all.
        start: folder of another variant in the run to go on from: its adapters, and its base if it
            trained one.
        samples: validation pictures.
        sample_steps: of the validation pictures' sampling.
        point_maps, shared_positions, text_agnostic, domain_lora: False for the paper's ablations.
    """

    batch: int = 1
    gradient_checkpointing: bool = True
    optimizer: str = "prodigy"
    learning_rate: float = 1.0
    schedule: str = "constant"
    warmup: int = 0
    checkpoint_seconds: float = 600.0
    sample_seconds: float = 1800.0
    seed: int = 0
    rank: int = 16
    text_drop: float = 0.1
    reference_drop: float = 0.1
    train_base: bool = False
    shared_targets: int = 0
    reference_views: int = 0
    start: str = ""
    samples: int = 2
    sample_steps: int = 28
    point_maps: bool = True
    shared_positions: bool = True
    text_agnostic: bool = True
    domain_lora: bool = True

    @property
    def components(self) -> Components:
        """The parts of the method that are trained."""
        return Components(
            domain_lora=self.domain_lora,
            shared_positions=self.shared_positions,
            text_agnostic=self.text_agnostic,
            point_maps=self.point_maps,
        )


@dataclass(frozen=True)
class Config:
    """A whole training run.

    Attributes:
        seed: of the small model's stages.
        cpu_bfloat16: autocast to bfloat16 on the CPU; twice as fast where the CPU has bfloat16
            instructions (AVX512-BF16, AMX), slower where it has not.
        models: the frozen models; without the table, those that [autoencoder] and [base] train.
        world, dataset: the training set, one of the two.
        autoencoder, base: stages of the small model.
        refany3d: variants by name.
    """

    seed: int = 0
    cpu_bfloat16: bool = False
    models: ModelsConfig | None = None
    world: WorldConfig | None = None
    dataset: DatasetConfig | None = None
    autoencoder: AutoencoderConfig | None = None
    base: BaseConfig | None = None
    refany3d: Mapping[str, RefAny3DConfig] = field(default_factory=dict)

    @property
    def views(self) -> int:
        """Reference views of an asset."""
        return self._set.views

    @property
    def resolution(self) -> int:
        """Pixels of a reference's side."""
        return self._set.resolution

    @property
    def _set(self) -> DatasetConfig | WorldConfig:
        found = self.dataset or self.world
        if found is None:
            raise ValueError("the configuration names no training set")
        return found


def load_config(path: str | Path, values: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML configuration; `like = "other"` in a variant takes the other's settings as
    defaults.

    Args:
        path: the file.
        values: its content, changed; read from the file by default.

    Raises:
        ValueError: a setting is unknown or has the wrong type; the message names it.
    """
    values = dict(read_toml(path) if values is None else values)
    variants = values.get("refany3d", {})
    values["refany3d"] = {
        name: build(RefAny3DConfig, _resolved(variants, name, path), f"{path} [refany3d.{name}]")
        for name in variants
    }
    config = build(Config, values, str(path))
    if (config.world is None) == (config.dataset is None):
        raise ValueError(f"{path}: give [dataset], or [world] for the procedural set, not both")
    _check_sizes(config, path)
    return config


def _check_sizes(config: Config, path: str | Path) -> None:
    if config.resolution % 16 or config.resolution < 64:
        raise ValueError(
            f"{path}: resolution is {config.resolution}, expected a multiple of 16 from 64 up"
        )
    if not 1 <= config.views <= 60:
        raise ValueError(f"{path}: views is {config.views}, expected 1 to 60 (METHOD fact 36)")
    for name, variant in config.refany3d.items():
        if not 0 <= variant.reference_views <= config.views:
            raise ValueError(
                f"{path} [refany3d.{name}]: reference_views is {variant.reference_views}, the set "
                f"has {config.views}; 0 for all"
            )
        copies = variant.shared_targets
        if copies and variant.batch % copies:
            raise ValueError(
                f"{path} [refany3d.{name}]: batch is {variant.batch}, not a multiple of "
                f"shared_targets, {copies}"
            )
    stages = [config.autoencoder, config.base, *config.refany3d.values()]
    for stage in filter(None, stages):
        if stage.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"{path}: optimizer is '{stage.optimizer}', expected one of {', '.join(OPTIMIZERS)}"
            )
        if stage.schedule not in ("constant", "cosine"):
            raise ValueError(f"{path}: schedule is '{stage.schedule}', expected constant or cosine")


def _resolved(variants: Mapping[str, Mapping], name: str, path: str | Path) -> dict[str, Any]:
    """A variant's table over the table that its `like` names."""
    table = dict(variants[name])
    like = table.pop("like", None)
    if like is None:
        return table
    if like not in variants or "like" in variants[like]:
        raise ValueError(
            f"{path} [refany3d.{name}]: like is '{like}', expected a variant that is like no other"
        )
    return {**variants[like], **table}


def flat(config: Any) -> dict[str, Any]:
    """A config as plain values, for logs and model cards."""
    out = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            value = flat(value)
        elif isinstance(value, Mapping):
            value = {k: flat(v) for k, v in value.items()}
        if value is not None and value is not MISSING:
            out[f.name] = value
    return out
