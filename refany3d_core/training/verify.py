"""Run a golden training set through the trainer's own path and compare, number by number.

A set holds inputs, draws and results of the published training step, and of optimiser steps of the
published loop (tests/data/golden_train/README.md). The weights are those of the inference set.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..host.train import TrainingForward, differentiable
from ..host.trainable import FILES, TrainableAdapters
from ..reference import LATENT_CHANNELS
from .checkpoint import load_tensors
from .config import RefAny3DConfig
from .loop import clip_and_step
from .objectives import Batch, refany3d_loss
from .optimizers import make_optimizers

CASE_LIMIT, TENSOR_LIMIT, RUN_LIMIT = 1e-5, 1e-4, 1e-3
"""Relative errors allowed: of loss and all gradients together, of one tensor's gradient, and of the
change of weights in an optimiser run."""

ZEROED_AT_START = ("lora_B.weight", "3.weight", "3.bias")


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        name: of the case or the optimiser run.
        text: what was found.
        passed: whether all errors are within the limits.
    """

    name: str
    text: str
    passed: bool


def load_transformer(weights: Path) -> torch.nn.Module:
    """The set's base as the host's Flux, in float32.

    Raises:
        ValueError: the folder lacks a file.
    """
    import comfy.sd

    names = ["flux.safetensors", *(f"{file}.safetensors" for file in FILES)]
    missing = [name for name in names if not (weights / name).is_file()]
    if missing:
        raise ValueError(f"'{weights}' has no {', '.join(missing)}")
    patcher = comfy.sd.load_diffusion_model(
        str(weights / "flux.safetensors"), model_options={"dtype": torch.float32}
    )
    return patcher.model.diffusion_model.requires_grad_(False)


def verify(
    folder: Path,
    weights: Path,
    gradient_checkpointing: bool = False,
    transformer: torch.nn.Module | None = None,
    optimisers: bool = True,
) -> Iterator[Line]:
    """Compare every case and every optimiser run of a set.

    Args:
        folder: the set.
        weights: the inference set with the weights.
        gradient_checkpointing: whether blocks run again in the backward pass.
        transformer: another base than that of `weights`, on which cases are run.
        optimisers: also run the optimiser runs.

    Raises:
        ValueError: a file is missing.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"'{folder}' is no golden training set: it has no config.json")
    config = json.loads((folder / "config.json").read_text())
    golden = _Golden(folder, weights, config, gradient_checkpointing, transformer)
    for name in config["cases"]:
        yield golden.case(name)
    for name in config["optimisers"] if optimisers else ():
        yield golden.run(name)


class _Golden:
    def __init__(
        self,
        folder: Path,
        weights: Path,
        config: dict,
        gradient_checkpointing: bool,
        transformer: torch.nn.Module | None,
    ) -> None:
        self.folder, self.config = folder, config
        self.inputs = load_tensors(folder / "inputs.safetensors")
        self.expected = load_tensors(folder / "expected.safetensors")
        self.transformer = transformer or load_transformer(weights)
        self.published = {file: load_tensors(weights / f"{file}.safetensors") for file in FILES}
        self.checkpointing = gradient_checkpointing

    def adapters(self, state: str) -> TrainableAdapters:
        adapters = TrainableAdapters(self.transformer, self.config["rank"])
        adapters.load_published(self.published)
        if state == "start":
            with torch.no_grad():
                for name, tensor in adapters.named_trained().items():
                    if name.endswith(ZEROED_AT_START):
                        tensor.zero_()
        return adapters

    def latents(self, tokens: Tensor) -> Tensor:
        """Packed tokens [..., side^2, 64], features (c ph pw), as latents [..., 16, h, w]."""
        side = self.config["side"]
        *lead, _, _ = tokens.shape
        grid = tokens.float().reshape(*lead, side, side, LATENT_CHANNELS, 2, 2)
        n = len(lead)
        grid = grid.permute(*range(n), n + 2, n, n + 3, n + 1, n + 4)
        return grid.reshape(*lead, LATENT_CHANNELS, 2 * side, 2 * side)

    def batch(self, case: dict) -> Batch:
        data, rows = self.inputs, case["rows"]
        numbers = [row["sample"] for row in rows]
        pair = lambda kind: torch.stack(
            [self.latents(data[f"{domain}_tokens" if not kind else f"{kind}_{domain}"][numbers])
             for domain in ("rgb", "pm")], 1
        )  # fmt: skip
        n = case["n_view"]
        views = self.latents(data["view_tokens"][numbers])
        # per sample: all RGB views of the set, then all maps; the case uses the first n of each
        half = views.shape[1] // 2
        references = torch.stack([views[:, :n], views[:, half : half + n]], 1)
        black = self.latents(data["black_tokens"])[0]
        context, pooled = data["prompt_embeds"][numbers].clone(), data["pooled"][numbers].clone()
        for i, row in enumerate(rows):
            if row["references_dropped"]:
                references[i] = black
            if row["text_dropped"]:
                context[i], pooled[i] = data["empty_prompt_embeds"][0], data["empty_pooled"][0]
        t = data["t_normal"][numbers].float().sigmoid()
        return Batch(pair(""), references, context.float(), pooled.float(), t, pair("noise"))

    def step(self, adapters: TrainableAdapters, case: dict) -> Tensor:
        """The loss, after the backward pass."""
        forward = TrainingForward(
            self.transformer, adapters, gradient_checkpointing=self.checkpointing
        )
        with differentiable(self.transformer):
            loss, _ = refany3d_loss(forward, self.batch(case), torch.float32)
            loss.backward()
        return loss.detach()

    def case(self, name: str) -> Line:
        case = self.config["cases"][name]
        adapters = self.adapters(case["state"])
        loss = self.step(adapters, case)
        wanted = self.expected[f"{name}.loss"].float()
        loss_error = float((loss - wanted).abs() / wanted.abs())
        expected = load_tensors(self.folder / f"grads_{name}.safetensors")
        off, size, worst = 0.0, 0.0, (0.0, "none")
        for key, tensor in adapters.named_trained().items():
            grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            truth = expected.get(key)
            truth = torch.zeros_like(grad) if truth is None else truth.float()
            off += float((grad - truth).double().square().sum())
            size += float(truth.double().square().sum())
            norm = float(truth.norm())
            error = float((grad - truth).norm()) / norm if norm else float(grad.norm())
            worst = max(worst, (error, key))
        gradient_error = (off / size) ** 0.5
        unknown = set(expected) - set(adapters.named_trained())
        passed = (
            loss_error <= CASE_LIMIT
            and gradient_error <= CASE_LIMIT
            and worst[0] <= TENSOR_LIMIT
            and not unknown
        )
        text = (
            f"loss {loss_error:.1e}, gradients {gradient_error:.1e}, "
            f"worst tensor {worst[0]:.1e} ({worst[1]})"
        )
        return Line(name, text, passed)

    def run(self, name: str) -> Line:
        """An optimiser run, by the loop's own step."""
        settings = self.config["optimisers"][name]
        case = self.config["cases"][settings["case"]]
        adapters = self.adapters(case["state"])
        named = adapters.named_trained()
        before = {key: tensor.detach().clone() for key, tensor in named.items()}
        given = settings["given"]
        stage = dataclasses.replace(
            RefAny3DConfig(),
            optimizer=settings["type"].lower(),
            learning_rate=float(given["lr"]),
            weight_decay=given["weight_decay"],
            clip=settings["clip_norm"],
        )
        optimizers = make_optimizers(stage, named)
        for _ in range(settings["steps"]):
            self.step(adapters, case)
            clip_and_step(list(named.values()), optimizers, stage.clip)
        after = load_tensors(self.folder / f"weights_after_{name}.safetensors")
        off = size = 0.0
        for key, tensor in named.items():
            truth = after[key].float() - before[key]
            off += float((tensor.detach() - before[key] - truth).double().square().sum())
            size += float(truth.double().square().sum())
        error = (off / size) ** 0.5
        return Line(name, f"change of weights {error:.1e}", error <= RUN_LIMIT)


def print_lines(lines: Iterator[Line], say: Callable[[str], None]) -> bool:
    """Say a line for each comparison; True if all passed."""
    passed = True
    for line in lines:
        say(f"{line.name}: {line.text}{'' if line.passed else '  TOO LARGE'}")
        passed = passed and line.passed
    return passed
