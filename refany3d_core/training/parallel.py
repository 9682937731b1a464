"""One process, or those that a launcher started: equal models, averaged gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Workers:
    """The processes of a run, started by `accelerate launch` or torchrun on one or many machines.

    Every process holds the whole model, draws its own samples and takes the same step, since all
    use the mean of their gradients.

    Args:
        device: where this run trains; only its type counts, each process has its own device.

    Raises:
        ValueError: started by a launcher, but Accelerate is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        self._accelerator = None
        self.device = device
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError as e:
                raise ValueError(
                    "several processes need the package accelerate: pip install accelerate"
                ) from e
            self._accelerator = Accelerator(cpu=device.type == "cpu")
            self.device = self._accelerator.device

    @property
    def index(self) -> int:
        """Which process this is; 0 is the one that writes files."""
        return self._accelerator.process_index if self._accelerator else 0

    def average(self, parameters: list[Tensor], seconds: float) -> float:
        """Put the mean of all processes' gradients in place; returns the mean of `seconds`.

        The time goes along so that all processes end in the same step.
        """
        if self._accelerator is None:
            return seconds
        grads = [p.grad for p in parameters if p.grad is not None]
        last = torch.tensor([seconds], device=grads[0].device)
        flat = torch.cat([*(g.flatten().float() for g in grads), last])
        flat = self._accelerator.reduce(flat, "mean")
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()
        return float(flat[-1])

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the body before the others start it."""
        if self._accelerator is None:
            yield
            return
        with self._accelerator.main_process_first():
            yield
