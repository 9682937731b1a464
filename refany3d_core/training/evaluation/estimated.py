"""Shape and colour of a picture by a camera that is found in the picture itself: the measures that
also judge a method without point maps."""

from __future__ import annotations

import numpy as np

from ...asset.model import Asset
from ...asset.render import render
from ...pose_search import estimate_pose
from .fidelity import colour_error, iou

MARGIN = 0.02
"""Of the picture's side: its border shows no subject, GrabCut takes for granted."""
ROUNDS = 6
"""Of GrabCut."""


def whole_subject(image: np.ndarray) -> np.ndarray:
    """The subject [H, W] bool by the image's colours alone: GrabCut (Rother et al. 2004, OpenCV)
    with the border as its only certain background.

    Args:
        image: float [H, W, 3] in 0..1.

    Raises:
        ValueError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as e:
        raise ValueError("evaluation needs OpenCV: pip install opencv-python-headless") from e
    labels = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    height, width = image.shape[:2]
    rows, columns = max(1, int(MARGIN * height)), max(1, int(MARGIN * width))
    labels[rows:-rows, columns:-columns] = cv2.GC_PR_FGD
    picture = np.ascontiguousarray((np.clip(image, 0, 1)[..., ::-1] * 255).round().astype(np.uint8))
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, None, *model, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def measure_by_estimate(image: np.ndarray, asset: Asset, fov: float | None) -> dict[str, float]:
    """Measures by Estimate Pose's search (`pose_search`); NaN where it can find nothing.

    Args:
        image: float [H, W, 3] in 0..1.
        asset: the asset that was asked for.
        fov: vertical field of view in degrees, None where it is not known.

    Returns:
        estimate_posed: 1 where the search trusts its camera, 0 where it does not or finds none.
        estimate_iou: of the picture's subject and the asset's outline from that camera.
        estimate_colour_error: of the picture against the render from there, inside both, mean
            absolute after one brightness.
    """
    names = ("estimate_iou", "estimate_colour_error")
    out = {"estimate_posed": 0.0, **dict.fromkeys(names, float("nan"))}
    mask = whole_subject(image)
    try:
        found = estimate_pose(asset, image, mask.astype(np.float32), fov or 0.0)
    except ValueError:
        return out
    view = render(asset, found.camera)
    both = mask & view.mask
    out["estimate_posed"] = float(not found.refusal)
    out["estimate_iou"] = iou(mask, view.mask)
    if both.any():
        out["estimate_colour_error"] = colour_error(image[both], view.color[both])
    return out
