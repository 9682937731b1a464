"""The host's one forward as a training pass: differentiable, checkpointed, on given adapters.

Core's blocks write into their inputs, which autograd has saved; so the inputs of the norms are
cloned, and a checkpointed block gets clones of its own (TRAINING facts 1 and 2 in
docs/training.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.model_management
import torch
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..method.branches import BranchLayout
from ..method.components import Components
from .reuse import StoredReferences
from .routing import Routing
from .trainable import TrainableAdapters
from .transformer import (
    BranchAttention,
    Inputs,
    predict,
    rotary_table,
    store_references,
)

_NORMS = ("img_norm1", "img_norm2", "txt_norm1", "txt_norm2", "pre_norm")


@contextmanager
def differentiable(transformer: Flux) -> Iterator[None]:
    """While the context lasts, the host's blocks can be differentiated. Holds over the backward
    pass too, where checkpointed blocks run again."""

    def clone_input(_: torch.nn.Module, args: tuple) -> tuple:
        return (args[0].clone(), *args[1:])

    before = comfy.model_management.in_training
    with ExitStack() as stack:
        for name, module in transformer.named_modules():
            if name.rpartition(".")[2] in _NORMS:
                stack.callback(module.register_forward_pre_hook(clone_input).remove)
        comfy.model_management.in_training = True
        try:
            yield
        finally:
            comfy.model_management.in_training = before


def training_attention(
    func: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any
) -> Tensor:
    """An attention override with gradients: the host's own choice may have none.

    On the CPU two plain products are three times faster than scaled_dot_product_attention at the
    small model's shapes (TRAINING fact 7).
    """
    if q.device.type != "cpu":
        return attention_pytorch(q, k, v, heads, **kwargs)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)


class TrainingForward:
    """The method's conditional pass with gradients.

    Args:
        transformer: the host's Flux, on the device that it trains on.
        adapters: what is trained.
        components: which parts of the method are on.
        gradient_checkpointing: run each block again in the backward pass: far less memory, a third
            more time.
    """

    def __init__(
        self,
        transformer: Flux,
        adapters: TrainableAdapters,
        components: Components = Components(),
        gradient_checkpointing: bool = False,
    ) -> None:
        self.transformer = transformer
        self.adapters = adapters
        self.components = components
        self.gradient_checkpointing = gradient_checkpointing
        self._rotary: dict[tuple, Tensor] = {}

    def __call__(self, inputs: Inputs, copies: int = 0) -> Tensor:
        """Velocity of both targets as a joint latent [B, 16, H, 2 W].

        Call it, and the backward pass, inside `differentiable`.

        Args:
            inputs: of B targets.
            copies: 0: references see text and targets, as published. K: the references are those of
                B / K assets, see only their own pair (METHOD fact 30), and each serves K targets in
                a row.
        """
        layout = inputs.layout(self.transformer.patch_size, self.components)
        key = (inputs.x.shape[-2:], inputs.references[0].shape[-2:], layout, inputs.x.device)
        if key not in self._rotary:
            self._rotary[key] = rotary_table(self.transformer, inputs, layout, self.components)
        rotary = self._rotary[key]
        layers, stored = self.adapters.layers(), StoredReferences()
        tokens = self.adapters.domain_tokens(inputs.x) if self.components.domain_token else None
        if copies:
            alone = replace(layout, text=1, target=0)
            rows = slice(None, None, copies)
            few = Inputs(
                inputs.x[rows], inputs.timestep[rows], inputs.context[rows],
                None if inputs.pooled is None else inputs.pooled[rows],
                None if inputs.guidance is None else inputs.guidance[rows], inputs.references,
            )  # fmt: skip
            write = partial(store_references, self.transformer, few, alone)
            table = torch.cat([rotary[:, :, :1], rotary[:, :, layout.main :]], dim=2)
            self._run(write, table, alone, layers, tokens, stored, write=True)
            stored.move(lambda x: x.repeat_interleave(copies, 0))
        run = partial(predict, self.transformer, inputs, layout)
        return self._run(run, rotary, layout, layers, tokens, stored, reuse=bool(copies))

    def _run(
        self,
        run: Callable,
        rotary: Tensor,
        layout: BranchLayout,
        layers: Any,
        domain_tokens: Tensor | None,
        stored: StoredReferences,
        write: bool = False,
        **options: bool,
    ) -> Any:
        attention = BranchAttention(
            layout, 0, self.components, write, training_attention, stored, write
        )
        routing = Routing(layers, layout, self.components)
        replaced = self._checkpointed(routing) if self.gradient_checkpointing else {}
        with routing.attached(self.transformer):
            return run(
                rotary, domain_tokens, attention, routing, **options,
                transformer_options={"patches_replace": {"dit": replaced}},
            )  # fmt: skip

    def _checkpointed(self, routing: Routing) -> dict[tuple[str, int], Callable]:
        """Replacements of all blocks that keep nothing but their inputs for the backward pass."""
        out: dict[tuple[str, int], Callable] = {}
        for kind, blocks in (
            ("double", self.transformer.double_blocks),
            ("single", self.transformer.single_blocks),
        ):
            for i in range(len(blocks)):
                out[f"{kind}_block", i] = partial(self._run_again, routing, f"{kind}_blocks.{i}.")
        return out

    def _run_again(self, routing: Routing, path: str, args: dict, extra: dict) -> dict:
        streams = [name for name in ("img", "txt") if name in args]
        # The caller goes on changing its options: keep those of this block.
        options = dict(args["transformer_options"])

        def run(vec: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
            own = {name: x.clone() for name, x in zip(streams, inputs)}
            again = {**args, **own, "vec": vec, "transformer_options": dict(options)}
            attached = routing.attached(self.transformer, path)
            with nullcontext() if routing.is_attached else attached:
                out = extra["original_block"](again)
            return tuple(out[name] for name in streams)

        inputs = [args[name] for name in streams]
        outputs = checkpoint(
            run, args["vec"], *inputs, use_reentrant=False, preserve_rng_state=False
        )
        return dict(zip(streams, outputs))
