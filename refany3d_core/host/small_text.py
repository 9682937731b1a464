"""The small model's text encoder: a word-level vocabulary and a two-layer transformer.

It stands in for T5 and CLIP of FLUX.1 at the scale of its training set: it knows the words of that
set's captions and nothing else, other words are <unknown>.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

LENGTH = 24
"""Tokens of every prompt: start, words, padding. Padding counts, as in FLUX.1 (METHOD fact 8)."""
PAD, START, UNKNOWN = range(3)
_WORD = re.compile(r"[a-z]+")


def words(text: str) -> list[str]:
    """The lower-case words of a text; punctuation and numbers are dropped."""
    return _WORD.findall(text.lower())


class Tokenizer:
    """Text to LENGTH token numbers; words beyond that are cut off."""

    def __init__(self, vocabulary: list[str]) -> None:
        self.vocabulary = vocabulary
        self._number = {word: i for i, word in enumerate(vocabulary)}

    def __call__(self, text: str) -> list[int]:
        tokens = [START, *(self._number.get(w, UNKNOWN) for w in words(text))][:LENGTH]
        return tokens + [PAD] * (LENGTH - len(tokens))


class TextEncoder(nn.Module):
    """Token numbers [B, LENGTH] to context [B, LENGTH, width] and pooled text [B, width]."""

    def __init__(self, vocabulary: int, width: int = 128, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            width * 4,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Context, and a pooled vector of zeros.

        FLUX modulates the references by the pooled text too (METHOD fact 2); without it they depend
        on the asset alone, and one pass over them serves all its scenes in training.
        """
        hidden = self.norm(self.layers(self.token(tokens) + self.position))
        return hidden, torch.zeros_like(hidden[:, 0])
