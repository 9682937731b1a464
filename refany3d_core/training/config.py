"""Training configurations: TOML files, checked against these dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints


@dataclass(frozen=True)
class WorldConfig:
    """The procedural training set.

    Attributes:
        seed: names the set.
        resolution: pixels of a side, a multiple of 16.
        views: reference views of an asset.
        assets: training assets.
        scenes: pictures of each asset.
        workers: processes that draw the assets' parameters.
        chunk: assets rendered and encoded at once.
        encode_seconds: stop rendering and encoding after that long, with fewer assets; 0 for no
            limit.
    """

    seed: int = 0
    resolution: int = 128
    views: int = 4
    assets: int = 24000
    scenes: int = 6
    workers: int = 8
    chunk: int = 128
    encode_seconds: float = 0.0


@dataclass(frozen=True)
class DatasetConfig:
    """A training set on disk, instead of the procedural world rendered in memory.

    Attributes:
        path: folder of shards that `build` wrote, or of the published layout (meta_data.json).
        skip_faulty: leave faulty records of the published layout out, with a warning.
    """

    path: str = ""
    skip_faulty: bool = False


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained: it ends after `steps` or `seconds`, whichever comes first.

    Attributes:
        steps: optimiser steps at most.
        seconds: wall-clock seconds at most, compilation included; 0 for no limit.
        batch: samples a step.
        learning_rate: peak, after a linear warm-up and before a cosine decay to a hundredth.
        warmup: steps of the warm-up.
        optimizer: "adamw"; "prodigy" (which sets its own rate; learning_rate is then its factor);
            or "muon", for training a base from nothing.
        weight_decay: decoupled weight decay.
        clip: largest norm of the gradient.
        gradient_checkpointing: compute each block's inside again in the backward pass: far less
            memory, a third more time.
        ema: decay of the moving average that is saved and sampled, 0 for none.
        log_every: steps between two lines of the log.
        checkpoint_seconds: seconds between two checkpoints to resume from.
        sample_seconds: seconds between two grids of sample pictures.
    """

    steps: int = 100000
    seconds: float = 0.0
    batch: int = 256
    learning_rate: float = 1e-3
    warmup: int = 100
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip: float = 1.0
    gradient_checkpointing: bool = False
    ema: float = 0.999
    log_every: int = 50
    checkpoint_seconds: float = 120.0
    sample_seconds: float = 120.0


@dataclass(frozen=True)
class AutoencoderConfig(StageConfig):
    """Stage 1a.

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
    """Stage 1b: text-to-image Flux and text encoder.

    Attributes:
        hidden, double_blocks, single_blocks, text_width: sizes of the model.
        map_share: share of point maps among the pictures.
        context_every: every how many steps the picture is made beside clean views of its asset, 0
            for never.
        context_batch: samples of such a step.
        text_drop, reference_drop: probability of an empty caption, of black references.
        start: a base in the run's folder to go on from, with its text_encoder.safetensors.
    """

    hidden: int = 256
    double_blocks: int = 2
    single_blocks: int = 6
    text_width: int = 128
    map_share: float = 0.25
    context_every: int = 2
    context_batch: int = 256
    text_drop: float = 0.1
    reference_drop: float = 0.1
    start: str = ""


@dataclass(frozen=True)
class RefAny3DConfig(StageConfig):
    """Stage 2: both LoRAs and the domain embedder on the frozen base (METHOD facts 45-49).

    Attributes:
        seed: of initialisation and sampling order.
        rank: rank of both LoRAs.
        text_drop, reference_drop: probability of an empty caption, of black references.
        train_base: also train the base; a departure from the published recipe.
        shared_targets: targets of each asset that share one pass over its references, which then
            see only their own pair, as in the published cache (METHOD fact 30); 0 for the published
            training, in which the references see text and targets too.
        start: folder of another variant in the run to go on from: its adapters, and its base if it
            trained one.
        point_maps, shared_positions, text_agnostic, domain_lora: False for the paper's ablations.
    """

    seed: int = 0
    rank: int = 32
    text_drop: float = 0.1
    reference_drop: float = 0.1
    train_base: bool = False
    shared_targets: int = 0
    start: str = ""
    point_maps: bool = True
    shared_positions: bool = True
    text_agnostic: bool = True
    domain_lora: bool = True


@dataclass(frozen=True)
class Config:
    """A whole training run; a stage whose table is missing from the file is not run.

    Attributes:
        seed: of initialisation and sampling order.
        compile: compile the transformer's blocks.
        cpu_bfloat16: autocast to bfloat16 on the CPU too; twice as fast where the CPU has bfloat16
            instructions (AVX512-BF16, AMX), slower where it has not. CUDA always does.
    """

    seed: int = 0
    compile: bool = False
    cpu_bfloat16: bool = False
    world: WorldConfig = field(default_factory=WorldConfig)
    dataset: DatasetConfig | None = None
    autoencoder: AutoencoderConfig | None = None
    base: BaseConfig | None = None
    refany3d: Mapping[str, RefAny3DConfig] = field(default_factory=dict)


def _build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    for name in values:
        if name not in known:
            raise ValueError(
                f"{where}: unknown setting '{name}'; known are {', '.join(sorted(known))}"
            )
    for name, value in values.items():
        kind = hints[name]
        if kind in (int, float, str, bool) and not (
            isinstance(value, kind)
            and (kind is bool or not isinstance(value, bool))
            or kind is float
            and isinstance(value, int)
            and not isinstance(value, bool)
        ):
            raise ValueError(f"{where}: '{name}' is {value!r}, expected {kind.__name__}")
    return cls(**values)


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: it is not TOML, or Python is older than 3.11.
    """
    try:
        import tomllib
    except ImportError as e:
        raise ValueError("training needs Python 3.11 or newer (for tomllib)") from e
    try:
        return tomllib.loads(Path(path).read_text())
    except tomllib.TOMLDecodeError as e:
        raise ValueError(f"{path}: not valid TOML: {e}") from e


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
    tables = {
        "world": WorldConfig,
        "dataset": DatasetConfig,
        "autoencoder": AutoencoderConfig,
        "base": BaseConfig,
    }
    for name, cls in tables.items():
        if name in values:
            values[name] = _build(cls, values[name], f"{path} [{name}]")
    variants = values.get("refany3d", {})
    values["refany3d"] = {
        name: _build(RefAny3DConfig, _resolved(variants, name, path), f"{path} [refany3d.{name}]")
        for name in variants
    }
    return _build(Config, values, str(path))


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
