"""Training triplets as pictures: an image, its caption, its point map, and views of its asset.

A `Source` makes them chunk by chunk: from the published layout (`published`), from shards on disk
(`shards`), or from the procedural world (`small.world`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TripletPictures:
    """A chunk of A assets in S scenes each, targets of one size.

    Attributes:
        views: uint8 [A, 2, n, 3, R, R], domain RGB then map.
        targets: uint8 [A, S, 2, 3, H, W], RGB then map.
        captions: S captions for each asset.
        kinds: a word or two for each asset.
    """

    views: Tensor
    targets: Tensor
    captions: list[list[str]]
    kinds: list[str]


@dataclass(frozen=True)
class Source:
    """Where triplets come from.

    Attributes:
        chunks: how many.
        make: gives chunk i; a pure function of i, so that several processes share the work.
        made_of: what the pictures depend on, as text: encodings of another are never used.
    """

    chunks: int
    make: Callable[[int], TripletPictures]
    made_of: str
