"""The asset laid on the picture, to be judged by eye."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from ..asset.shade import HEADLIGHT

RENDER_OUTLINE, MASK_OUTLINE = (0.1, 1.0, 0.2), (1.0, 0.1, 0.9)


def overlay(asset: Asset, image: np.ndarray, mask: np.ndarray, camera: Camera) -> np.ndarray:
    """float32 [H, W, 3] in 0..1: the picture dimmed, the render half over it, the outline of the
    render green, that of the mask (above 0.5) magenta.

    Args:
        image: float [H, W, 3] in 0..1.
        mask: float [H, W].
        camera: of the picture.
    """
    view = render(asset, camera, shading=HEADLIGHT)
    out = image * 0.6
    out = np.where(view.mask[..., None], 0.5 * image + 0.5 * view.color, out)
    width = max(1, round(max(view.mask.shape) / 400))
    for shape, color in ((mask > 0.5, MASK_OUTLINE), (view.mask, RENDER_OUTLINE)):
        rim = shape & ~ndimage.binary_erosion(shape, iterations=width, border_value=1)
        out[rim] = color
    return np.clip(out, 0, 1).astype(np.float32)
