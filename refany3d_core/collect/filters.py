"""What is kept: thresholds on the pose's scores and, where wanted, on learned similarity."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ..asset import render
from ..networks import embed, load_embedder
from .asset import load_mesh
from .config import Config, settings_of
from .pictures import box_of, read_mask, read_rgb
from .pose import camera_of
from .stages import Lazy, Outcome, each_picture
from .store import Record, Refused


class Filters:
    """Refuses a picture whose pose or likeness is not good enough."""

    name = "filters"

    def __init__(self, config: Config) -> None:
        self.config = config.filters
        self.settings = settings_of(config.filters)
        models = {"clip": config.filters.clip, "dino": config.filters.dino}
        self._embeddings = {
            name: Lazy(partial(
                load_embedder, config.model(model), config.run.device
            ))
            for name, model in models.items() if model
        }  # fmt: skip

    def __call__(self, record: Record, folder: Path) -> Outcome:
        def scores(index: int) -> dict:
            pose = record.picture("pose", index)
            limits = (
                ("IoU", pose["iou"], self.config.min_iou, 1),
                ("ambiguity", pose["ambiguity"], self.config.max_ambiguity, -1),
                (
                    "colour correlation",
                    pose["colour_correlation"],
                    self.config.min_colour_correlation,
                    1,
                ),
            )
            for name, value, limit, sign in limits:
                _check(name, value, limit, sign)
            return {name: self.similarity(record, index, name) for name in self._embeddings}

        return Outcome(each_picture(record, scores))

    def similarity(self, record: Record, index: int, name: str) -> float:
        """Cosine of the embeddings of the object and of its render, both on white.

        Raises:
            Refused: too low.
        """
        image = read_rgb(record.file("source", f"{index}.png"))
        mask = read_mask(record.file("masks", f"{index}.png"))
        view = render(load_mesh(record), camera_of(record.picture("pose", index)))
        left, top, right, bottom = (int(x) for x in box_of(mask | view.mask))
        here = slice(top, bottom), slice(left, right)
        a, b = (np.where(m[..., None], x, 1.0)[here]
                for x, m in ((image, mask), (view.color, view.mask)))  # fmt: skip
        value = self.cosine(name, a, b)
        _check(name.upper(), value, getattr(self.config, f"min_{name}"), 1)
        return value

    def cosine(self, name: str, a: np.ndarray, b: np.ndarray) -> float:
        """Of two pictures float [H, W, 3] in 0..1."""
        with self._embeddings[name] as (network, processor):
            x, y = embed(network, processor, (a, b))
        return float(x @ y)


def _check(name: str, value: float, limit: float, sign: int) -> None:
    if not (value - limit) * sign >= 0:
        side = "under" if sign > 0 else "over"
        raise Refused(f"{name} {value:.2f} is {side} {limit:.2f}")
