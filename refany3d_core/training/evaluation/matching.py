"""Keypoint matches between a picture and the asset's views or render: how many, and how far off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from ...networks import device_of
from .learned_measures import Compared, Measure

log = logging.getLogger(__name__)

RATIO = 0.75
"""Lowe's ratio (2004, section 7.1): a match counts if its second best is this much farther."""
CONFIDENCE = 0.5
"""From which on a learned matcher's match counts. Dense matchers sample a fixed number of matches
whatever they see, so their plain number says nothing; this bound is ours."""
SIFT = "sift"

Matcher = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Matched points float [K, 2] (x right, y down, pixels) of two pictures [H, W, 3] in 0..1."""


def matcher_of(name: str, device: str = "") -> Matcher:
    """A matcher by name: "sift" (OpenCV), or one of the package vismatch, such as "gim-lightglue"
    and "gim-dkm" (GIM, the paper's) or "romav2" (RoMa).

    Raises:
        ValueError: a package or the weights are missing.
    """
    return sift() if name == SIFT else learned(name, device)


def sift() -> Matcher:
    """SIFT keypoints with Lowe's ratio test."""
    try:
        import cv2
    except ImportError as e:
        raise ValueError("matches need OpenCV: pip install opencv-python-headless") from e
    detector, brute = cv2.SIFT_create(), cv2.BFMatcher()
    none = np.empty((0, 2))

    def call(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        greys = [cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2GRAY) for x in (a, b)]
        points, described = zip(*(
            detector.detectAndCompute((np.clip(g, 0, 1) * 255).astype(np.uint8), None)
            for g in greys
        ))  # fmt: skip
        if any(x is None or len(x) < 2 for x in described):
            return none, none
        pairs = brute.knnMatch(*described, k=2)
        good = [first for first, second in pairs if first.distance < RATIO * second.distance]
        if not good:
            return none, none
        return (
            np.array([points[0][m.queryIdx].pt for m in good]),
            np.array([points[1][m.trainIdx].pt for m in good]),
        )

    return call


def learned(name: str, device: str = "") -> Matcher:
    """A matcher of the package vismatch, with weights that the user has fetched.

    Raises:
        ValueError: the package is missing or has no such matcher, or the weights are missing.
    """
    try:
        import huggingface_hub
        import vismatch
    except ImportError as e:
        raise ValueError(
            f"the matcher '{name}' needs the package vismatch (pip install vismatch, best in an "
            f"environment of its own: it asks for an older kornia than ComfyUI installs): {e}"
        ) from e
    if name not in vismatch.available_models:
        raise ValueError(
            f"vismatch has no matcher '{name}'; it has {', '.join(vismatch.available_models)}"
        )
    # vismatch would fetch its weights by itself; whether to is for the user to say.
    kept = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        network: Any = vismatch.get_matcher(name, device=device_of(device))
    except Exception as e:  # whatever its many matchers raise without their files
        raise ValueError(
            f"vismatch cannot load '{name}' ({type(e).__name__}: {e}). Fetch its weights once: "
            f"hf download vismatch/{name}"
        ) from e
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = kept

    def call(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        planes = [np.ascontiguousarray(x.transpose(2, 0, 1), dtype=np.float32) for x in (a, b)]
        found = network(*planes)
        first, second = (np.asarray(found[f"matched_kpts{i}"], float) for i in (0, 1))
        sure = found.get("matched_confidences")
        if sure is not None:
            keep = np.asarray(sure) >= CONFIDENCE
            first, second = first[keep], second[keep]
        return first, second

    return call


def match_count(matcher: Matcher) -> Measure:
    """Number of matches of the picture with the best view."""

    def call(compared: Compared) -> dict[str, float]:
        counts = [len(matcher(compared.image, view)[0]) for view in compared.views]
        return {"matches": float(max(counts))}

    return call


def matching_error(matcher: Matcher) -> Measure:
    """Matching Error at an asked pose: mean distance in pixels between matched points of the
    picture and of the asset's render from the camera that was asked for; lower is better.

    The idea is DIRECT's (ICML 2026, "Direct 3D-Aware Object Insertion via Decomposed Visual
    Proxies"), which reports a dense Matching Error of 22.7 for itself and 26.9 for the next best.
    What we know of it is that dense matches are used and that lower is better. Our reading: the
    render is unlit and on white; matches count whose point in the render lies on the asset; the
    distances are in pixels of the picture, so numbers compare at one size only; a picture without
    such a match has no value, and `matched_share` tells how many had one.
    """

    def call(compared: Compared) -> dict[str, float]:
        if compared.render is None or compared.mask is None or not compared.asked:
            return {"matching_error": float("nan")}
        here, there = matcher(compared.image, compared.render)
        height, width = compared.mask.shape
        cells = there.astype(int)
        inside = (cells >= 0).all(1) & (cells < (width, height)).all(1)
        on = inside.copy()
        on[inside] = compared.mask[cells[inside, 1], cells[inside, 0]]
        off = np.linalg.norm(here[on] - there[on], axis=1)
        return {
            "matching_error": float(off.mean()) if len(off) else float("nan"),
            "matched_share": float(len(off) > 0),
        }

    return call
