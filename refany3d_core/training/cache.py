"""Encodings of a training set on disk: made once, in shards, read by row.

A shard is a pure function of (source, encoders, index). It is written whole or not at all, so a
build that was cut off goes on, and any number of processes share the work. The folder's name is a
hash of what the encodings were made of: those of another set or another VAE are never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from .checkpoint import claimed, load_metadata, save_json, save_tensors
from .models import Encoders
from .triplets import Source, TripletPictures

log = logging.getLogger(__name__)

OPEN_SHARDS = 32
"""Shards that are kept open at once: memory does not grow with the set."""
TEXTS_A_SHARD = 128
_WAIT_SECONDS = 0.5

DTYPE = torch.bfloat16
"""Of the stored encodings, as the published run holds them (METHOD fact 54)."""


def _folder(cache: Path, kind: str, made_of: str) -> Path:
    return cache / f"{kind}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"


def _write_shards(
    paths: Sequence[Path], make: Callable[[int], tuple[dict, dict]], what: str, first: int = 0
) -> None:
    """Write the shards that are not there, sharing the work with any other process at it.

    Args:
        paths: of all shards.
        make: (tensors, metadata) of shard i.
        what: for the log.
        first: where this process starts, so that several do not queue for the same shard.
    """
    order = [(first + i) % len(paths) for i in range(len(paths))]
    began, done = time.monotonic(), 0
    while missing := [i for i in order if not paths[i].exists()]:
        progressed = False
        for i in missing:
            with claimed(paths[i]) as mine:
                if not mine or paths[i].exists():
                    continue
                tensors, metadata = make(i)
                save_tensors(paths[i], tensors, metadata)
                progressed, done = True, done + 1
            left = sum(not path.exists() for path in paths)
            log.info(
                "%s: %d of %d shards, %.0f s", what, len(paths) - left, len(paths),
                time.monotonic() - began,
            )  # fmt: skip
        if not progressed:  # others are at the rest
            time.sleep(_WAIT_SECONDS)


@torch.no_grad()
def encode_pictures(source: Source, encoders: Encoders, cache: Path, first: int = 0) -> Path:
    """Encode a source's pictures, or what is missing of them.

    Returns:
        The folder of the shards.

    Raises:
        ValueError: the source is empty.
    """
    if not source.chunks:
        raise ValueError("the training set is empty")
    folder = _folder(cache, "latents", f"{source.made_of} {encoders.pictures_made_of}")
    paths = [folder / f"{i:05d}.safetensors" for i in range(source.chunks)]

    def make(i: int) -> tuple[dict, dict]:
        pictures: TripletPictures = source.make(i)

        def encode(x: Tensor) -> Tensor:
            latents = encoders.pictures(x.flatten(0, -4))
            return latents.reshape(*x.shape[:-3], *latents.shape[1:]).to(DTYPE)

        black = torch.zeros_like(pictures.views[:1, 0, 0])
        tensors = {
            "views": encode(pictures.views),
            "targets": encode(pictures.targets),
            "black": encode(black)[0],
        }
        text = {"captions": json.dumps(pictures.captions), "kinds": json.dumps(pictures.kinds)}
        return tensors, text

    _write_shards(paths, make, "pictures encoded", first)
    save_json(folder / "made_of.json", [source.made_of, encoders.pictures_made_of])
    return folder


@torch.no_grad()
def encode_texts(captions: list[str], encoders: Encoders, cache: Path, first: int = 0) -> Path:
    """Encode captions (distinct, sorted), or what is missing of them; gives the shards' folder."""
    names = hashlib.sha256(json.dumps(captions).encode()).hexdigest()
    folder = _folder(cache, "texts", f"{names} {encoders.texts_made_of}")
    starts = range(0, len(captions), TEXTS_A_SHARD)
    paths = [folder / f"{i:05d}.safetensors" for i in range(len(starts))]

    def make(i: int) -> tuple[dict, dict]:
        part = captions[starts[i] : starts[i] + TEXTS_A_SHARD]
        encoded = encoders.texts(part)
        lengths = {len(context) for context, _ in encoded}
        if len(lengths) > 1:
            raise ValueError(
                f"captions have {sorted(lengths)} text tokens, and all of a set need equally many: "
                "shorten the longest captions"
            )
        context, pooled = (torch.stack(x).to(DTYPE) for x in zip(*encoded))
        return {"context": context, "pooled": pooled}, {"captions": json.dumps(part)}

    _write_shards(paths, make, "captions encoded", first)
    return folder


class _Rows:
    """Rows of the shards of a folder, a few of them open at a time."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("[0-9]*.safetensors"))
        self._open: OrderedDict[int, dict] = OrderedDict()

    def slices(self, shard: int) -> dict:
        """Lazy slices by tensor name."""
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            file = safe_open(self.paths[shard], "pt").__enter__()
            self._open[shard] = {name: file.get_slice(name) for name in file.keys()}
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        return self._open[shard]


@dataclass(frozen=True)
class Asset:
    """One asset of an encoded set.

    Attributes:
        shard, row: where it lies.
        kind: a word or two.
        captions: one a scene.
        size: latent height and width of its targets.
    """

    shard: int
    row: int
    kind: str
    captions: list[str]
    size: tuple[int, int]


class EncodedTriplets:
    """An encoded training set, read by row.

    Args:
        folder: what `encode_pictures` wrote.

    Attributes:
        assets: all of them, in the set's order.
        black: latents [16, h, w] of a black reference.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = _Rows(folder)
        self.assets: list[Asset] = []
        for shard, path in enumerate(self._rows.paths):
            with safe_open(path, "pt") as file:
                text = file.metadata()
                height, width = file.get_slice("targets").get_shape()[-2:]
            texts = zip(json.loads(text["kinds"]), json.loads(text["captions"]))
            self.assets += [
                Asset(shard, i, kind, captions, (height, width))
                for i, (kind, captions) in enumerate(texts)
            ]
        self.black = self._rows.slices(0)["black"][:].float()

    def captions(self) -> list[str]:
        """All distinct captions and the empty one, sorted."""
        return sorted({"", *(c for asset in self.assets for c in asset.captions)})

    def views(self, asset: Asset) -> Tensor:
        """Latents [2, n, 16, h, w], RGB then map, as the VAE gives them."""
        return self._rows.slices(asset.shard)["views"][asset.row].float()

    def target(self, asset: Asset, scene: int) -> Tensor:
        """Latents [2, 16, h, w], RGB then map, as the VAE gives them."""
        return self._rows.slices(asset.shard)["targets"][asset.row, scene].float()


class EncodedTexts:
    """Encoded captions, read by caption; a handful of the last ones stay in memory.

    Args:
        folder: what `encode_texts` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = _Rows(folder)
        self._places: dict[str, tuple[int, int]] = {}
        for shard, path in enumerate(self._rows.paths):
            captions = json.loads(load_metadata(path)["captions"])
            self._places.update({c: (shard, i) for i, c in enumerate(captions)})

    def __call__(self, caption: str) -> tuple[Tensor, Tensor]:
        """Text tokens [T, C] and pooled text [V]."""
        shard, row = self._places[caption]
        slices = self._rows.slices(shard)
        return slices["context"][row].float(), slices["pooled"][row].float()
