"""What a training run takes in memory, said before it starts.

Constants are measured (benchmarks/training_memory.py): numbers that autograd keeps for each token
and channel of a block, by counting the bytes of all saved tensors.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.ldm.flux.model import Flux
from torch import Tensor

from ..host.trainable import published_sizes
from .config import RefAny3DConfig

log = logging.getLogger(__name__)

SAVED_IN_BLOCK = 29.0
"""Numbers per token and channel that one block keeps for its backward pass (28.6 a double block,
25.7 a single one), attention by a kernel that keeps no matrix of weights."""
SAVED_BETWEEN = 1.0
"""The same for a checkpointed block: its input."""
WORKING = 17.0
"""Temporaries of a running block, per token and channel (host.memory)."""
STATE_NUMBERS = {"prodigy": 4, "adamw": 2, "muon": 1}
"""Numbers that an optimiser keeps of each trained one."""
EMBEDDER_INPUT = 256

GIB = 2**30


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes by part.

    Attributes:
        weights: the frozen base.
        trained: adapters, their gradients and optimiser state, the average.
        activations: what autograd keeps, at the peak.
    """

    weights: int
    trained: int
    activations: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.trained + self.activations

    def sentence(self) -> str:
        """For the log and for messages."""
        return (
            f"{self.total / GIB:.1f} GiB: weights {self.weights / GIB:.1f}, adapters with "
            f"gradients and optimiser {self.trained / GIB:.1f}, activations "
            f"{self.activations / GIB:.1f}"
        )


def trained_numbers(sizes: dict[str, tuple[int, int]], rank: int, hidden: int) -> int:
    """Trained numbers of two LoRAs and the domain embedder."""
    pairs = sum(rank * (inputs + outputs) for inputs, outputs in sizes.values())
    return 2 * pairs + 2 * EMBEDDER_INPUT + EMBEDDER_INPUT * hidden + hidden + hidden**2 + hidden


def estimate(
    weights: int,
    trained: int,
    blocks: int,
    hidden: int,
    tokens: int,
    config: RefAny3DConfig,
    itemsize: int,
) -> TrainingMemory:
    """Memory of a run.

    Args:
        weights: bytes of the base.
        trained: trained numbers.
        blocks: of the transformer.
        hidden: its width.
        tokens: of the joint sequence of one sample.
        config: batch, checkpointing, optimiser, average.
        itemsize: bytes of one number of the computing dtype.
    """
    a_block = config.batch * tokens * hidden * itemsize
    if config.gradient_checkpointing:
        activations = a_block * (blocks * SAVED_BETWEEN + SAVED_IN_BLOCK + WORKING)
    else:
        activations = a_block * (blocks * SAVED_IN_BLOCK + WORKING)
    kept = 2 + STATE_NUMBERS[config.optimizer] + bool(config.ema)
    return TrainingMemory(weights, 4 * kept * trained, int(activations))


def check_memory(
    transformer: Flux,
    config: RefAny3DConfig,
    size: tuple[int, int],
    views: Tensor,
    text: tuple[Tensor, Tensor],
    dtype: torch.dtype,
) -> TrainingMemory:
    """Say what the run will take, and refuse what cannot fit.

    Args:
        transformer: the base.
        config: the recipe.
        size: latent height and width of a target.
        views: latents of an asset's references [2, n, 16, h, w].
        text: an encoded caption.
        dtype: of the computation.

    Raises:
        ValueError: the device has less memory; says what would help.
    """
    patch = transformer.patch_size**2
    references = views.shape[0] * views.shape[1] * views.shape[-1] * views.shape[-2] // patch
    tokens = len(text[0]) + 2 * size[0] * size[1] // patch + references
    numbers = trained_numbers(published_sizes(transformer), config.rank, transformer.hidden_size)
    if config.train_base:
        numbers += sum(p.numel() for p in transformer.parameters())
    need = estimate(
        sum(p.numel() * p.element_size() for p in transformer.parameters()),
        numbers,
        len(transformer.double_blocks) + len(transformer.single_blocks),
        transformer.hidden_size,
        tokens,
        config,
        dtype.itemsize,
    )
    device = comfy.model_management.get_torch_device()
    there = comfy.model_management.get_total_memory(device)
    log.info("training takes about %s; %s has %.1f GiB", need.sentence(), device, there / GIB)
    if need.total > there:
        remedies = ["fewer views", "an fp8 base (weight_dtype)"]
        if config.batch > 1:
            remedies.insert(0, "a smaller batch with accumulation")
        if not config.gradient_checkpointing:
            remedies.insert(0, "gradient_checkpointing = true")
        raise ValueError(
            f"training takes about {need.sentence()}; {device} has {there / GIB:.1f} GiB. Try "
            f"{', '.join(remedies)}"
        )
    return need
