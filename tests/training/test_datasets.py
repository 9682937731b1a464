"""Training sets on disk: built, cut off and resumed, read back, and refused by name when faulty."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refany3d_core.training.checkpoint import load_tensors
from refany3d_core.training.config import WorldConfig
from refany3d_core.training.dataset import world_source
from refany3d_core.training.published import published_source, read_records
from refany3d_core.training.shards import build, shard_source
from refany3d_core.training.world.assets import make_assets
from refany3d_core.training.world.mesh import asset_glb

ROOT = Path(__file__).resolve().parents[2]
WORLD = WorldConfig(resolution=32, views=2, assets=6, scenes=2, chunk=4, workers=1)
VIEWS, FRAMES, SIZE = 3, 9, 48


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

    exact = world_source(WORLD, make_assets(0, "train", 6), "train", torch.device("cpu"))
    for chunk, wanted in zip(shard_source(tmp_path, "train"), exact, strict=True):
        assert torch.equal(chunk.views, wanted.views)
        assert torch.equal(chunk.targets, wanted.targets)
        assert chunk.captions == wanted.captions and chunk.kinds == wanted.kinds


def test_a_folder_of_meshes_gives_the_same_pictures_as_the_solids(tmp_path):
    """The mesh of a procedural asset in the same scene, through the pack's renderer."""
    assets = make_assets(0, "train", 4)
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    for i in range(4):
        (meshes / f"{i}_{assets.name(i)}.glb").write_bytes(asset_glb(assets, i))
    build(WORLD, tmp_path, "train", meshes)
    (chunk,) = shard_source(tmp_path, "train")
    exact = next(iter(world_source(WORLD, assets, "train", torch.device("cpu"))))
    assert chunk.kinds == exact.kinds and chunk.captions == exact.captions
    for ours, theirs in ((chunk.views, exact.views), (chunk.targets, exact.targets)):
        assert (ours.float() - theirs.float()).abs().mean() < 2  # of 255
    with pytest.raises(ValueError, match="has 4 mesh files, none of them for the split 'held_out'"):
        build(WORLD, tmp_path, "held_out", meshes)


@pytest.fixture
def published(tmp_path) -> Path:
    """Twelve records in the published layout, of the world's own pictures."""
    cv2 = pytest.importorskip("cv2")
    world = WorldConfig(resolution=SIZE, views=FRAMES, assets=12, scenes=1)
    assets = make_assets(0, "train", 12)
    chunk = next(iter(world_source(world, assets, "train", torch.device("cpu"))))
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
    records = read_records(published, VIEWS)
    targets = torch.load(published / "targets.pt", weights_only=True)
    views = torch.load(published / "views.pt", weights_only=True)
    found = []
    for split in ("train", "held_out"):
        for chunk in published_source(records, split, VIEWS, SIZE):
            i = int(chunk.kinds[0].split()[-1])
            found.append(i)
            assert torch.equal(chunk.targets[0, 0], targets[i, 0])
            wanted = views[i][:, ::3].float()  # frames i * (9 // 3)
            assert chunk.views[0].shape == wanted.shape
            assert (chunk.views[0].float() - wanted).abs().mean() < 12  # mp4 is lossy
    assert sorted(found) == list(range(12))


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


CONFIG = """
[world]
resolution = 32
views = 2
assets = 6
scenes = 2
chunk = 4
workers = 1

[dataset]
path = "{path}"

[autoencoder]
steps = 2
batch = 4
pool = 4

[base]
steps = 2
batch = 4
single_blocks = 1
double_blocks = 1
text_width = 32
context_every = 0

[refany3d.full]
steps = 2
batch = 4
rank = 2
shared_targets = 2
train_base = true
"""


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "refany3d_core.training", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_commands_build_train_and_evaluate(tmp_path):
    config, shards, output = tmp_path / "c.toml", tmp_path / "shards", tmp_path / "run"
    config.write_text(CONFIG.format(path=shards.as_posix()))
    refused = run("train", config, "--output", output)
    assert refused.returncode == 2
    assert "'shards' has no shard train_*.safetensors" in refused.stderr
    for split in ("train", "held_out"):
        built = run("build", config, "--output", shards, "--split", split)
        assert "2 shards" in built.stdout, built.stderr
    trained = run("train", config, "--output", output)
    assert trained.returncode == 0, trained.stderr
    names = {p.name for p in (output / "full").iterdir()}
    assert {"default.safetensors", "coord.safetensors", "domain_embedder.safetensors"} <= names
    judged = run("evaluate", config, "--output", output, "--count", 2, "--steps", 2,
                 "--references", "right,none", "--matches")  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    assert "| full, right references | full, none references |" in judged.stdout
    rows = (output / "evaluation" / "full_count-2_steps-2.csv").read_text().splitlines()
    assert len(rows) == 3 and "matches" in rows[0]
