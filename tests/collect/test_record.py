"""Records in the published layout: read back by the trainer's reader, exact, whole or not there."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from refany3d_core.asset import Camera, load_asset, look_at, render, render_reference_views
from refany3d_core.collect import record
from refany3d_core.collect.record import FILES, INDEX, write_index, write_record

ROOT = Path(__file__).resolve().parents[2]
SIZE = 96


@pytest.fixture(scope="module")
def asset():
    return load_asset(ROOT / "assets" / "spot.glb")


@pytest.fixture
def triplet(asset):
    camera = Camera(look_at((3, 1.5, 3)), 40.0, SIZE, SIZE)
    view = render(asset, camera)
    return {
        "item": "Spot, the cow",
        "caption": "A cow on a shelf",
        "image": view.color,
        "mask": view.mask.astype(np.float32),
        "asset": asset,
        "camera": camera,
    }


@pytest.fixture(autouse=True)
def small_orbit(monkeypatch):
    monkeypatch.setattr(record, "RESOLUTION", 64)


def test_the_trainer_reads_it_back_exactly(tmp_path, triplet, asset):
    from refany3d_core.training.config import DatasetConfig
    from refany3d_core.training.published import is_held_out, published_source, read_records

    folder = write_record(tmp_path, **triplet)
    assert write_index(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([INDEX, folder.name])
    (found,) = read_records(tmp_path, 8)
    assert (found.item, found.caption) == ("Spot, the cow", "A cow on a shelf")
    split = "held_out" if is_held_out(found.item) else "train"
    chunks = [
        published_source(tmp_path, DatasetConfig(resolution=size, views=8), split).make(0)
        for size in (64, SIZE)
    ]
    views = render_reference_views(asset, 8, 64)
    for ours, wanted in zip(chunks[0].views[0], (views.colors, views.point_maps), strict=True):
        exact = np.round(wanted * 255).astype(np.uint8).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(ours.numpy(), exact)
    wanted = np.round(render(asset, triplet["camera"]).point_map * 255).transpose(2, 0, 1)
    np.testing.assert_array_equal(chunks[1].targets[0, 0, 1].numpy(), wanted)


def test_the_same_triplet_is_there_once_and_others_entries_stay(tmp_path, triplet):
    (tmp_path / INDEX).write_text(json.dumps([{"json": "theirs.json", "image": "theirs.png"}]))
    first = write_record(tmp_path, **triplet)
    assert write_record(tmp_path, **triplet) == first
    other = write_record(tmp_path, **triplet | {"caption": "Another"})
    assert other != first and write_index(tmp_path) == write_index(tmp_path) == 3
    entries = json.loads((tmp_path / INDEX).read_text())
    assert entries[0] == {"json": "theirs.json", "image": "theirs.png"}
    assert {e["image"] for e in entries[1:]} == {f"{f.name}/image.png" for f in (first, other)}
    assert all((tmp_path / e[key]).is_file() for e in entries[1:] for key in FILES)


def test_what_is_hidden_is_no_part_of_the_map(tmp_path, triplet):
    from PIL import Image

    full = triplet["mask"].copy()
    middle = int(np.nonzero(full.any(0))[0].mean())
    triplet["mask"][:, :middle] = 0
    folder = write_record(tmp_path, **triplet)
    alpha = np.asarray(Image.open(folder / "pose_coord.png"))[..., 3] > 0
    assert not alpha[:, : middle - 8].any()
    assert (alpha == (full > 0))[:, middle + 1 :].all()


def test_a_full_disk_leaves_nothing(tmp_path, triplet, monkeypatch):
    def full(path, frames):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_frames", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(tmp_path, **triplet)
    assert not any(tmp_path.iterdir())


def test_writers_at_once_lose_no_entry(tmp_path, triplet):
    def work(number: int) -> None:
        write_record(tmp_path, **triplet | {"caption": f"Number {number}"})
        write_index(tmp_path)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / INDEX).read_text())) == 6
    assert not [*tmp_path.glob(".*")]


def test_what_a_killed_writer_left_is_no_record_and_goes(tmp_path, triplet):
    left = tmp_path / ".deadbeef.partial"
    left.mkdir()
    (left / FILES["json"]).write_text("{}")
    os.utime(left, (0, 0))
    write_record(tmp_path, **triplet)
    assert write_index(tmp_path) == 1 and not left.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": "  "}, "caption is empty"),
        ({"item": ""}, "item is empty"),
        ({"mask": np.zeros((SIZE, SIZE))}, "mask is empty"),
        ({"mask": np.zeros((8, 8))}, "the same size"),
        ({"mask": np.eye(SIZE)[::-1] * 0 + (np.arange(SIZE) < 20)}, "sees the mesh in only"),
    ],
)
def test_what_makes_no_triplet_is_refused(tmp_path, triplet, change, message):
    with pytest.raises(ValueError, match=message):
        write_record(tmp_path, **triplet | change)
    assert not any(tmp_path.iterdir())
