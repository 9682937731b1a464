"""Reference tokens that show the object; not exact, so opt-in.

Most tokens of a rendered view are white paper around the object. Those of the object and a ring
around it stay, and a few white ones, evenly spaced, that stand for all of them: their keys count as
often as there are white tokens. Left out without that, or kept without the weight, the paper's
part of the attention goes to the object, which then fills the picture (benchmarks/README.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, max_pool2d

RING, STAND_INS = 1, 8
"""Tokens around the object that stay; white tokens a view that stand for the rest, on average."""


class Trimmed(NamedTuple):
    """Which tokens of the reference views stay.

    Attributes:
        tokens: their numbers by view, the stand-ins last; () where all stay.
        stand_ins: how many of them are stand-ins, by view.
        weight: how many white tokens a stand-in counts for.
    """

    tokens: tuple[tuple[int, ...], ...] = ()
    stand_ins: tuple[int, ...] = ()
    weight: float = 1.0

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens stay, by view."""
        return tuple(len(view) for view in self.tokens)


def object_tokens(point_maps: Tensor, token_pixels: int) -> Tensor:
    """Which tokens show the object: bool [n, H / token_pixels, W / token_pixels].

    Args:
        point_maps: [n, H, W, 3] in 0..1 on exactly white paper, as they are rendered.
        token_pixels: pixels a side of one token.
    """
    shown = (point_maps[..., :3] < 1).any(-1)
    size = [side // token_pixels for side in shown.shape[1:]]
    return adaptive_max_pool2d(shown[:, None].float(), size)[:, 0] > 0


def trimmed(objects: Tensor, ring: int = RING, stand_ins: int = STAND_INS) -> Trimmed:
    """The tokens that stay.

    Args:
        objects: bool [n, rows, columns], the tokens that show the object.
        ring: how many tokens around them stay.
        stand_ins: white tokens that stay in a view, on average over the views; each view gets them
            by how white it is, so that one weight serves all.
    """
    near = max_pool2d(objects[:, None].float(), 2 * ring + 1, 1, ring)[:, 0].flatten(1).cpu() > 0
    white = (~near).sum(1).tolist()
    weight = max(1.0, sum(white) / (stand_ins * len(white)))
    tokens, counts = [], []
    for view, total in zip(near, white):
        count = min(total, max(1, round(total / weight)))
        paper = (~view).nonzero()[:, 0]
        spaced = paper[((torch.arange(count) + 0.5) * total / max(count, 1)).long()]
        tokens.append(tuple(view.nonzero()[:, 0].tolist() + spaced.tolist()))
        counts.append(count)
    return Trimmed(tuple(tokens), tuple(counts), sum(white) / max(1, sum(counts)))
