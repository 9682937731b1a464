"""What a run needs beside the weights, told to the host in its own terms.

The host estimates memory from the area of the latents, with a factor for each model. Our pass
needs less than that: one pass at a time, one black pair in the negative, grouped attention.
"""

from __future__ import annotations

import math
from typing import Any

import comfy.model_base

from .conditioning import pass_of

_MAIN_TENSORS, _REFERENCE_TENSORS = 17.1, 12.4
"""Peak of a pass in numbers per token and channel, for text and targets and for references.

Fitted to passes of 3072 to 18944 tokens at FLUX's width, each within 8 % (benchmarks/README.md).
"""


def working_bytes(hidden: int, batch: int, target: int, conds: dict[str, list], size: int) -> int:
    """Bytes that the larger pass needs at its peak.

    Args:
        hidden: width of the transformer.
        batch: pictures in the run.
        target: tokens of both targets.
        conds: the run's conditionings by name.
        size: bytes of one number of the computing dtype.
    """
    numbers = 0.0
    for cond in (c for cs in conds.values() for c in cs if "cross_attn" in c):
        main = cond["cross_attn"].shape[1] + target
        references = reference_tokens(cond)
        numbers = max(numbers, _MAIN_TENSORS * main + _REFERENCE_TENSORS * references)
    return int(numbers * batch * hidden * size)


def reference_tokens(cond: dict[str, Any]) -> int:
    """Tokens of the references of one conditioning."""
    kind = pass_of(cond)
    if kind is not None and kind.trimmed.tokens:
        return 2 * sum(kind.trimmed.lengths)
    return sum(math.prod(x.shape[-2:]) // 4 for x in cond.get("reference_latents", ()))


def shape_that_needs(wanted: int, base: comfy.model_base.BaseModel, channels: int) -> list[int]:
    """A latent shape for which the host estimates the wanted bytes."""
    unit = base.memory_required([1, channels, 1, 1])
    return [1, channels, 1, max(1, round(wanted / unit))]
