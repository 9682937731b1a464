"""The object's box, by its name: a zero-shot detector of transformers such as GroundingDINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..networks import load
from .config import Config, settings_of
from .stages import Lazy, Outcome, each_picture
from .store import Record, Refused

SAME_OBJECT = 0.7
"""Two boxes show one object from this share of the smaller one that they have in common: a part of
an object is a box of its own to the detector."""


class DetectedBoxes:
    """One object in a picture, or a refusal."""

    name = "boxes"

    def __init__(self, config: Config) -> None:
        self.config = config.boxes
        self.settings = settings_of(config.boxes)
        self._network = Lazy(
            lambda: load(
                config.model(config.boxes.model),
                "AutoModelForZeroShotObjectDetection",
                "AutoProcessor",
                config.run.device,
            )
        )

    def __call__(self, record: Record, folder: Path) -> Outcome:
        item = str(record.data("source")["item"])

        def box(index: int) -> dict:
            with Image.open(record.file("source", f"{index}.png")) as image:
                boxes, scores = self.detect(image.convert("RGB"), item)
            chosen = one_object(boxes, scores, item)
            return {"box": boxes[chosen].tolist(), "score": float(scores[chosen])}

        return Outcome(each_picture(record, box))

    def detect(self, image: Image.Image, item: str) -> tuple[np.ndarray, np.ndarray]:
        """(boxes float [N, 4] as left, top, right, bottom in pixels, scores [N]), best first."""
        import torch

        text = item.lower().replace(".", " ").strip() + "."
        with self._network as (network, processor), torch.no_grad():
            inputs = processor(images=image, text=text, return_tensors="pt").to(network.device)
            found = processor.post_process_grounded_object_detection(
                network(**inputs),
                inputs.input_ids,
                threshold=self.config.box_threshold,
                text_threshold=self.config.text_threshold,
                target_sizes=[(image.height, image.width)],
            )[0]
        scores = found["scores"].float().cpu().numpy()
        order = np.argsort(-scores)
        size = [image.width, image.height] * 2
        boxes = np.clip(found["boxes"].float().cpu().numpy()[order], 0, size)
        return boxes, scores[order]


def one_object(boxes: np.ndarray, scores: np.ndarray, item: str) -> int:
    """Index of the one object's box: the largest of those that overlap.

    Args:
        boxes: float [N, 4], left, top, right, bottom.
        scores: float [N], best first.

    Raises:
        Refused: no box, or several objects.
    """
    if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise Refused("the detector gave NaN")
    if not len(boxes):
        raise Refused(f"no object found for '{item}'")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    same = common >= SAME_OBJECT * np.minimum(area[:, None], area[None, :])
    groups = np.arange(len(boxes))  # parts that share nothing are one object by the whole
    for first, second in zip(*np.nonzero(same)):
        groups[groups == groups[second]] = groups[first]
    objects = [int(np.flatnonzero(groups == group)[0]) for group in np.unique(groups)]
    if len(objects) > 1:
        shown = ", ".join(f"{scores[i]:.2f}" for i in sorted(objects))
        raise Refused(f"{len(objects)} objects found for '{item}' (scores {shown})")
    return int(np.argmax(area))
