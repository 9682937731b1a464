"""References in the host's conditioning.

The latents go into the stock key `reference_latents`, so that the host scales, counts and moves
them. Beside them a model condition tells the pass. It is part of the conditioning itself, so every
guider keeps it, and as an unequal constant it keeps the host from running both passes as one batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import comfy.conds
import node_helpers

from ..method.strength import ReferenceStrength
from ..method.trimming import Trimmed, trimmed
from ..reference import Reference
from .notices import notify

PASS_KEY = "refany3d_pass"
"""Keyword under which the pass reaches the transformer."""

_T5_WIDTH, _T5_TOKENS = 4096, 512
"""FLUX's text tokens: their width, and how many the published code trains and samples with."""


class Pass(NamedTuple):
    """Which pass a conditioning is for.

    Attributes:
        black_copies: 0 in the conditional pass, else how many pairs the black one stands for.
        references: how many reference latents belong to it.
        strength: how much they count, in the conditional pass.
        trimmed: which tokens of the references stay.
    """

    black_copies: int
    references: int
    strength: ReferenceStrength = ReferenceStrength()
    trimmed: Trimmed = Trimmed()


class PassCondition(comfy.conds.CONDConstant):
    """A Pass in the host's conditioning, refused where no patched MODEL prepared the run."""

    prepared: set[int] = set()
    """The patches whose runs are under way, by id."""

    def process_cond(self, batch_size: int, **kwargs: Any) -> PassCondition:
        if not self.prepared:
            raise ValueError(
                "this conditioning has RefAny3D references, but the sampler's model is not patched "
                "by RefAny3D, or another node took the patch off; connect the 'model' output of "
                "Apply RefAny3D"
            )
        return super().process_cond(batch_size, **kwargs)


def pass_of(cond: dict[str, Any]) -> Pass | None:
    """The pass that one of the host's conditionings is for; None: it is not RefAny3D's."""
    condition = cond.get("model_conds", {}).get(PASS_KEY)
    return condition.cond if condition is not None else None


Conditioning = list[tuple[Any, dict[str, Any]]]


def with_references(
    positive: Conditioning,
    reference: Reference,
    strength: ReferenceStrength = ReferenceStrength(),
    trim: bool = False,
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative conditioning of the method, from the prompt's conditioning.

    Args:
        positive: the prompt, as a text encoder node gives it.
        reference: n encoded reference pairs.
        strength: how much they count.
        trim: leave out the references' tokens that do not show the object.

    Returns:
        (positive, negative): the same prompt with the 2n references, and with one black pair.

    Raises:
        ValueError: the conditioning already carries reference latents, or there are weights for
            another number of views.
    """
    if any(options.get("reference_latents") for _, options in positive):
        raise ValueError(
            "'positive' already carries reference latents (of a Reference Latent, Kontext or other "
            "RefAny3D node); connect the text prompt without them"
        )
    _check_length(positive)
    views = list(reference.view_latents.split(1)) + list(reference.point_map_latents.split(1))
    black = [reference.empty_latent, reference.empty_latent]
    copies = len(reference.view_latents)
    strength.weights(copies, 1.0)
    kept = Trimmed()
    if trim and reference.object_tokens is None:
        notify(
            "trim_references has no effect: this reference does not say where its object is; make "
            "it again with Point Map Encode"
        )
    elif trim and reference.object_tokens is not None:
        kept = trimmed(reference.object_tokens)
    conditional = Pass(0, len(views), strength, kept)
    return _attach(positive, views, conditional), _attach(positive, black, Pass(copies, len(black)))


def _attach(prompt: Conditioning, latents: list, kind: Pass) -> Conditioning:
    condition = PassCondition(kind)
    out = []
    for entry in prompt:
        conds = {**entry[1].get("model_conds", {}), PASS_KEY: condition}
        values = {"reference_latents": latents, "model_conds": conds}
        out += node_helpers.conditioning_set_values([entry], values)
    return out


def _check_length(positive: Conditioning) -> None:
    """Say when the prompt has fewer text tokens than the published code's (METHOD fact 56)."""
    shapes = [tokens.shape for tokens, _ in positive if tokens is not None]
    short = [length for *_, length, width in shapes if width == _T5_WIDTH and length < _T5_TOKENS]
    if short:
        notify(
            f"the prompt has {min(short)} T5 tokens, RefAny3D was trained with {_T5_TOKENS}; put "
            f"T5 Tokenizer Options with min_length {_T5_TOKENS} between the CLIP loader and the "
            "text encoder"
        )
