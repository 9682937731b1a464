"""Training sets on disk: built, cut off and resumed, read back, and refused by name when faulty."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refany3d_core.training.checkpoint import claimed, load_tensors
from refany3d_core.training.config import DatasetConfig, WorldConfig
from refany3d_core.training.published import is_held_out, published_source, read_records
from refany3d_core.training.shards import build, shard_source
from refany3d_core.training.small.world.assets import make_assets
from refany3d_core.training.small.world.mesh import asset_glb
from refany3d_core.training.small.world.triplets import mesh_files, world_source

WORLD = WorldConfig(resolution=32, views=2, assets=6, scenes=2, chunk=4)
VIEWS, FRAMES, SIZE = 3, 9, 48
DATASET = DatasetConfig(resolution=SIZE, views=VIEWS, chunk=5)


def test_shards_are_the_world_and_a_cut_off_build_goes_on(tmp_path):
    paths = build(WORLD, tmp_path, "train", workers=2)
    assert [p.name for p in paths] == ["train_00000.safetensors", "train_00001.safetensors"]
    stamp, wanted = paths[0].stat().st_mtime_ns, load_tensors(paths[1])
    paths[1].unlink()
    build(WORLD, tmp_path, "train")
    assert paths[0].stat().st_mtime_ns == stamp
    again = load_tensors(paths[1])
    assert sorted(again) == sorted(wanted)
    assert all(torch.equal(again[key], wanted[key]) for key in wanted)

    exact, stored = world_source(WORLD, "train"), shard_source(tmp_path, "train", 2, 32)
    assert stored.chunks == exact.chunks == 2
    for chunk, wanted in ((stored.make(i), exact.make(i)) for i in range(2)):
        assert torch.equal(chunk.views, wanted.views)
        assert torch.equal(chunk.targets, wanted.targets)
        assert chunk.captions == wanted.captions and chunk.kinds == wanted.kinds


def test_a_folder_of_meshes_gives_the_same_pictures_as_the_solids(tmp_path):
    """The mesh of a procedural asset in the same scene, through the pack's renderer."""
    assets = make_assets(0, "train", 4)
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    for i in range(4):
        stems = (f"{i}{j}_{assets.name(i)}" for j in range(9))
        stem = next(stem for stem in stems if not is_held_out(stem))
        (meshes / f"{stem}.glb").write_bytes(asset_glb(assets, i))
    build(WORLD, tmp_path, "train", meshes)
    source = shard_source(tmp_path, "train", 2, 32)
    assert source.chunks == 1
    chunk, exact = source.make(0), world_source(WORLD, "train").make(0)
    assert chunk.kinds == exact.kinds and chunk.captions == exact.captions
    for ours, theirs in ((chunk.views, exact.views), (chunk.targets, exact.targets)):
        assert (ours.float() - theirs.float()).abs().mean() < 2  # of 255
    assert mesh_files(meshes, "train") == sorted(meshes.iterdir())
    with pytest.raises(ValueError, match="has 4 mesh files, none of them for the split 'held_out'"):
        build(WORLD, tmp_path, "held_out", meshes)


def test_stale_shards_and_shards_that_do_not_fit_are_refused(tmp_path):
    build(WORLD, tmp_path, "train")
    with pytest.raises(ValueError, match="2 shards .* were made with other settings"):
        build(WorldConfig(resolution=32, views=2, assets=6, scenes=3, chunk=4), tmp_path, "train")
    with pytest.raises(ValueError, match="has 2 views of 32 px, the configuration asks for 4 of"):
        shard_source(tmp_path, "train", 4, 32)


def test_two_builders_divide_the_work(tmp_path):
    with claimed(tmp_path / "train_00000.safetensors") as mine:
        assert mine  # another builder is at the first shard
        build(WORLD, tmp_path, "train")
        assert [p.name for p in tmp_path.glob("*.safetensors")] == ["train_00001.safetensors"]
    build(WORLD, tmp_path, "train")
    assert len(list(tmp_path.glob("*.safetensors"))) == 2 and not list(tmp_path.glob("*.lock"))


def test_a_broken_mesh_is_named_and_left_out_when_asked(tmp_path):
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    (meshes / "cow.glb").write_bytes(asset_glb(make_assets(0, "train", 1), 0))
    (meshes / "wreck.glb").write_bytes(b"glTF nothing")
    with pytest.raises(ValueError, match="mesh wreck.glb: .*take it out of the folder"):
        build(WORLD, tmp_path / "shards", "train", meshes)
    build(WORLD, tmp_path / "shards", "train", meshes, skip_faulty=True)
    assert shard_source(tmp_path / "shards", "train", 2, 32).make(0).kinds == ["cow"]


def test_files_are_readable_by_others(tmp_path):
    (path,) = build(WorldConfig(resolution=32, views=1, assets=1, scenes=1), tmp_path, "train")
    assert sys.platform == "win32" or path.stat().st_mode & 0o044 == 0o044


@pytest.fixture
def published(tmp_path) -> Path:
    """Twelve records in the published layout, of the world's own pictures."""
    cv2 = pytest.importorskip("cv2")
    world = WorldConfig(resolution=SIZE, views=FRAMES, assets=12, scenes=1)
    chunk = world_source(world, "train").make(0)
    entries = []
    for i in range(12):
        names = {
            "json": f"{i}.json", "image": f"{i}.png", "video": f"{i}_rgb.mp4",
            "coord": f"{i}_map.mp4", "pose_coord": f"{i}_map.png",
        }  # fmt: skip
        text = {"text": chunk.captions[i][0], "item": f"{chunk.kinds[i]} {i}"}
        (tmp_path / names["json"]).write_text(json.dumps(text))
        rgb, point_map = (x.permute(1, 2, 0).numpy() for x in chunk.targets[i, 0])
        Image.fromarray(rgb).save(tmp_path / names["image"])
        alpha = ((point_map < 255).any(-1) * 255).astype(np.uint8)
        # what lies under alpha 0 is black in the file, and has to become white
        rgba = np.dstack([point_map * (alpha > 0)[..., None], alpha])
        Image.fromarray(rgba, "RGBA").save(tmp_path / names["pose_coord"])
        for key, frames in (("video", chunk.views[i, 0]), ("coord", chunk.views[i, 1])):
            fourcc = cv2.VideoWriter_fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(tmp_path / names[key]), fourcc, 8, (SIZE, SIZE))
            for frame in frames:
                writer.write(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()[..., ::-1]))
            writer.release()
        entries.append(names)
    (tmp_path / "meta_data.json").write_text(json.dumps(entries))
    torch.save(chunk.targets, tmp_path / "targets.pt")
    torch.save(chunk.views, tmp_path / "views.pt")
    return tmp_path


def test_the_published_layout_is_read_as_published(published):
    targets = torch.load(published / "targets.pt", weights_only=True)
    views = torch.load(published / "views.pt", weights_only=True)
    found = []
    for split in ("train", "held_out"):
        source = published_source(published, DATASET, split)
        for chunk in (source.make(k) for k in range(source.chunks)):
            for row, kind in enumerate(chunk.kinds):
                assert is_held_out(kind) == (split == "held_out")
                i = int(kind.split()[-1])
                found.append(i)
                assert torch.equal(chunk.targets[row, 0], targets[i, 0])
                wanted = views[i][:, ::3].float()  # frames i * (9 // 3)
                assert chunk.views[row].shape == wanted.shape
                assert (chunk.views[row].float() - wanted).abs().mean() < 12  # mp4 is lossy
    assert sorted(found) == list(range(12))


def test_buckets_keep_the_shape_of_the_pictures(published):
    for name in ("0.png", "0_map.png"):
        image = Image.open(published / name)
        image.resize((2 * SIZE, SIZE)).save(published / name)
    config = DatasetConfig(resolution=128, views=VIEWS, chunk=5, buckets=True)
    source = published_source(published, config, "train")
    sizes = {tuple(source.make(k).targets.shape[-2:]): source.make(k).kinds
             for k in range(source.chunks)}  # fmt: skip
    assert (64, 192) in sizes or (128, 192) in sizes or (64, 128) in sizes
    assert (128, 128) in sizes
    with_square = DatasetConfig(resolution=64, views=VIEWS)
    square = published_source(published, with_square, "train")
    assert {tuple(square.make(k).targets.shape[-2:]) for k in range(square.chunks)} == {(64, 64)}


FAULTS = {
    "no file": (lambda f: (f / "0.png").unlink(), r"record 0 \(0.png\): there is no image '0.png'"),
    "zero bytes": (lambda f: (f / "1_rgb.mp4").write_bytes(b""), r"record 1 .*1_rgb.mp4' is empty"),
    "no caption": (
        lambda f: (f / "2.json").write_text('{"text": " "}'),
        r"record 2 \(2.png\): '2.json' has no text, the caption",
    ),
    "another size": (
        lambda f: Image.new("RGBA", (9, 7)).save(f / "3_map.png"),
        r"record 3 \(3.png\): image is 48x48 but pose_coord 9x7",
    ),
    "no picture": (
        lambda f: (f / "4.png").write_bytes(b"nothing"),
        r"record 4 .*image '4.png' is not a picture",
    ),
    "another orbit": (
        lambda f: shutil.copyfile(f / "short.mp4", f / "5_map.mp4"),
        r"record 5 .*video has 9 frames but coord 2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_records_are_named_and_skipped_only_when_asked(published, fault):
    import cv2

    writer = cv2.VideoWriter(
        str(published / "short.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 8, (SIZE, SIZE)
    )
    for _ in range(2):
        writer.write(np.zeros((SIZE, SIZE, 3), np.uint8))
    writer.release()
    damage, message = FAULTS[fault]
    damage(published)
    with pytest.raises(ValueError, match=f"1 of 12 records are faulty: {message}"):
        read_records(published, VIEWS)
    assert len(read_records(published, VIEWS, skip_faulty=True)) == 11
