"""Reference tokens that show the object; not exact, so opt-in.

Most tokens of a rendered view are white paper around the object. Those of the object and a ring
around it stay, and a few white ones, evenly spaced, that stand for the rest: without any, text and
targets would miss the part of their attention that they learned to leave there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, max_pool2d

RING, WHITE = 1, 8
"""Tokens around the object, and white tokens a view, that stay (docs/evidence.md: measured)."""

Kept = tuple[tuple[int, ...], ...]
"""Numbers of the tokens that stay, by view; () where all do."""


def object_tokens(point_maps: Tensor, token_pixels: int) -> Tensor:
    """Which tokens show the object: bool [n, H / token_pixels, W / token_pixels].

    Args:
        point_maps: [n, H, W, 3] in 0..1 on exactly white paper, as they are rendered.
        token_pixels: pixels a side of one token.
    """
    shown = (point_maps[..., :3] < 1).any(-1)
    size = [side // token_pixels for side in shown.shape[1:]]
    return adaptive_max_pool2d(shown[:, None].float(), size)[:, 0] > 0


def kept_tokens(objects: Tensor, ring: int = RING, white: int = WHITE) -> Kept:
    """Numbers of the tokens of each view that stay, row by row.

    Args:
        objects: bool [n, rows, columns], the tokens that show the object.
        ring: how many tokens around them stay.
        white: how many of the others stay.
    """
    near = max_pool2d(objects[:, None].float(), 2 * ring + 1, 1, ring)[:, 0].flatten(1) > 0
    kept = []
    for view in near.cpu():
        paper = (~view).nonzero()[:, 0]
        count = min(white, len(paper))
        spaced = ((torch.arange(count) + 0.5) * len(paper) / max(count, 1)).long()
        view[paper[spaced]] = True
        kept.append(tuple(view.nonzero()[:, 0].tolist()))
    return tuple(kept)
