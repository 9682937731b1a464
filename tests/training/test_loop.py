"""The loop goes on from a checkpoint exactly, and a half-written file never loads."""

from __future__ import annotations

import pytest
import torch

from refany3d_core.training.checkpoint import dequantise_rows, quantise_rows, save_tensors
from refany3d_core.training.config import StageConfig, load_config
from refany3d_core.training.loop import Loop


def _loop(folder, steps):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    target = torch.arange(12.0).reshape(3, 4)

    def step(index):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(index))
        loss = (model(x) - x @ target.T).square().mean()
        return loss, {"mse": loss}

    config = StageConfig(steps=steps, batch=8, learning_rate=0.05, warmup=3, log_every=5, ema=0.9)
    return Loop("line", config, {"model": model}, step, folder), model


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole, expected = _loop(tmp_path / "whole", 30)
    whole.run()

    first, _ = _loop(tmp_path / "parts", 30)
    stop = first.step

    def interrupted(index):
        if index == 12:
            first.save()
            raise KeyboardInterrupt
        return stop(index)

    first.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second, model = _loop(tmp_path / "parts", 30)
    assert second.resume()
    assert second.done == 12
    second.run()
    assert torch.equal(model.weight, expected.weight)
    assert torch.equal(model.bias, expected.bias)


def test_a_killed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(2)})
    before = path.read_bytes()

    def killed(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(OSError):
        save_tensors(path, {"a": torch.zeros(2)})
    assert path.read_bytes() == before


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    loop, model = _loop(tmp_path, 30)
    loop.step = lambda index: (model.weight.sum() * float("nan"), {})
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


def test_unknown_setting_is_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[base]\nbacth = 3\n")
    with pytest.raises(ValueError, match=r"\[base\]: unknown setting 'bacth'"):
        load_config(path)
    path.write_text('[base]\nbatch = "3"\n')
    with pytest.raises(ValueError, match="'batch' is '3', expected int"):
        load_config(path)
