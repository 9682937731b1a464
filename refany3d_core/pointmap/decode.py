"""Point maps as pictures: xyz of the normalised asset box as RGB on a white background."""

from __future__ import annotations

from torch import Tensor

BACKGROUND_MARGIN = 0.06
"""How far below 1 at least one coordinate of a subject's pixel has to be; a VAE blurs white by
less."""


def subject_mask(point_map: Tensor) -> Tensor:
    """1 on the object, 0 on the white background.

    The background is (1, 1, 1) (METHOD fact 38), a place that a surface reaches only at the far
    corner of its box.

    Args:
        point_map: IMAGE [B, H, W, 3] in 0..1.

    Returns:
        MASK [B, H, W] of 0 and 1.
    """
    return (point_map.amin(dim=-1) < 1.0 - BACKGROUND_MARGIN).to(point_map.dtype)
