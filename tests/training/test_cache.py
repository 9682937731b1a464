"""Encodings on disk: made once, shared, found again only for what they were made of, and read
without holding them; and what a run draws."""

import os
import resource
import sys

import pytest
import torch

from refany3d_core.training.batches import AssetOrder, Batches
from refany3d_core.training.cache import (
    Asset,
    EncodedTexts,
    EncodedTriplets,
    encode_pictures,
    encode_texts,
)
from refany3d_core.training.config import RefAny3DConfig
from refany3d_core.training.models import Encoders
from refany3d_core.training.triplets import Source, TripletPictures

SIDE, VIEWS = 16, 2


def source(chunks: int, a_chunk: int = 8, made: list | None = None, name: str = "set") -> Source:
    """Pictures whose grey names the asset."""

    def make(i: int) -> TripletPictures:
        if made is not None:
            made.append(i)
        grey = torch.arange(i * a_chunk, (i + 1) * a_chunk, dtype=torch.uint8)
        views = grey.view(-1, 1, 1, 1, 1, 1).expand(-1, 2, VIEWS, 3, SIDE, SIDE)
        targets = grey.view(-1, 1, 1, 1, 1, 1).expand(-1, 1, 2, 3, SIDE, SIDE)
        return TripletPictures(
            views, targets, [[f"asset {int(g) % 5}"] for g in grey], ["thing"] * a_chunk
        )

    return Source(chunks, make, name)


def encoders(name: str = "vae") -> Encoders:
    def pictures(x: torch.Tensor) -> torch.Tensor:
        return x[:, :1, ::8, ::8].float().expand(-1, 16, -1, -1)

    def texts(captions: list[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.full((4, 6), len(c)), torch.full((3,), len(c))) for c in captions]

    return Encoders(pictures, texts, name, name)


def test_encodings_are_made_once_and_go_on_where_they_stopped(tmp_path):
    made: list[int] = []
    folder = encode_pictures(source(3, made=made), encoders(), tmp_path)
    assert made == [0, 1, 2]
    assert encode_pictures(source(3, made=made), encoders(), tmp_path) == folder
    assert made == [0, 1, 2]
    (folder / "00001.safetensors").unlink()
    encode_pictures(source(3, made=made), encoders(), tmp_path)
    assert made == [0, 1, 2, 1]
    set_ = EncodedTriplets(folder)
    assert [float(set_.views(a).mean()) for a in set_.assets[:3]] == [0, 1, 2]
    assert float(set_.target(set_.assets[17], 0).mean()) == 17


def test_encodings_of_another_set_or_vae_are_never_read(tmp_path):
    first = encode_pictures(source(1), encoders(), tmp_path)
    assert encode_pictures(source(1), encoders("another"), tmp_path) != first
    assert encode_pictures(source(1, name="changed"), encoders(), tmp_path) != first


def test_captions_are_encoded_once_each(tmp_path):
    triplets = EncodedTriplets(encode_pictures(source(3), encoders(), tmp_path))
    captions = triplets.captions()
    assert captions == ["", *(f"asset {i}" for i in range(5))]
    texts = EncodedTexts(encode_texts(captions, encoders(), tmp_path))
    assert float(texts("asset 3")[0].mean()) == 7 and float(texts("")[1].mean()) == 0


def _batches(folder, **settings) -> Batches:
    triplets = EncodedTriplets(encode_pictures(source(4), encoders(), folder))
    texts = EncodedTexts(encode_texts(triplets.captions(), encoders(), folder))
    config = RefAny3DConfig(**settings)
    return Batches(triplets, texts, config, lambda x: x, torch.device("cpu"))


def test_two_processes_draw_what_one_with_the_double_batch_draws(tmp_path):
    one, two = _batches(tmp_path, batch=4, seed=3), _batches(tmp_path, batch=2, seed=3)
    for step in range(3):
        whole, halves = one(step), [two(2 * step), two(2 * step + 1)]
        for name, value in vars(whole).items():
            assert torch.equal(value, torch.cat([getattr(h, name) for h in halves])), name


def test_droppings_are_as_often_as_asked_and_all_views_at_once(tmp_path):
    batches = _batches(tmp_path, batch=4, reference_drop=0.5, text_drop=0.25)
    dropped, texts = 0, 0
    for step in range(100):
        batch = batches(step)
        black = (batch.references == 0).flatten(1).all(1)
        shown = batch.targets.flatten(1).mean(1) > 0  # asset 0 is black itself
        assert all((r == 0).all() or (r == r.flatten()[0]).all() for r in batch.references)
        dropped += int((black & shown).sum())
        texts += int((batch.context.flatten(1).sum(1) == 0).sum())
    assert 150 < dropped < 250 and 60 < texts < 140


def test_every_asset_comes_once_an_epoch_and_passes_are_of_one_size():
    assets = [Asset(0, i, "x", [""], (8, 8 + 8 * (i % 3))) for i in range(30)]
    order = AssetOrder(assets, 5, seed=1)
    rows = [order(i) for i in range(6)]
    assert sorted(r for row in rows for r in row) == list(range(30))
    assert all(len({assets[r].size for r in row}) == 1 for row in rows)
    assert [list(order(i)) for i in range(6, 12)] != [list(row) for row in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_set(tmp_path):
    """10,000 records of 36 kB each, every one read once: 360 MB pass, and are not kept."""

    def pictures(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 16, 32, 32) + x[:, :1, :1, :1].float()

    def resident() -> float:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    wide = Encoders(pictures, encoders().texts, "wide", "wide")
    made = source(100, a_chunk=100)
    folder = encode_pictures(Source(100, lambda i: made.make(i % 2), "wide"), wide, tmp_path)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    assert size > 1000
    triplets = EncodedTriplets(folder)
    order = AssetOrder(triplets.assets, 1, 0)
    for i in range(500):
        triplets.views(triplets.assets[order(i)[0]])
    before = resident()
    for i in range(500, len(triplets.assets)):
        triplets.views(triplets.assets[order(i)[0]])
    assert resident() - before < 0.25 * size
    assert os.path.exists(folder)
