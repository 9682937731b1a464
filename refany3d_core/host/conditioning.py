"""References in the host's conditioning.

The latents go into the stock key `reference_latents`, so that the host scales, counts and moves
them.
Beside them a model condition tells the pass: 0 in the positive, the number of black pairs that the
one pair stands for in the negative. It is part of the conditioning itself, so every guider keeps
it, and as an unequal constant it keeps the host from running both passes as one batch.
"""

from __future__ import annotations

from typing import Any

import comfy.conds
import node_helpers

from ..reference import Reference

PASS_KEY = "refany3d_black_copies"
"""Keyword under which the pass reaches the transformer."""

Conditioning = list[tuple[Any, dict[str, Any]]]


def with_references(
    positive: Conditioning, reference: Reference
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative conditioning of the method, from the prompt's conditioning.

    Args:
        positive: the prompt, as a text encoder node gives it.
        reference: n encoded reference pairs.

    Returns:
        (positive, negative): the same prompt with the 2n references, and with one black pair.

    Raises:
        ValueError: the conditioning already carries reference latents.
    """
    if any(options.get("reference_latents") for _, options in positive):
        raise ValueError(
            "Apply RefAny3D: 'positive' already carries reference latents (of a Reference Latent, "
            "Kontext "
            "or other RefAny3D node); connect the text prompt without them"
        )
    views = list(reference.view_latents.split(1)) + list(reference.point_map_latents.split(1))
    black = [reference.empty_latent, reference.empty_latent]
    copies = len(reference.view_latents)
    return _attach(positive, views, 0), _attach(positive, black, copies)


def _attach(prompt: Conditioning, latents: list, copies: int) -> Conditioning:
    out = []
    for entry in prompt:
        conds = {**entry[1].get("model_conds", {}), PASS_KEY: comfy.conds.CONDConstant(copies)}
        values = {"reference_latents": latents, "model_conds": conds}
        out += node_helpers.conditioning_set_values([entry], values)
    return out
