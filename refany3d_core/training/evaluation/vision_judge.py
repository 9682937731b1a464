"""A local vision-language model that marks pictures: texture, geometry, aesthetics, 1 to 5."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...networks import load
from .learned_measures import Compared
from .sheet import mosaic

log = logging.getLogger(__name__)

MARKS = ("texture", "geometry", "aesthetics")
PROMPT = (
    "The first picture is a sheet of reference views of one object. The second picture was "
    'generated from that object and from the text "{prompt}". Mark the second picture from 1 (bad) '
    "to 5 (excellent):\n"
    "texture: do the object's colours, patterns and materials agree with the reference views?\n"
    "geometry: do its shape, proportions and parts agree with the reference views?\n"
    "aesthetics: is it a good picture, whatever it shows?\n"
    "Answer with exactly three lines and nothing else:\n"
    "texture: NUMBER\ngeometry: NUMBER\naesthetics: NUMBER"
)
"""What the model is asked. The paper's own wording is not published; this one is ours."""
_REPLY = re.compile(r"\s*".join(rf"{mark}\s*[:=]\s*([1-5])\b\.?" for mark in MARKS), re.I)
REPLY_TOKENS = 64


def parsed(reply: str) -> dict[str, float] | None:
    """The marks of a reply; None where it is not just the three, in order, whole, from 1 to 5."""
    match = _REPLY.fullmatch(reply.strip())
    return dict(zip(MARKS, map(float, match.groups()))) if match else None


class VisionJudge:
    """Marks by a checkpoint; replies that cannot be read count in `judge_unread`, not in the marks.

    Args:
        folder: a checkpoint of transformers' AutoModelForImageTextToText with its processor and
            chat template, such as Qwen/Qwen2.5-VL-7B-Instruct.
        device: "" for the GPU when there is one.

    Raises:
        ValueError: there is none, or transformers is missing.
    """

    def __init__(self, folder: str | Path, device: str = "") -> None:
        if not Path(folder).is_dir():
            raise ValueError(f"judge: there is no folder '{Path(folder).name}' with a checkpoint")
        network, processor = load(
            str(folder), "AutoModelForImageTextToText", "AutoProcessor", device
        )
        self._network: Any = network
        self._processor: Any = processor

    def reply(self, compared: Compared) -> str:
        """What the model says of a picture, greedily."""
        import torch
        from PIL import Image

        pictures = [
            Image.fromarray((np.clip(x, 0, 1) * 255).round().astype(np.uint8))
            for x in (mosaic(compared.views), compared.image)
        ]
        content = [{"type": "image", "image": picture} for picture in pictures]
        text = {"type": "text", "text": PROMPT.format(prompt=compared.prompt)}
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": [*content, text]}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        ).to(self._network.device)  # fmt: skip
        with torch.no_grad():
            out = self._network.generate(**inputs, max_new_tokens=REPLY_TOKENS, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        return self._processor.batch_decode(new, skip_special_tokens=True)[0]

    def __call__(self, compared: Compared) -> dict[str, float]:
        reply = self.reply(compared)
        marks = parsed(reply)
        if marks is None:
            log.warning("judge: a reply is not three marks: %r", reply[:120])
        return {
            **{f"judge_{mark}": (marks or {}).get(mark, float("nan")) for mark in MARKS},
            "judge_unread": float(marks is None),
        }
