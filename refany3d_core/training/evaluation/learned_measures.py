"""Similarity of two pictures by pretrained networks and by keypoints: the paper's other columns.

Each comes from a well-kept library that is asked for only when its column is wanted; checkpoints
are read from a folder that the user has and never downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATIO = 0.75
"""Lowe's ratio (2004, section 7.1): a match counts if its second best is this much farther."""


@dataclass(frozen=True)
class Similarity:
    """A named function of two float pictures [H, W, 3] in 0..1; higher is more alike."""

    name: str
    call: Callable[[np.ndarray, np.ndarray], float]

    def __call__(self, a: np.ndarray, b: np.ndarray) -> float:
        return self.call(a, b)


def clip_image_similarity(folder: str | Path) -> Similarity:
    """CLIP-I: cosine of CLIP's image embeddings.

    Args:
        folder: a CLIP checkpoint as transformers saves it, such as openai/clip-vit-base-patch32.
    """
    return _embedding_similarity("clip_i", folder, lambda model, x: model.get_image_features(**x))


def dino_similarity(folder: str | Path) -> Similarity:
    """DINO: cosine of the class tokens.

    Args:
        folder: a DINO or DINOv2 checkpoint as transformers saves it, such as facebook/dino-vits16.
    """
    first = lambda model, x: model(**x).last_hidden_state[:, 0]
    return _embedding_similarity("dino", folder, first)


def _embedding_similarity(name: str, folder: str | Path, embed: Callable) -> Similarity:
    try:
        import torch
        from transformers import AutoImageProcessor, AutoModel
    except ImportError as e:
        raise ValueError(f"{name} needs the package transformers: pip install transformers") from e
    if not Path(folder).is_dir():
        raise ValueError(f"{name}: there is no folder '{Path(folder).name}' with a checkpoint")
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError) as e:
        raise ValueError(f"{name}: '{Path(folder).name}' is not a checkpoint: {e}") from e

    @torch.no_grad()
    def features(picture: np.ndarray) -> torch.Tensor:
        pixels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
        out = embed(model, processor(images=pixels, return_tensors="pt"))
        out = getattr(out, "pooler_output", out)
        return torch.nn.functional.normalize(out[0].float(), dim=-1)

    return Similarity(name, lambda a, b: float(features(a) @ features(b)))


def feature_matches() -> Similarity:
    """Number of SIFT keypoints of the first picture that match one of the second (OpenCV)."""
    try:
        import cv2
    except ImportError as e:
        raise ValueError("matches need OpenCV: pip install opencv-python-headless") from e
    sift, matcher = cv2.SIFT_create(), cv2.BFMatcher()

    def call(a: np.ndarray, b: np.ndarray) -> float:
        grey = (cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2GRAY) for x in (a, b))
        found = [sift.detectAndCompute((np.clip(g, 0, 1) * 255).astype(np.uint8), None)[1]
                 for g in grey]  # fmt: skip
        if any(x is None or len(x) < 2 for x in found):
            return 0.0
        pairs = matcher.knnMatch(*found, k=2)
        return float(sum(first.distance < RATIO * second.distance for first, second in pairs))

    return Similarity("matches", call)
