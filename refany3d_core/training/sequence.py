"""What stays the same for all batches of one layout: where branches lie, and their positions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..method.branches import BranchLayout
from ..method.positions import grid_positions, reference_offset

AXES = (16, 56, 56)
THETA = 10000


@dataclass(frozen=True)
class Sequence:
    """What stays the same for all batches of one layout.

    Attributes:
        layout: where the branches lie.
        cos, sin: rotary table, float32 [layout.total, HEAD_WIDTH / 2].
        text_agnostic: the map target does not see the text.
        isolated: views see only their own pair; False lets everything see everything (METHOD fact
            7).
    """

    layout: BranchLayout
    cos: Tensor
    sin: Tensor
    text_agnostic: bool = True
    isolated: bool = True


def make_sequence(
    text: int,
    size: tuple[int, int],
    reference_size: tuple[int, int],
    pairs: int,
    device: torch.device | str,
    *,
    point_maps: bool = True,
    shared_positions: bool = True,
    text_agnostic: bool = True,
    isolated: bool = True,
) -> Sequence:
    """The sequence of `pairs` reference pairs and targets of given (height, width) in tokens."""
    offset = reference_offset(reference_size[1])
    ids = [torch.zeros(text, 3), grid_positions(*size)]
    if point_maps:
        ids.append(grid_positions(*size, 0 if shared_positions else offset))
    domains = 2 if point_maps else 1
    ids.append(grid_positions(*reference_size, -offset).repeat(domains * pairs, 1))
    cos, sin = _rotary(torch.cat(ids))
    layout = BranchLayout(
        text, size[0] * size[1], reference_size[0] * reference_size[1], pairs, point_maps
    )
    return Sequence(layout, cos.to(device), sin.to(device), text_agnostic, isolated)


def split_sequence(sequence: Sequence) -> tuple[Sequence, Sequence]:
    """(text and targets, references) of a sequence, for a ReferenceMemory between them."""
    layout, main = sequence.layout, sequence.layout.main
    targets = dataclasses.replace(layout, pairs=0)
    references = dataclasses.replace(layout, text=0, target=0)
    cos, sin = sequence.cos, sequence.sin
    return (
        dataclasses.replace(sequence, layout=targets, cos=cos[:main], sin=sin[:main]),
        dataclasses.replace(sequence, layout=references, cos=cos[main:], sin=sin[main:]),
    )


def _rotary(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in float64, table in float32 (METHOD fact 14)."""
    angles = []
    for axis, width in enumerate(AXES):
        scale = torch.linspace(0, (width - 2) / width, width // 2, dtype=torch.float64)
        angles.append(ids[:, axis].double()[:, None] / THETA**scale)
    angle = torch.cat(angles, -1)
    return angle.cos().float(), angle.sin().float()


class ReferenceMemory:
    """Keys and values of references that were computed once, for several targets of each asset.

    References that see only their own pair (METHOD fact 30, the published cache) depend neither on
    the targets nor on their noise, so one pass over them serves `copies` targets.

    Args:
        copies: targets of each asset, one after another in the batch of the targets.
    """

    def __init__(self, copies: int) -> None:
        self.copies = copies
        self._blocks: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def write(self, block: nn.Module, k: Tensor, v: Tensor) -> None:
        """Keep one block's references, [A, heads, references, head_dim]."""
        self._blocks[block] = k, v

    def read(self, block: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [A * copies, heads, main, head_dim], that block's references behind."""
        spread = (x.repeat_interleave(self.copies, 0) for x in self._blocks[block])
        return tuple(torch.cat(pair, 2) for pair in zip((k, v), spread))
