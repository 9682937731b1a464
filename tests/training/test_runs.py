"""Whole runs of the command, as a user starts them: the small model from nothing, and a FLUX.1-dev
of small widths from a folder of triplets; killed, resumed, by several processes."""

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from refany3d_core.training.checkpoint import load_metadata, load_tensors
from refany3d_core.training.config import WorldConfig
from refany3d_core.training.small.world.triplets import world_source

FILES = ("default", "coord", "domain_embedder")
# the last two are held out by their names
ITEMS = ("thing 0", "thing 1", "thing 2", "thing 3", "thing 8", "thing 20")
SMALL = """
[world]
resolution = 64
views = 2
assets = 8
scenes = 2
chunk = 4

[autoencoder]
steps = 2
batch = 4
pool = 4

[base]
steps = 2
batch = 4
hidden = 128
single_blocks = 1
double_blocks = 1
text_width = 32

[refany3d.full]
steps = 2
batch = 4
rank = 2
shared_targets = 2
train_base = true
gradient_checkpointing = false
optimizer = "muon"
learning_rate = 1e-3
sample_steps = 2

[refany3d.published]
like = "full"
start = "full"
train_base = false
shared_targets = 0

[refany3d.one_view]
like = "full"
start = "full"
reference_views = 1
point_maps = false

[refany3d.dreambooth]
steps = 2
batch = 2
rank = 2
shared_targets = 2
start = "full"
train_base = true
gradient_checkpointing = false
optimizer = "muon"
learning_rate = 1e-3
samples = 0
point_maps = false
reference_drop = 1.0
"""
FLUX = """
[models]
base = "standin_flux.safetensors"
text_encoders = ["standin_clip_l.safetensors", "standin_clip_l.safetensors"]
text_type = "sd3"
vae = "standin_vae.safetensors"

[dataset]
path = "{path}"
resolution = 64
views = 2

[refany3d.full]
steps = {steps}
batch = {batch}
rank = 4
optimizer = "{optimizer}"
learning_rate = {rate}
checkpoint_steps = 3
log_every = 5
samples = 1
sample_steps = 2
"""


def write_dataset(folder: Path, records: int = 6, side: int = 64) -> None:
    """A dataset in the published layout, of the procedural world's own pictures."""
    av = pytest.importorskip("av")
    world = WorldConfig(resolution=side, views=4, assets=records, scenes=1)
    chunk = world_source(world, "train").make(0)
    entries = []
    for i in range(records):
        names = {"json": f"{i}.json", "image": f"{i}.png", "video": f"{i}_rgb.mkv",
                 "coord": f"{i}_map.mkv", "pose_coord": f"{i}_map.png"}  # fmt: skip
        text = {"text": chunk.captions[i][0], "item": ITEMS[i]}
        (folder / names["json"]).write_text(json.dumps(text))
        rgb, point_map = (x.permute(1, 2, 0).numpy() for x in chunk.targets[i, 0])
        Image.fromarray(rgb).save(folder / names["image"])
        alpha = ((point_map < 255).any(-1) * 255).astype(np.uint8)
        Image.fromarray(np.dstack([point_map, alpha])).save(folder / names["pose_coord"])
        for key, frames in (("video", chunk.views[i, 0]), ("coord", chunk.views[i, 1])):
            with av.open(str(folder / names[key]), "w") as video:
                stream = video.add_stream("ffv1", rate=8)
                stream.width = stream.height = side
                stream.pix_fmt = "bgr0"
                for frame in frames:
                    pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
                    video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                video.mux(stream.encode())
        entries.append(names)
    (folder / "meta_data.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory, standin_models) -> Path:
    """A base directory of ComfyUI with the stand-in models."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "models").symlink_to(standin_models, target_is_directory=True)
    return folder


def flux(folder: Path, dataset: Path, optimizer: str = "adamw", steps: int = 20, batch: int = 1):
    config = folder / "flux.toml"
    rate = 1.0 if optimizer == "prodigy" else 1e-3
    config.write_text(FLUX.format(
        path=dataset.as_posix(), optimizer=optimizer, rate=rate, steps=steps, batch=batch
    ))  # fmt: skip
    return config


def published(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file}.{key}": value
        for file in FILES
        for key, value in load_tensors(folder / f"{file}.safetensors").items()
    }


@pytest.fixture(scope="module")
def small(tools, tmp_path_factory) -> tuple[Path, Path]:
    """A configuration and the folder of its run: all stages but the one of a single subject."""
    folder = tmp_path_factory.mktemp("small")
    config, output = folder / "c.toml", folder / "run"
    config.write_text(SMALL)
    stages = ("--stages", "autoencoder,base,full,published,one_view")
    trained = tools.run("train", config, "--output", output, *stages)
    assert trained.returncode == 0, trained.stderr
    for variant in ("full", "published", "one_view"):
        assert all((output / variant / f"{file}.safetensors").is_file() for file in FILES)
    assert (output / "full" / "samples" / "adapters_end.png").is_file()
    again = tools.run("train", config, "--output", output, *stages)
    assert again.returncode == 0 and "full is finished already" in again.stdout
    return config, output


def test_the_small_model_trains_from_nothing_and_is_judged(tools, small, dataset, tmp_path):
    config, output = small
    judged = tools.run("evaluate", config, "--model", output / "full", "--output",
                       tmp_path / "judged", "--count", 2, "--steps", 2, "--references",
                       "right,none", "--samplers", "lcm", "--bounds", "--matches")  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    header = "| measure | lcm, right references | lcm, none references | another picture |"
    assert header in judged.stdout and "| map_error |" in judged.stdout
    assert "asked_iou" not in judged.stdout
    with open(tmp_path / "judged" / "lcm_right_references.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and "matches" in rows[0]
    with_set = tmp_path / "dataset.toml"
    with_set.write_text(f'[dataset]\npath = "{dataset.as_posix()}"\nresolution = 64\nviews = 2\n')
    ours = ("evaluate", with_set, "--model", output / "full", "--output", tmp_path / "compared",
            "--count", 2, "--steps", 2, "--references", "right")  # fmt: skip
    refused = tools.run(*ours)
    assert refused.returncode == 2 and "records of a dataset carry no mesh" in refused.stderr
    compared = tools.run(*ours, "--matches", "--bounds")
    assert compared.returncode == 0 and "| matches |" in compared.stdout, compared.stderr
    bundled = tools.run("bundle", "--output", output, "--to", tmp_path / "bundle")
    assert bundled.returncode == 0 and len(list((tmp_path / "bundle").iterdir())) == 6


def test_an_asked_pose_and_a_method_without_maps_are_judged(tools, small, tmp_path):
    config, output = small
    settings = ("--count", 2, "--steps", 2, "--references", "right", "--matches")
    one_view = tools.run("evaluate", config, "--model", output / "one_view", "--output",
                         tmp_path / "one", *settings, "--estimate")  # fmt: skip
    assert one_view.returncode == 0, one_view.stderr
    assert "map_error" not in one_view.stdout and "| estimate_posed |" in one_view.stdout
    # By the model that comes with the pack: a decoder of a few steps shows no map.
    locked = tools.run("evaluate", "--output", tmp_path / "locked", *settings, "--locked")
    assert "| matched_share |" in locked.stdout and "| asked_iou |" in locked.stdout, locked.stderr
    with open(tmp_path / "locked" / "euler_right_references.csv") as file:
        assert all(float(row["silhouette_iou"]) > 0.9 for row in csv.DictReader(file))


def test_a_model_of_one_subject_is_trained_on_its_views_and_judged_on_it(tools, small, tmp_path):
    config, output = small
    subject = tools.run("train", config, "--output", output, "--stages", "subject_5", "--set",
                        "refany3d.subject_5.like=dreambooth", "--set",
                        "world.subject=5")  # fmt: skip
    assert subject.returncode == 0 and "1 assets encoded" in subject.stdout, subject.stderr
    judged = tools.run("evaluate", config, "--model", output / "subject_{}", "--output",
                       tmp_path / "each", "--first", 5, "--count", 1, "--steps", 2,
                       "--references", "none", "--matches", "--set",
                       "refany3d.subject_{}.like=dreambooth")  # fmt: skip
    assert judged.returncode == 0 and "| matches |" in judged.stdout, judged.stderr


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
def test_flux_trains_and_a_killed_run_ends_with_the_same_weights(
    tools, dataset, base, tmp_path, optimizer
):
    config = flux(tmp_path, dataset, optimizer)
    where = ("--base-directory", base, "--cache", tmp_path / "cache")
    whole = tools.run("train", config, "--output", tmp_path / "whole", *where)
    assert whole.returncode == 0, whole.stderr
    assert "training takes about" in whole.stdout
    process = subprocess.Popen(
        tools.command("train", config, "--output", tmp_path / "parts", *where),
        env=tools.environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    checkpoint = tmp_path / "parts" / "full" / "adapters.resume.safetensors"
    limit = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert int(load_metadata(checkpoint)["step"]) < 20
    rest = tools.run("train", config, "--output", tmp_path / "parts", *where)
    assert rest.returncode == 0 and "going on from step" in rest.stdout, rest.stderr
    ours, wanted = published(tmp_path / "parts" / "full"), published(tmp_path / "whole" / "full")
    assert sorted(ours) == sorted(wanted)
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)
    assert any(v.any() for k, v in wanted.items() if "lora_B" in k)
    with open(tmp_path / "parts" / "full" / "adapters.csv") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps)) and steps[-1] == 20


def test_two_processes_take_the_steps_of_one_with_the_double_batch(tools, dataset, base, tmp_path):
    where = ("--base-directory", base, "--cache", tmp_path / "cache")
    one = tools.run("train", flux(tmp_path, dataset, steps=3, batch=2), "--output",
                    tmp_path / "one", *where)  # fmt: skip
    assert one.returncode == 0, one.stderr
    config = flux(tmp_path, dataset, steps=3, batch=1)
    two = tools.run("train", config, "--output", tmp_path / "two", "--processes", 2, *where,
                    processes=2)  # fmt: skip
    assert two.returncode == 0, two.stderr
    state = [load_tensors(tmp_path / name / "full" / "adapters.resume.safetensors")
             for name in ("one", "two")]  # fmt: skip
    moments = [key for key in state[0] if "exp_avg." in key]
    assert moments
    for key in moments:  # the average of the gradients
        off, size = (state[0][key] - state[1][key]).norm(), state[0][key].norm()
        assert off <= 1e-4 * size + 1e-9, key
    alone = tools.run("train", config, "--output", tmp_path / "x", "--processes", 2, *where)
    assert alone.returncode == 2 and "2 processes are wanted and 1 run" in alone.stderr


def test_two_processes_are_killed_and_go_on(tools, dataset, base, tmp_path):
    where = ("--base-directory", base, "--cache", tmp_path / "cache")
    config = flux(tmp_path, dataset, steps=12)
    whole = tools.run("train", config, "--output", tmp_path / "whole", *where, processes=2)
    assert whole.returncode == 0, whole.stderr
    parts = ("train", config, "--output", tmp_path / "parts", *where)
    process = subprocess.Popen(
        tools.command(*parts, processes=2), env=tools.environment(), cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    checkpoint = tmp_path / "parts" / "full" / "adapters.resume.safetensors"
    limit = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.kill()
    process.wait()
    rest = tools.run(*parts, processes=2)
    assert rest.returncode == 0, rest.stderr
    ours, wanted = published(tmp_path / "parts" / "full"), published(tmp_path / "whole" / "full")
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


def test_what_is_missing_is_a_sentence(tools, dataset, base, tmp_path):
    for change, text in (
        (("models.base=nothing.safetensors",), "there is no 'nothing.safetensors' (base)"),
        (("models.base=x.gguf",), "ComfyUI reads no GGUF by itself"),
        (("dataset.views=9",), "frames are too few for 9 views"),
        (("refany3d.full.optimizer=sgd",), "optimizer is 'sgd'"),
        (("dataset.resolution=50",), "resolution is 50, expected a multiple of 16"),
    ):
        done = tools.run(
            "train", flux(tmp_path, dataset), "--output", tmp_path / "bad", "--base-directory",
            base, *(part for setting in change for part in ("--set", setting)),
        )  # fmt: skip
        assert done.returncode == 2 and text in done.stderr, (change, done.stderr)
    missing = tools.run("train", tmp_path / "no.toml", "--output", tmp_path / "bad")
    assert missing.returncode == 2 and "there is no configuration" in missing.stderr


def test_help_lists_all_commands(tools):
    text = tools.run("--help").stdout
    assert all(name in text for name in ("train", "verify", "build", "bundle", "evaluate"))
