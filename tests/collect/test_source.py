"""Streams of rows: every kind of source, shared out, resumed, and Subjects200K's pairs."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refany3d_core.collect.config import Config, SourceConfig
from refany3d_core.collect.engine import TakenIn
from refany3d_core.collect.source import Item, items
from refany3d_core.collect.stages import carry_out
from refany3d_core.collect.store import Record


def noise(seed: int, width: int = 64, height: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def read(work: Path, rank: int = 0, world: int = 1, **source) -> list[Item]:
    config = Config(source=SourceConfig(**source))
    return list(items(config, rank, world, work, "signature"))


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in range(5):
                says = json.dumps({"caption": f"{shard} {number}", "item": "thing"}).encode()
                parts = {"png": noise(10 * shard + number), "json": says, "glb": b"glTF mesh"}
                for ending, content in parts.items():
                    info = tarfile.TarInfo(f"{shard}_{number}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return tmp_path


TARS = {
    "kind": "webdataset", "image": "png", "caption": "json.caption", "item": "json.item",
    "mesh": "glb",
}  # fmt: skip


def test_a_folder_with_captions_beside_the_pictures(tmp_path: Path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(noise(number))
    (tmp_path / "0.txt").write_text("a red cow\n")
    (tmp_path / "1.txt").write_text("a blue cow")
    found = {item.name: item for item in read(tmp_path / "work", path=str(tmp_path))}
    assert [found[n].pictures[0].caption for n in "012"] == ["a red cow", "a blue cow", ""]
    assert found["0"].item == "a red cow" and found["0"].pictures[0].image == noise(0)


def test_a_folder_with_metadata(pictures: Path, tmp_path: Path):
    names = {"mask": "mask", "mesh": "mesh", "camera": "camera", "fov": "fov"}
    found = read(tmp_path, path=str(pictures), **names)
    first = next(item for item in found if item.name == "00")
    assert len(found) == 12 and first.item == "cow" and first.fov == 40
    assert first.camera is not None and first.camera["fov"] == 40
    assert isinstance(first.mesh, Path) and first.mesh.name == "spot.glb"
    assert first.pictures[0].mask == (pictures / "masks" / "00.png").read_bytes()


def test_tars(tars: Path):
    found = read(tars / "work", path=str(tars / "*.tar"), **TARS)
    assert len(found) == 15
    assert found[0].name == "0_0" and found[0].item == "thing" and found[0].mesh == b"glTF mesh"
    assert found[7].pictures[0].caption == "1 2" and found[7].pictures[0].image == noise(12)


def test_parquet(tmp_path: Path):
    import datasets

    rows = {"picture": [{"bytes": noise(i), "path": f"{i}.png"} for i in range(4)],
            "text": ["one", "two", "three", "four"]}  # fmt: skip
    made = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    made.to_parquet(tmp_path / "rows.parquet")
    found = read(
        tmp_path / "work", path=str(tmp_path / "*.parquet"), kind="parquet", image="picture",
        caption="text",
    )  # fmt: skip
    assert [item.pictures[0].caption for item in found] == rows["text"]
    assert [item.name for item in found] == ["0", "1", "2", "3"]


def test_a_source_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no folder"):
        read(tmp_path, path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="'nowhere.tar' cannot be read"):
        read(tmp_path, path="nowhere.tar", kind="webdataset")


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_rows_without_gaps_and_name_them_alike(tars: Path, world: int):
    alone = [item.key for item in read(tars / "alone", path=str(tars / "*.tar"), **TARS)]
    shares = [
        [item.key for item in read(tars / "work", rank, world, path=str(tars / "*.tar"), **TARS)]
        for rank in range(world)
    ]
    assert sorted(sum(shares, [])) == sorted(alone) and len(set(alone)) == 15
    assert all(shares)


def test_the_limit_is_over_all_processes(tars: Path):
    shares = [
        read(tars / "work", rank, 2, path=str(tars / "*.tar"), limit=7, **TARS) for rank in (0, 1)
    ]
    assert [len(share) for share in shares] == [4, 3]


def test_a_stream_goes_on_where_it_was_left(tars: Path, monkeypatch: pytest.MonkeyPatch):
    from refany3d_core.collect import source

    monkeypatch.setattr(source, "_SAVE_EVERY", 3)
    config = Config(source=SourceConfig(path=str(tars / "*.tar"), **TARS))
    stream = items(config, 0, 1, tars / "work", "signature")
    first = [next(stream).name for _ in range(8)]
    stream.close()  # as a killed process leaves it: after row 6 its place was saved
    rest = [item.name for item in items(config, 0, 1, tars / "work", "signature")]
    assert first[:6] + rest == [f"{s}_{n}" for s in range(3) for n in range(5)]
    assert not list(items(config, 0, 1, tars / "work", "signature"))
    assert len(list(items(config, 0, 1, tars / "work", "other settings"))) == 15


def pair(padding: int, side: int = 64) -> bytes:
    """Left half red, right half blue, textured."""
    width, height = 2 * side + 3 * padding, side + 2 * padding
    pixels = np.full((height, width, 3), 255, np.uint8)
    for half, channel in enumerate((0, 2)):
        left = padding + half * (side + padding)
        square = pixels[padding : padding + side, left : left + side]
        square[:] = np.arange(side)[:, None, None]
        square[..., channel] = 200
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("padding", [8, 16])
def test_subjects200k(tmp_path: Path, padding: int):
    import datasets

    good = {"compositeStructure": 5, "objectConsistency": 5, "imageQuality": 5}
    rows = [
        {
            "image": {"bytes": pair(padding), "path": f"{number}.png"},
            "collection": "collection_1",
            "quality_assessment": scores,
            "description": {
                "item": "Mug", "description_0": "left", "description_1": "right",
                "category": "kitchen", "description_valid": True,
            },
        }
        for number, scores in enumerate([good, {**good, "imageQuality": 4}, None])
    ]  # fmt: skip
    made = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    made.to_parquet(tmp_path / "rows.parquet")
    found = read(
        tmp_path / "work", path=str(tmp_path / "*.parquet"), kind="parquet",
        adapter="subjects200k",
    )  # fmt: skip
    reasons = [item.refused for item in found]
    assert reasons[0] == "" and "score is 4, under 5" in reasons[1] and "is 0" in reasons[2]
    assert found[0].item == "Mug"
    assert [p.caption for p in found[0].pictures] == ["left", "right"]

    record = Record(tmp_path / "work", found[0].key)
    result = carry_out(TakenIn(found[0]), "s", record)
    assert result.status == "done" and [p["size"] for p in result.pictures] == [[64, 64]] * 2
    for half, channel in enumerate((0, 2)):
        pixels = np.asarray(Image.open(record.file("source", f"{half}.png")))
        assert (pixels[..., channel] == 200).all() and (
            pixels[..., 1] == np.arange(64)[:, None]
        ).all()
