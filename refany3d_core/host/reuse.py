"""Keys and values of references, kept between the steps of one run.

A ModelPatcher owns them, so that the host counts them before the run and can move them off the
device. They are kept by conditioning, and dropped when the run ends or is interrupted.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor, nn

from ..method.approximation import Approximation
from .memory import reference_tokens

BlockKey = tuple[str, int]
"""Kind ("double" or "single") and index of a block."""
KeysValues = tuple[Tensor, Tensor]


class StoredReferences:
    """Keys and values of the references of one pass by block, [B, heads, tokens, head_dim] each.

    Args:
        step: index of the sampling step that computes them.
        device: where to keep them; None: where they are.
        dtype: as what to keep them; None: as they are.
    """

    def __init__(
        self,
        step: int = 0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.step = step
        self._device, self._dtype = device, dtype
        self._blocks: dict[BlockKey, KeysValues] = {}

    def store(self, block: BlockKey, k: Tensor, v: Tensor) -> None:
        """Keep a block's keys and values; copies, so that the whole sequence's can be freed."""
        device, dtype = self._device or k.device, self._dtype or k.dtype
        kept = [torch.empty(x.shape, device=device, dtype=dtype).copy_(x) for x in (k, v)]
        self._blocks[block] = (kept[0], kept[1])

    def load(self, block: BlockKey, like: Tensor) -> KeysValues:
        """A block's keys and values in the dtype and on the device of `like`."""
        k, v = self._blocks[block]
        return k.to(like), v.to(like)

    def move(self, function: Any) -> None:
        """Apply a tensor function, such as a move to another device, to everything kept."""
        self._blocks = {key: (function(k), function(v)) for key, (k, v) in self._blocks.items()}


class ReferenceCache(nn.Module):
    """What is kept of one run.

    Args:
        approximation: how often to recompute, and where and as what to keep the tensors.
    """

    def __init__(self, approximation: Approximation) -> None:
        super().__init__()
        self._every = approximation.reference_reuse
        self._device = torch.device("cpu") if approximation.ram_storage else None
        self._dtype = torch.float8_e4m3fn if approximation.fp8_storage else None
        self._passes: dict[Hashable, StoredReferences] = {}
        self.patcher = comfy.model_patcher.ModelPatcher(
            self,
            load_device=self._device or comfy.model_management.get_torch_device(),
            offload_device=torch.device("cpu"),
        )
        self.patcher.cached_patcher_init = (_patcher_of_new_cache, (approximation,))

    def _apply(self, fn: Any, recurse: bool = True) -> ReferenceCache:
        for stored in self._passes.values():
            stored.move(fn)
        return super()._apply(fn, recurse)

    def look_up(self, key: Hashable, step: int) -> tuple[StoredReferences, bool]:
        """What is kept for a conditioning, and whether this step has to compute it anew."""
        stored = self._passes.get(key)
        if stored is not None and 0 <= step - stored.step < self._every:
            return stored, False
        self._passes[key] = StoredReferences(step, self._device, self._dtype)
        return self._passes[key], True

    def clear(self) -> None:
        """Free everything."""
        self._passes.clear()

    def expected_bytes(
        self, blocks: int, hidden: int, batch: int, conds: dict[str, list], dtype: torch.dtype
    ) -> int:
        """Bytes that a run will keep.

        Args:
            blocks: number of the transformer's blocks.
            hidden: width of the keys of all heads together.
            batch: pictures in the run.
            conds: the run's conditionings by name.
            dtype: computing dtype.
        """
        tokens = sum(reference_tokens(cond) for cs in conds.values() for cond in cs)
        return 2 * blocks * batch * tokens * hidden * (self._dtype or dtype).itemsize


def _patcher_of_new_cache(
    approximation: Approximation, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    return ReferenceCache(approximation).patcher


def sampling_step(transformer_options: dict[str, Any]) -> int:
    """Index of the current step among the run's noise levels, as the host's samplers name them."""
    levels, current = transformer_options["sample_sigmas"], transformer_options["sigmas"]
    return int((levels.to(current.device) - current[0]).abs().argmin())
