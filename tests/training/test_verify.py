"""The published training step, through the trainer's own path; and that a wrong one is found."""

import copy
from pathlib import Path

import pytest
import torch

from refany3d_core.training import objectives
from refany3d_core.training.verify import verify

DATA = Path(__file__).resolve().parents[1] / "data"
SET, GOLDEN = DATA / "golden_train", DATA / "golden"
LINES = ["a_normal", "b_references_dropped", "c_text_dropped", "d_batch", "e_start"]


def test_the_command_meets_the_published_step_and_optimisers(tools):
    done = tools.run("verify", SET, GOLDEN)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if ": " in line]
    names = [line.split(":")[0] for line in lines]
    assert [name for name in names if name in (*LINES, "adamw", "prodigy")] == [
        *LINES, "adamw", "prodigy",
    ]  # fmt: skip


def test_gradient_checkpointing_changes_nothing(transformer):
    lines = list(verify(SET, GOLDEN, gradient_checkpointing=True, transformer=transformer))
    assert [line.name for line in lines if not line.passed] == []


def _errors(transformer) -> list[str]:
    found = verify(SET, GOLDEN, transformer=transformer, optimisers=False)
    return [line.name for line in found if not line.passed]


def test_a_wrong_guidance_is_found(transformer, monkeypatch):
    monkeypatch.setattr(objectives, "TRAINING_GUIDANCE", 3.5)
    assert _errors(transformer) == LINES


def test_a_wrong_loss_is_found(transformer, monkeypatch):
    real = objectives.F.mse_loss
    monkeypatch.setattr(objectives.F, "mse_loss", lambda a, b: real(a, b) / 2)
    assert _errors(transformer) == LINES


class _Coded(torch.nn.Module):
    """A linear layer whose weight is stored as codes and unpacked in every call, as GGUF loaders
    do it."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("codes", (layer.weight.detach() * 64).round().to(torch.int8))
        self.bias = layer.bias

    @property
    def weight(self) -> torch.Tensor:
        return self.codes.float() / 64

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)


def _replaced(transformer, make):
    """A copy whose blocks' linear layers are made anew."""
    out = copy.deepcopy(transformer)
    for name, module in list(out.named_modules()):
        if isinstance(module, torch.nn.Linear) and "_blocks." in name:
            parent = out.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], make(module))
    return out


def _step(transformer, batch):
    from refany3d_core.host.train import TrainingForward, differentiable
    from refany3d_core.host.trainable import TrainableAdapters

    torch.manual_seed(3)
    adapters = TrainableAdapters(transformer, 4)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    forward = TrainingForward(transformer, adapters, gradient_checkpointing=True)
    with differentiable(transformer):
        loss, _ = objectives.refany3d_loss(forward, batch, torch.float32)
        loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in adapters.parameters()
                                     if p.grad is not None])  # fmt: skip


@pytest.mark.parametrize("kind", ["fp8", "gguf-like"])
def test_a_quantised_base_trains_as_its_dequantised_twin(transformer, tools, kind):
    if kind == "fp8":
        import comfy.ops

        def coded(layer):
            new = comfy.ops.manual_cast.Linear(
                layer.in_features, layer.out_features, dtype=torch.float8_e4m3fn
            )
            new.weight.data = layer.weight.detach().to(torch.float8_e4m3fn)
            new.bias = torch.nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
            return new.requires_grad_(False)

        def twin(layer):
            new = copy.deepcopy(layer)
            new.weight.data = layer.weight.detach().to(torch.float8_e4m3fn).float()
            return new
    else:
        coded = _Coded

        def twin(layer):
            new = copy.deepcopy(layer)
            new.weight.data = _Coded(layer).weight
            return new

    batch = tools.random_batch(2, 2)
    ours = _step(_replaced(transformer, coded), batch)
    wanted = _step(_replaced(transformer, twin), batch)
    assert torch.allclose(ours[0], wanted[0], rtol=1e-5)
    assert (ours[1] - wanted[1]).norm() < 1e-5 * wanted[1].norm()


def test_a_missing_set_is_a_sentence(tools, tmp_path):
    done = tools.run("verify", tmp_path, GOLDEN)
    assert done.returncode == 2 and "is no golden training set" in done.stderr
