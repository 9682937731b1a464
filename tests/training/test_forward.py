"""The training forward: shared references, published files, peft, and the pack's own nodes."""

from pathlib import Path

import pytest
import torch

from refany3d_core.host.train import TrainingForward, differentiable
from refany3d_core.host.trainable import FILES, TrainableAdapters
from refany3d_core.host.transformer import BranchAttention
from refany3d_core.training.checkpoint import load_tensors, save_tensors
from refany3d_core.training.objectives import refany3d_loss

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"


@pytest.fixture
def adapters(transformer) -> TrainableAdapters:
    """New adapters with nothing at zero."""
    torch.manual_seed(7)
    adapters = TrainableAdapters(transformer, 6)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return adapters


def _gradients(forward, batch) -> tuple[torch.Tensor, torch.Tensor]:
    forward.adapters.zero_grad(set_to_none=True)
    with differentiable(forward.transformer):
        loss, _ = refany3d_loss(forward, batch, torch.float32)
        loss.backward()
    grads = [p.grad for p in forward.adapters.parameters() if p.grad is not None]
    return loss.detach(), torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_shared_references_are_those_that_see_only_their_pair(
    transformer, adapters, tools, monkeypatch, checkpointing
):
    """Two assets with three targets each, against six samples that carry their own references."""
    shared = tools.random_batch(6, 2)
    rows = shared.references.repeat_interleave(3, 0)
    alone = shared.__class__(**{**vars(shared), "references": rows})
    forward = TrainingForward(transformer, adapters, gradient_checkpointing=checkpointing)
    found = _gradients(forward, shared)
    real = BranchAttention.__init__

    def isolated(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self.isolated = True

    monkeypatch.setattr(BranchAttention, "__init__", isolated)
    wanted = _gradients(forward, alone)
    assert torch.allclose(found[0], wanted[0], rtol=1e-5)
    assert (found[1] - wanted[1]).norm() < 1e-5 * wanted[1].norm()


def test_the_base_is_as_it_was_after_a_step(transformer, adapters, tools):
    before = {k: v.clone() for k, v in transformer.state_dict().items()}
    _gradients(TrainingForward(transformer, adapters), tools.random_batch(1, 1))
    import comfy.model_management

    assert not comfy.model_management.in_training
    assert all(torch.equal(v, before[k]) for k, v in transformer.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in transformer.modules())


def test_peft_reads_the_saved_files_on_the_published_names(transformer, adapters, tmp_path):
    """The files as peft's own state on modules of the published names give the same deltas."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    from refany3d_core.host.trainable import published_sizes

    tensors = {k: v.detach() for k, v in adapters.published()["default"].items()}
    save_tensors(tmp_path / "default.safetensors", tensors)
    root = torch.nn.Module()
    for name, (inputs, outputs) in published_sizes(transformer).items():
        module = root
        *parents, last = f"transformer.{name}".split(".")
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, torch.nn.Module())
            module = module.get_submodule(parent)
        layer = torch.nn.Linear(inputs, outputs, bias=False)
        torch.nn.init.zeros_(layer.weight)
        module.add_module(last, layer)
    targets = [n for n, m in root.named_modules() if isinstance(m, torch.nn.Linear)]
    inject_adapter_in_model(LoraConfig(r=6, lora_alpha=6, target_modules=targets), root)
    found = set_peft_model_state_dict(root, load_tensors(tmp_path / "default.safetensors"))
    assert not found.unexpected_keys
    for name, pair in adapters.default.pairs().items():
        layer = root.get_submodule(f"transformer.{name}")
        x = torch.randn(3, layer.in_features)
        assert torch.allclose(layer(x), x @ pair.down.T @ pair.up.T, atol=1e-5), name


def test_published_files_of_another_rank_are_refused(transformer, adapters):
    other = TrainableAdapters(transformer, 3)
    files = {file: load_tensors(GOLDEN / f"{file}.safetensors") for file in FILES}
    with pytest.raises(ValueError, match="belong to another model or rank"):
        other.load_published(files)
