"""Grids of pictures that a run shows while it trains."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def save_grid(path: Path, rows: Tensor) -> None:
    """Write pictures [rows, columns, 3, H, W] in 0..1 as one PNG."""
    from PIL import Image

    image = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
