"""The optimisation loop that all stages share."""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import load_metadata, load_tensors, save_json, save_tensors
from .config import StageConfig
from .parallel import Workers

log = logging.getLogger(__name__)

Step = Callable[[int], tuple[Tensor, Mapping[str, Tensor]]]
"""step(index) gives the loss and named values for the log; no value may force a synchronisation."""


@dataclass
class Average:
    """A moving average of parameters, kept in float32."""

    decay: float
    values: list[Tensor]

    @torch.no_grad()
    def update(self, parameters: list[Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, parameters, 1 - decay)

    @torch.no_grad()
    def swap(self, parameters: list[Tensor]) -> None:
        """Exchange the average and the parameters in place."""
        for value, parameter in zip(self.values, parameters):
            kept = parameter.clone()
            parameter.copy_(value)
            value.copy_(kept)


def make_optimizers(
    config: StageConfig, named: list[tuple[str, Tensor]]
) -> list[torch.optim.Optimizer]:
    """AdamW, Prodigy with the published settings (METHOD fact 49), or Muon for the blocks'
    matrices.

    Args:
        config: optimizer, learning rate and weight decay.
        named: (name, parameter); "muon" takes the matrices of the base's blocks and leaves the
            rest, LoRAs included, to AdamW at the same rate.

    Raises:
        ValueError: the optimizer is unknown, or its package is missing.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "prodigy":
        try:
            from prodigyopt import Prodigy
        except ImportError as e:
            raise ValueError(
                "optimizer 'prodigy' needs the package prodigyopt: pip install prodigyopt"
            ) from e
        parameters = [p for _, p in named]
        return [
            Prodigy(
                parameters,
                lr=rate,
                weight_decay=decay,
                use_bias_correction=True,
                safeguard_warmup=True,
            )
        ]
    if config.optimizer not in ("adamw", "muon"):
        raise ValueError(
            f"optimizer is '{config.optimizer}', expected 'adamw', 'muon' or 'prodigy'"
        )
    matrices = [p for n, p in named if _is_block_matrix(n, p)] if config.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        )
    if rest:
        fused = rest[0].is_cuda
        optimizers.append(
            torch.optim.AdamW(rest, rate, (0.9, 0.99), weight_decay=decay, fused=fused)
        )
    return optimizers


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("base.") and "_blocks." in name and parameter.ndim == 2


def rate(config: StageConfig, step: int, progress: float) -> float:
    """Factor of the learning rate: linear warm-up over steps, cosine over progress in 0..1."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _optimizer_state(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What an optimizer kept for one parameter, from a file of Loop.save."""
    prefix, suffix = "optimizer.", f".{name}"
    keys = [k for k in tensors if k.startswith(prefix) and k.endswith(suffix)]
    inner = {k[len(prefix) : -len(suffix)]: tensors[k] for k in keys}
    return {k: v for k, v in inner.items() if "." not in k}


class Loop:
    """Trains the parameters of `modules` by `step` until the stage's budget is spent.

    Args:
        name: of the stage, for files and the log.
        config: budget, optimiser and intervals.
        modules: named modules; their parameters that require a gradient are trained.
        step: see Step.
        folder: where `NAME.resume.safetensors` and `NAME.csv` go.
        sample: called now and then with the averaged parameters in place.
        workers: the processes that train together; one by default.
    """

    def __init__(
        self,
        name: str,
        config: StageConfig,
        modules: Mapping[str, nn.Module],
        step: Step,
        folder: Path,
        sample: Callable[[str], None] | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.name, self.config, self.step, self.folder = name, config, step, folder
        self.workers = workers or Workers(torch.device("cpu"))
        self.writes = self.workers.index == 0
        self.sample = sample if self.writes else None
        named = [
            (f"{m}.{n}", p) for m, module in modules.items() for n, p in module.named_parameters()
        ]
        self.named = [(n, p) for n, p in named if p.requires_grad]
        self.parameters = [p for _, p in self.named]
        self.optimizers = make_optimizers(config, self.named)
        self.average = None
        if config.ema:
            self.average = Average(config.ema, [p.detach().clone() for p in self.parameters])
        self.done, self.spent = 0, 0.0
        self._seed = torch.initial_seed()

    @property
    def _resume_path(self) -> Path:
        return self.folder / f"{self.name}.resume.safetensors"

    def save(self) -> None:
        """Write everything needed to go on, as one file."""
        if not self.writes:
            return
        tensors = {f"parameter.{n}": p for n, p in self.named}
        if self.average is not None:
            tensors |= {f"average.{n}": v for (n, _), v in zip(self.named, self.average.values)}
        states = {p: s for optimizer in self.optimizers for p, s in optimizer.state.items()}
        for n, p in self.named:
            for key, value in states.get(p, {}).items():
                tensors[f"optimizer.{key}.{n}"] = torch.as_tensor(value)
        save_tensors(
            self._resume_path, tensors, {"step": str(self.done), "seconds": repr(self.spent)}
        )

    def resume(self) -> bool:
        """Go on from a saved file, if there is one; True if there was."""
        if self.writes:  # what a killed process left half-written
            for stale in self.folder.glob(f"{self._resume_path.name}.*.part"):
                stale.unlink()
        if not self._resume_path.exists():
            return False
        metadata, tensors = load_metadata(self._resume_path), load_tensors(self._resume_path)
        with torch.no_grad():
            for i, (n, p) in enumerate(self.named):
                p.copy_(tensors[f"parameter.{n}"])
                if self.average is not None:
                    self.average.values[i].copy_(tensors[f"average.{n}"])
        names = {p: n for n, p in self.named}
        for optimizer in self.optimizers:
            groups = optimizer.state_dict()["param_groups"]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state = {i: _optimizer_state(tensors, names[p]) for i, p in enumerate(parameters)}
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.done, self.spent = int(metadata["step"]), float(metadata["seconds"])
        return True

    def _progress(self) -> float:
        by_time = self.spent / self.config.seconds if self.config.seconds else 0.0
        return max(self.done / self.config.steps, by_time)

    def run(self) -> dict[str, float]:
        """Train to the end of the budget; the averaged parameters are in place afterwards."""
        config = self.config
        start = last_save = last_sample = time.monotonic()
        before, window, first = self.spent, [], self.done
        columns: list[str] | None = None
        row: dict[str, float] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}.csv" if self.writes else os.devnull
        with open(path, "a", newline="") as file:
            writer = csv.writer(file)
            while self._progress() < 1:
                factor = rate(config, self.done, self._progress())
                for optimizer in self.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = config.learning_rate * factor
                # a step's random numbers depend on its index alone, so a resumed run draws the same
                own = 1_000_003 * self.done + 7919 * self.workers.index
                torch.manual_seed((self._seed + own) % 2**63)
                loss, values = self.step(self.done)
                loss.backward()
                elapsed = before + time.monotonic() - start
                self.spent = self.workers.average(self.parameters, elapsed)
                norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
                for optimizer in self.optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                self.done += 1
                if self.average is not None:
                    self.average.update(self.parameters, self.done)
                window.append(
                    {
                        "loss": loss.detach(),
                        "norm": norm,
                        **{k: v.detach() for k, v in values.items()},
                    }
                )
                now = time.monotonic()
                if self.done % config.log_every == 0 or self.done == first + 1:
                    names = sorted({k for w in window for k in w})
                    means = {k: torch.stack([w[k] for w in window if k in w]).mean() for k in names}
                    row = {k: float(v) for k, v in means.items()}  # the only synchronisation
                    now = time.monotonic()
                    if not math.isfinite(row["loss"]):
                        raise ValueError(
                            f"{self.name}: the loss is {row['loss']} at step {self.done}; "
                            f"lower the learning rate (now {config.learning_rate}) and start "
                            "again from the checkpoint"
                        )
                    columns = columns or ["step", "seconds", "rate", *names]
                    if self.done == first + 1:
                        writer.writerow(columns)
                    stats = {
                        "step": self.done,
                        "seconds": round(before + now - start, 1),
                        "rate": factor,
                        **row,
                    }
                    writer.writerow([stats.get(c, "") for c in columns])
                    file.flush()
                    if self.writes:
                        shown = " ".join(f"{k}={v:.4g}" for k, v in stats.items())
                        log.info("%s %.0f%% %s", self.name, 100 * self._progress(), shown)
                    window = []
                if now - last_save > config.checkpoint_seconds:
                    self.save()
                    last_save = time.monotonic()
                if self.sample and now - last_sample > config.sample_seconds:
                    self._with_average(lambda: self.sample(f"{self.name}_{self.done}"))
                    last_sample = time.monotonic()
        self.save()
        if self.average is not None:
            self.average.swap(self.parameters)
        if self.sample:
            self.sample(f"{self.name}_end")
        summary = {"steps": self.done, "seconds": self.spent, **row}
        save_json(self.folder / f"{self.name}.json", summary)
        return summary

    def _with_average(self, call: Callable[[], None]) -> None:
        if self.average is not None:
            self.average.swap(self.parameters)
        call()
        if self.average is not None:
            self.average.swap(self.parameters)
