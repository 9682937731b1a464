"""The optimisers of a stage, and their whole state as tensors and plain numbers."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .config import StageConfig

ADAM_BETAS = (0.9, 0.999)
"""Of AdamW and Prodigy, as published (METHOD fact 49)."""

Optimizer = torch.optim.Optimizer


def make_optimizers(config: StageConfig, named: Mapping[str, Tensor]) -> list[Optimizer]:
    """Prodigy with the published settings (METHOD fact 49), AdamW, or Muon for a base's matrices.

    Args:
        config: optimizer, learning rate and weight decay.
        named: trained tensors; "muon" takes the matrices of the base's blocks ("base....") and
            leaves the rest, LoRAs included, to AdamW at the same rate.

    Raises:
        ValueError: the optimizer's package is missing.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "prodigy":
        try:
            from prodigyopt import Prodigy
        except ImportError as e:
            raise ValueError(
                "optimizer 'prodigy' needs the package prodigyopt: pip install prodigyopt"
            ) from e
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            return [
                Prodigy(
                    list(named.values()),
                    lr=rate,
                    betas=ADAM_BETAS,
                    weight_decay=decay,
                    use_bias_correction=True,
                    safeguard_warmup=True,
                )
            ]
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, tensor in named.items():
        block = name.startswith("base.") and "_blocks." in name and tensor.ndim == 2
        (matrices if block and config.optimizer == "muon" else rest).append(tensor)
    optimizers: list[Optimizer] = []
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        )
    if rest:
        fused = rest[0].is_cuda
        optimizers.append(
            torch.optim.AdamW(rest, rate, ADAM_BETAS, weight_decay=decay, fused=fused)
        )
    return optimizers


def rate_factor(config: StageConfig, step: int, progress: float) -> float:
    """Factor of the learning rate: linear warm-up over steps, then constant, or a cosine over
    progress in 0..1 down to a hundredth."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "constant":
        return warm
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _names(optimizer: Optimizer, named: Mapping[str, Tensor]) -> list[str]:
    """Names of the optimizer's parameters in its own order."""
    known = {id(tensor): name for name, tensor in named.items()}
    return [known[id(p)] for group in optimizer.param_groups for p in group["params"]]


def optimizer_state(
    optimizers: Sequence[Optimizer], named: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list]:
    """Everything that the optimisers keep.

    Returns:
        Tensors by "INDEX.KEY.NAME", and a JSON value for each optimiser: the numbers of its
        parameter groups (Prodigy's d, k and the like live there) and of its parameters.
    """
    tensors: dict[str, Tensor] = {}
    plain = []
    for i, optimizer in enumerate(optimizers):
        whole = optimizer.state_dict()
        numbers: dict[str, dict[str, Any]] = {}
        for number, name in enumerate(_names(optimizer, named)):
            for key, value in whole["state"].get(number, {}).items():
                if torch.is_tensor(value):
                    tensors[f"{i}.{key}.{name}"] = value
                else:
                    numbers.setdefault(name, {})[key] = value
        groups = [
            {k: v.item() if torch.is_tensor(v) else v for k, v in g.items() if k != "params"}
            for g in whole["param_groups"]
        ]
        plain.append({"groups": groups, "state": numbers})
    return tensors, plain


def load_optimizer_state(
    optimizers: Sequence[Optimizer],
    named: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    plain: list,
) -> None:
    """Put back what `optimizer_state` gave."""
    for i, (optimizer, kept) in enumerate(zip(optimizers, plain)):
        state: dict[int, dict[str, Any]] = {}
        for number, name in enumerate(_names(optimizer, named)):
            found = dict(kept["state"].get(name, {}))
            prefix, suffix = f"{i}.", f".{name}"
            for key, value in tensors.items():
                if key.startswith(prefix) and key.endswith(suffix):
                    inner = key[len(prefix) : -len(suffix)]
                    if "." not in inner:
                        found[inner] = value
            if found:
                state[number] = found
        groups = optimizer.state_dict()["param_groups"]
        for group, values in zip(groups, kept["groups"]):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        optimizer.load_state_dict({"state": state, "param_groups": groups})
