"""The words that the small model's text encoder knows: those of its training set's captions."""

from __future__ import annotations

from collections.abc import Iterable

from ...host.small_text import words
from .world.assets import KINDS
from .world.scenes import BACKDROPS, FLOORS, MAP_TEMPLATE, TEMPLATES


def world_vocabulary(texts: Iterable[str] = ()) -> list[str]:
    """Special tokens, then every word of the world's captions and of further texts, sorted."""
    names = [k for k, _ in KINDS] + [m for m, _ in (*FLOORS, *BACKDROPS)]
    templates = [t.replace("{", " ").replace("}", " ") for t in (*TEMPLATES, MAP_TEMPLATE)]
    found = {w for text in (*names, *templates, *texts) for w in words(text)} - {
        "kind",
        "floor",
        "backdrop",
    }
    return ["<pad>", "<start>", "<unknown>", *sorted(found)]
