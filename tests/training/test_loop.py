"""The loop goes on from a checkpoint exactly, and a half-written file never loads."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from refany3d_core.int8_rows import dequantise_rows, quantise_rows
from refany3d_core.training.config import StageConfig, load_config
from refany3d_core.training.loop import Interrupted, Loop, make_accelerator

ROOT = Path(__file__).resolve().parents[2]


def _loop(folder, steps, optimizer="adamw", watch=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    target = torch.arange(12.0).reshape(3, 4)

    def step(index):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(index))
        loss = (model(x) - x @ target.T).square().mean()
        loss.backward()
        return loss, {"mse": loss}

    rate = 1.0 if optimizer == "prodigy" else 0.05
    config = StageConfig(
        steps=steps, batch=8, learning_rate=rate, warmup=3, log_every=5, ema=0.9,
        optimizer=optimizer,
    )  # fmt: skip
    named = dict(model.named_parameters())
    return Loop("line", config, named, step, folder, make_accelerator("cpu"), watch=watch), model


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, optimizer):
    whole, expected = _loop(tmp_path / "whole", 30, optimizer)
    whole.run()

    def stop(done, steps, loss):
        if done == 12:
            raise Interrupted

    first, _ = _loop(tmp_path / "parts", 30, optimizer, stop)
    with pytest.raises(Interrupted):  # which saves first
        first.run()
    second, model = _loop(tmp_path / "parts", 30, optimizer)
    assert second.resume()
    assert second.done == 12
    second.run()
    assert torch.equal(model.weight, expected.weight)
    assert torch.equal(model.bias, expected.bias)
    lines = (tmp_path / "parts" / "line.csv").read_text().splitlines()
    steps = [int(line.split(",")[0]) for line in lines[1:]]
    assert lines[0].startswith("step,") and steps == sorted(set(steps)) and steps[-1] == 30


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    first, _ = _loop(tmp_path, 3)
    first.run()
    second, _ = _loop(tmp_path, 3)
    second.made_of = "another set"
    with pytest.raises(ValueError, match="is the checkpoint of another run"):
        second.resume()


TRAINER = """
import sys, torch
from pathlib import Path
from refany3d_core.training.config import StageConfig
from refany3d_core.training.loop import Loop, make_accelerator

model = torch.nn.Linear(400, 400)
def step(index):
    loss = model(torch.randn(2, 400)).square().mean()
    loss.backward()
    return loss, {}
config = StageConfig(steps=10**6, checkpoint_seconds=0.0, log_every=10**6)
named = dict(model.named_parameters())
loop = Loop("line", config, named, step, Path(sys.argv[1]), make_accelerator("cpu"))
loop.resume()
print(loop.done, flush=True)
loop.run()
"""


def _start(folder: Path, before: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", before + TRAINER, folder], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _saved_step(path: Path) -> int:
    if not path.exists():
        return -1
    with safe_open(path, "pt") as f:
        return int(f.metadata()["step"])


def test_a_killed_process_leaves_a_checkpoint_that_loads(tmp_path):
    done = []
    for milliseconds in (0, 7, 23):  # somewhere in a step, a write or a rename
        process = _start(tmp_path)
        done.append(int(process.stdout.readline()))
        path = tmp_path / "line.resume.safetensors"
        limit = time.monotonic() + 300
        while _saved_step(path) <= done[-1] and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(milliseconds / 1000)
        process.kill()
        process.communicate()
        with safe_open(path, "pt") as f:
            saved = int(f.metadata()["step"])
            assert f.get_tensor("parameter.weight").isfinite().all()
        assert saved > done[-1]
    assert done == sorted(set(done))


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a Unix thing")
def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(tmp_path):
    first = _start(tmp_path)
    path = tmp_path / "line.resume.safetensors"
    while not path.exists():
        time.sleep(0.01)
    first.kill()
    first.communicate()
    before = path.read_bytes()
    limited = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2}))
"""
    _, errors = _start(tmp_path, limited).communicate(timeout=600)
    assert "line.resume.safetensors cannot be written" in errors
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    loop, model = _loop(tmp_path, 30)
    nothing = lambda index: (model.weight.detach().sum() * float("nan"), {})
    loop.step = nothing
    with pytest.raises(ValueError, match="line: the loss is nan at step 1"):
        loop.run()


def test_rows_come_back_within_half_a_level():
    weight = torch.randn(16, 32) * torch.logspace(-3, 1, 16)[:, None]
    tensors = {"w": weight, "w_bias": torch.randn(16), "norm.query_norm.scale": torch.randn(8)}
    back = dequantise_rows(quantise_rows(tensors))
    assert sorted(back) == sorted(tensors)
    level = weight.abs().amax(1, keepdim=True) / 127
    assert ((back["w"] - weight).abs() <= level * 0.501).all()
    assert torch.equal(back["norm.query_norm.scale"], tensors["norm.query_norm.scale"])


WORLD = "[world]\n"


def test_unknown_setting_is_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(WORLD + "[base]\nbacth = 3\n")
    with pytest.raises(ValueError, match=r"\[base\]: unknown setting 'bacth'"):
        load_config(path)
    path.write_text(WORLD + '[base]\nbatch = "3"\n')
    with pytest.raises(ValueError, match="'batch' is '3', expected int"):
        load_config(path)


def test_a_variant_like_another(tmp_path):
    path = tmp_path / "c.toml"
    table = WORLD + "[refany3d.a]\nrank = 7\nbatch = 5\n[refany3d.b]\nlike = 'a'\nbatch = 6\n"
    path.write_text(table)
    b = load_config(path).refany3d["b"]
    assert (b.rank, b.batch) == (7, 6)
    path.write_text(table + "[refany3d.c]\nlike = 'b'\n")
    with pytest.raises(ValueError, match=r"\[refany3d.c\]: like is 'b'"):
        load_config(path)
