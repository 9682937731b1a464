"""The dual-branch token sequence: text, two targets, and the references of both domains.

Order of the joint sequence (the paper's branches; METHOD fact 1 names the published order, which a
set of attention groups does not depend on):

    text | RGB target | map target | n map references | n RGB references

In this order each adapter acts on one contiguous range: Domain-LoRA on everything that is a point
map, Reference-LoRA on everything that is a reference (METHOD facts 16-22).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .trimming import Trimmed

TEXT_ROW, RGB_ROW, MAP_ROW, MAP_REFERENCE_ROW, RGB_REFERENCE_ROW = range(5)
"""Rows of the modulation vector [B, 5, hidden]; the order of the branches."""

Range = tuple[int, int]
ModulationDims = list[tuple[int, int, int]]


class Stream(Enum):
    """Which sequence a layer sees along its second axis."""

    ROWS = "modulation rows"
    IMAGE = "image tokens, without the text"
    JOINT = "text and image tokens"


@dataclass(frozen=True)
class BranchLayout:
    """Where each branch lies in the token sequence.

    Attributes:
        text: number of text tokens.
        target: tokens of one target (height * width of the generated picture in tokens).
        reference: tokens of one reference picture.
        pairs: number of reference pairs (RGB view, point map) in the sequence.
        point_maps: False leaves out the map target and the map references (the paper's ablation
            without the point-map branch).
        trimmed: which tokens of the references are in the sequence.
    """

    text: int
    target: int
    reference: int
    pairs: int
    point_maps: bool = True
    trimmed: Trimmed = Trimmed()

    @property
    def views(self) -> tuple[int, ...]:
        """Tokens of one reference picture of each view."""
        return self.trimmed.lengths or (self.reference,) * self.pairs

    @property
    def map_target(self) -> int:
        """Tokens of the map target: those of the RGB target, or 0 without point maps."""
        return self.target if self.point_maps else 0

    @property
    def map_references(self) -> int:
        """Tokens of all map references."""
        return self.rgb_references if self.point_maps else 0

    @property
    def rgb_references(self) -> int:
        """Tokens of all RGB references."""
        return sum(self.views)

    @property
    def targets(self) -> int:
        """Tokens of both targets."""
        return self.target + self.map_target

    @property
    def main(self) -> int:
        """Tokens of text and targets: the sequence without its references."""
        return self.text + self.targets

    @property
    def references(self) -> int:
        """Tokens of all references."""
        return self.map_references + self.rgb_references

    @property
    def total(self) -> int:
        """Tokens of the whole joint sequence."""
        return self.main + self.references

    def image_dims(self) -> ModulationDims:
        """(start, end, modulation row) of every image branch, counted without the text."""
        lengths = (self.target, self.map_target, self.map_references, self.rgb_references)
        dims, start = [], 0
        for row, length in enumerate(lengths, start=RGB_ROW):
            if length:
                dims.append((start, start + length, row))
            start += length
        return dims

    def joint_dims(self) -> ModulationDims:
        """(start, end, modulation row) of every branch of the joint sequence."""
        shifted = [
            (start + self.text, end + self.text, row) for start, end, row in self.image_dims()
        ]
        return [(0, self.text, TEXT_ROW), *shifted]

    def reference_dims(self) -> ModulationDims:
        """(start, end, modulation row) of the references, counted from the first of them."""
        return [
            (start - self.targets, end - self.targets, row)
            for start, end, row in self.image_dims()
            if row >= MAP_REFERENCE_ROW
        ]

    def view_ranges(self) -> list[list[tuple[int, int, int]]]:
        """(start, first stand-in, end) of each view's references, counted from the first reference:
        those of its point map and of its picture."""
        stand_ins = self.trimmed.stand_ins or (0,) * self.pairs
        ranges: list[list[tuple[int, int, int]]] = [[] for _ in self.views]
        start = 0
        for _ in range(2 if self.point_maps else 1):
            for view, length, last in zip(ranges, self.views, stand_ins):
                view.append((start, start + length - last, start + length))
                start += length
        return ranges

    def point_map_range(self, stream: Stream) -> Range:
        """Tokens (or rows) of the map target and the map references: where Domain-LoRA acts."""
        if stream is Stream.ROWS:
            return MAP_ROW, RGB_REFERENCE_ROW
        start = self._origin(stream) + self.target
        return start, start + self.map_target + self.map_references

    def reference_range(self, stream: Stream) -> Range:
        """Tokens (or rows) of all references: where Reference-LoRA acts."""
        if stream is Stream.ROWS:
            return MAP_REFERENCE_ROW, RGB_REFERENCE_ROW + 1
        start = self._origin(stream) + self.targets
        return start, start + self.references

    def _origin(self, stream: Stream) -> int:
        return self.text if stream is Stream.JOINT else 0
