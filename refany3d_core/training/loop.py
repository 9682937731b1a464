"""The optimisation loop that all stages share."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .checkpoint import load_metadata, load_tensors, save_json, save_tensors
from .config import StageConfig
from .optimizers import (
    Optimizer,
    load_optimizer_state,
    make_optimizers,
    optimizer_state,
    rate_factor,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Step = Callable[[int], tuple[Tensor, Mapping[str, Tensor]]]
"""step(i) runs pass i of all passes of all processes, back-propagates its loss, and gives it with
named values for the log; no value may force a synchronisation."""


def make_accelerator(device: torch.device | str = "") -> Accelerator:
    """The processes of this run, as `accelerate launch` or torchrun started them; one otherwise.

    Args:
        device: "cpu" or "cuda"; "" takes CUDA when there is one.

    Raises:
        ValueError: Accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
    except ImportError as e:
        raise ValueError("training needs the package accelerate: pip install accelerate") from e
    cpu = torch.device(device).type == "cpu" if device else not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no")


def clip_and_step(
    parameters: Sequence[Tensor], optimizers: Sequence[Optimizer], clip: float
) -> Tensor:
    """One optimiser step on the gradients that are there, clipped to one norm over all tensors
    (METHOD fact 51). A tensor without a gradient has one of zero: decay still acts on it (fact 53).

    Returns:
        The norm before clipping.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm


def average_gradients(accelerator: Accelerator, parameters: Sequence[Tensor]) -> None:
    """Put the mean of all processes' gradients in place, in one reduction in the order given."""
    if accelerator.num_processes == 1:
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten().float() for g in grads]), "mean")
    start = 0
    for parameter, grad in zip(parameters, grads):
        stop = start + grad.numel()
        parameter.grad = flat[start:stop].view_as(grad).to(grad.dtype)
        start = stop


@dataclass
class Average:
    """A moving average of parameters, kept in float32."""

    decay: float
    values: list[Tensor]

    @torch.no_grad()
    def update(self, parameters: list[Tensor], step: int) -> None:
        """Move towards the parameters; faster at the start, where they change most."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, parameters, 1 - decay)

    @torch.no_grad()
    def swap(self, parameters: list[Tensor]) -> None:
        """Exchange the average and the parameters in place."""
        for value, parameter in zip(self.values, parameters):
            kept = parameter.clone()
            parameter.copy_(value)
            value.copy_(kept)


class Interrupted(Exception):
    """The user stopped the run: `watch` or `sample` raise it, and the loop writes a checkpoint."""


class Loop:
    """Trains tensors by `step` until the stage's budget is spent.

    Args:
        name: of the stage, for files and the log.
        config: budget, optimiser and intervals.
        named: what is trained, in the same order in every process (METHOD fact 55).
        step: see Step.
        folder: where `NAME.resume.safetensors`, `NAME.csv` and the TensorBoard log go.
        accelerator: the processes that train together.
        sample: called now and then with the averaged tensors in place, in the first process.
        watch: called after every step with (steps done, steps in all, loss); it may raise
            Interrupted, and then a checkpoint is written first.
        made_of: what the run is made of; a checkpoint of another run is refused.
    """

    def __init__(
        self,
        name: str,
        config: StageConfig,
        named: Mapping[str, Tensor],
        step: Step,
        folder: Path,
        accelerator: Accelerator,
        sample: Callable[[str], None] | None = None,
        watch: Callable[[int, int, float], None] | None = None,
        made_of: str = "",
    ) -> None:
        self.name, self.config, self.step, self.folder = name, config, step, folder
        self.accelerator, self.watch, self.made_of = accelerator, watch, made_of
        self.writes = accelerator.is_main_process
        self.sample = sample if self.writes else None
        self.named = dict(named)
        self.parameters = list(self.named.values())
        self.optimizers = make_optimizers(config, self.named)
        self.average = None
        if config.ema:
            self.average = Average(config.ema, [p.detach().clone() for p in self.parameters])
        self.done, self.spent = 0, 0.0

    @property
    def _resume_path(self) -> Path:
        return self.folder / f"{self.name}.resume.safetensors"

    def save(self) -> None:
        """Write everything needed to go on, as one file."""
        if not self.writes:
            return
        tensors = {f"parameter.{n}": p for n, p in self.named.items()}
        if self.average is not None:
            tensors |= {f"average.{n}": v for n, v in zip(self.named, self.average.values)}
        state, plain = optimizer_state(self.optimizers, self.named)
        tensors |= {f"optimizer.{key}": value for key, value in state.items()}
        metadata = {
            "step": str(self.done),
            "seconds": repr(self.spent),
            "optimizers": json.dumps(plain),
            "made_of": self.made_of,
        }
        save_tensors(self._resume_path, tensors, metadata)

    def resume(self) -> bool:
        """Go on from a saved file, if there is one; True if there was.

        Raises:
            ValueError: it is the checkpoint of another run.
        """
        if self.writes:  # what a killed process left half-written
            for stale in self.folder.glob(f"{self._resume_path.name}.*.part"):
                stale.unlink()
        if not self._resume_path.exists():
            return False
        metadata, tensors = load_metadata(self._resume_path), load_tensors(self._resume_path)
        missing = [n for n in self.named if f"parameter.{n}" not in tensors]
        if missing or metadata.get("made_of", "") != self.made_of:
            raise ValueError(
                f"{self._resume_path} is the checkpoint of another run ({self.made_of!r} wanted, "
                f"{metadata.get('made_of', '')!r} found); choose another folder, or delete it"
            )
        with torch.no_grad():
            for i, (n, p) in enumerate(self.named.items()):
                p.copy_(tensors[f"parameter.{n}"])
                if self.average is not None:
                    kept = tensors.get(f"average.{n}", tensors[f"parameter.{n}"])
                    self.average.values[i].copy_(kept)
        prefix = "optimizer."
        state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        plain = json.loads(metadata["optimizers"])
        load_optimizer_state(self.optimizers, self.named, state, plain)
        self.done, self.spent = int(metadata["step"]), float(metadata["seconds"])
        return True

    def _progress(self) -> float:
        by_time = self.spent / self.config.seconds if self.config.seconds else 0.0
        return max(self.done / self.config.steps, by_time)

    def run(self) -> dict[str, float]:
        """Train to the end of the budget; the averaged tensors are in place afterwards.

        Raises:
            ValueError: the loss is not finite; the last checkpoint is from before.
            Interrupted: by `watch` or `sample`, after a checkpoint.
        """
        config, writer = self.config, _Log(self)
        last_save = last_sample = time.monotonic()
        window: list[dict[str, Tensor]] = []
        first = self.done
        row: dict[str, float] = {}
        try:
            while self._progress() < 1:
                began = time.monotonic()
                values = self._step()
                window.append(values)
                self.spent += self._longest(time.monotonic() - began)
                if self.done % config.log_every == 0 or self.done == first + 1:
                    names = sorted({k for w in window for k in w})
                    means = {k: torch.stack([w[k] for w in window if k in w]).mean() for k in names}
                    row = {k: float(v) for k, v in means.items()}  # the only synchronisation
                    window = []
                    self._check(row["loss"])
                    writer.write(row)
                now = time.monotonic()
                steps = config.checkpoint_steps
                if now - last_save > config.checkpoint_seconds or steps and self.done % steps == 0:
                    self.save()
                    last_save = time.monotonic()
                if self.sample and config.sample_seconds:
                    if now - last_sample > config.sample_seconds:
                        self._with_average(lambda: self._show(f"{self.name}_{self.done}"))
                        last_sample = time.monotonic()
                if self.watch:
                    self.watch(self.done, config.steps, float(values["loss"]))
        except Interrupted:
            self.save()
            raise
        self.save()
        if self.average is not None:
            self.average.swap(self.parameters)
        if self.sample:
            self._show(f"{self.name}_end")
        summary = {"steps": self.done, "seconds": self.spent, **row}
        if self.writes:
            save_json(self.folder / f"{self.name}.json", summary)
        return summary

    def _step(self) -> dict[str, Tensor]:
        """One optimiser step of all processes."""
        config, processes = self.config, self.accelerator.num_processes
        factor = rate_factor(config, self.done, self._progress())
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
        parts: list[dict[str, Tensor]] = []
        for i in range(config.accumulation):
            number = (self.done * config.accumulation + i) * processes
            loss, values = self.step(number + self.accelerator.process_index)
            parts.append({"loss": loss.detach(), **{k: v.detach() for k, v in values.items()}})
        if config.accumulation > 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= config.accumulation
        average_gradients(self.accelerator, self.parameters)
        norm = clip_and_step(self.parameters, self.optimizers, config.clip)
        self.done += 1
        if self.average is not None:
            self.average.update(self.parameters, self.done)
        means = {k: torch.stack([p[k] for p in parts]).mean() for k in parts[0]}
        return {**means, "norm": norm}

    def _longest(self, seconds: float) -> float:
        """The same seconds in all processes, so that all end in the same step."""
        if self.accelerator.num_processes == 1 or not self.config.seconds:
            return seconds
        ours = torch.tensor([seconds], device=self.accelerator.device)
        return float(self.accelerator.gather(ours).max())

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise ValueError(
                f"{self.name}: the loss is {loss} at step {self.done}; lower the learning rate "
                f"(now {self.config.learning_rate}) and start again from the checkpoint"
            )

    def _show(self, name: str) -> None:
        if self.sample:
            self.sample(name)

    def _with_average(self, call: Callable[[], None]) -> None:
        if self.average is not None:
            self.average.swap(self.parameters)
        try:
            call()
        finally:
            if self.average is not None:
                self.average.swap(self.parameters)


class _Log:
    """Lines of a stage: a CSV that goes on after a resume, TensorBoard where it is installed, and
    the log."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.board: Any = None
        self.path = loop.folder / f"{loop.name}.csv"
        if not loop.writes:
            return
        loop.folder.mkdir(parents=True, exist_ok=True)
        self.columns = self._cut(loop.done)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(loop.folder / "tensorboard"), purge_step=loop.done)

    def _cut(self, done: int) -> list[str]:
        """Columns of the file that is there, whose lines after the resumed step are dropped."""
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            rows = list(csv.reader(file))
        if not rows:
            return []
        kept = [rows[0], *(r for r in rows[1:] if r and r[0].isdigit() and int(r[0]) <= done)]
        with open(self.path, "w", newline="") as file:
            csv.writer(file).writerows(kept)
        return rows[0]

    def write(self, row: Mapping[str, float]) -> None:
        """One line."""
        loop = self.loop
        if not loop.writes:
            return
        rate = loop.optimizers[0].param_groups[0]
        stats = {
            "step": loop.done,
            "seconds": round(loop.spent, 1),
            "rate": rate["lr"] * rate.get("d", 1.0),  # Prodigy's own estimate is d
            **row,
        }
        if not self.columns:
            self.columns = list(stats)
            with open(self.path, "w", newline="") as file:
                csv.writer(file).writerow(self.columns)
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow([stats.get(c, "") for c in self.columns])
        if self.board:
            for key, value in stats.items():
                self.board.add_scalar(f"{loop.name}/{key}", value, loop.done)
            self.board.flush()
        shown = " ".join(f"{k}={v:.4g}" for k, v in stats.items())
        log.info("%s %.0f%% %s", loop.name, 100 * loop._progress(), shown)
