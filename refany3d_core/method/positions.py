"""Shared positional encoding with one offset for all references (paper, section 3.3).

A token's position is (0, row, column). Both targets have the same ids, so that a pixel and its
point share a place; every reference lies left of column 0, at (row, column - offset), and all
views share those ids.
"""

from __future__ import annotations

import torch

PUBLISHED_OFFSET = 32
"""Columns by which the published code shifts its references: their width in tokens at 512 px."""


def grid_positions(height: int, width: int, column_shift: int = 0) -> torch.Tensor:
    """Positions of a picture of height x width tokens, float32 [height * width, 3], row by row."""
    ids = torch.zeros(height, width, 3)
    ids[..., 1] = torch.arange(height, dtype=torch.float32)[:, None]
    ids[..., 2] = torch.arange(width, dtype=torch.float32)[None, :] + column_shift
    return ids.reshape(height * width, 3)


def reference_offset(reference_width: int) -> int:
    """Columns by which references are moved left of the targets.

    The published constant, except for references wider than it, which would otherwise overlap the
    targets' columns: those move by their own width, the (i - w, j) of the paper.
    """
    return max(PUBLISHED_OFFSET, reference_width)
