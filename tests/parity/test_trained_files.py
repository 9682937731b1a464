"""What the trainer saves gives the trainer's own prediction back through the pack's nodes."""

from pathlib import Path

import pytest
import torch

from refany3d_core.training.adapters import Adapters
from refany3d_core.training.checkpoint import load_tensors, save_tensors
from refany3d_core.training.sequence import make_sequence
from refany3d_core.training.transformer import Flux, FluxShape

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "golden"
STEMS = ("default", "coord", "domain_embedder")


@pytest.fixture
def trained(host_base) -> Adapters:
    """New adapters with nothing at zero, saved as training saves them and read back as saved."""
    torch.manual_seed(7)
    adapters = Adapters(FluxShape(256, 1, 2, 64, 32), rank=6)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    folder = host_base / "models" / "refany3d"
    for stem, tensors in adapters.published().items():
        save_tensors(folder / f"trained_{stem}.safetensors", tensors)
    files = {stem: load_tensors(folder / f"trained_{stem}.safetensors") for stem in STEMS}
    adapters.load_published(files)
    return adapters


def test_saved_files_give_the_trainers_prediction(golden, trained, monkeypatch):
    from comfy.model_detection import convert_diffusers_mmdit

    weights = {k: v.float() for k, v in load_tensors(GOLDEN / "flux.safetensors").items()}
    weights = convert_diffusers_mmdit(weights)
    flux = Flux(trained.reference.shape)
    flux.load_state_dict({k.replace("_norm.weight", "_norm.scale"): v for k, v in weights.items()})
    inputs = {k: v.float() for k, v in golden.inputs.items()}
    tokens = [inputs["rgb_tokens"], inputs["pm_tokens"]]
    tokens += [inputs["cond_tokens"][i : i + 1] for i in (2, 3, 0, 1)]
    with torch.no_grad():
        wanted = flux(
            make_sequence(12, (8, 8), (8, 8), 2, "cpu"), torch.cat(tokens, 1),
            inputs["prompt_embeds"], inputs["pooled"], inputs["timestep"], inputs["guidance"],
            trained.deltas(), trained.domain_tokens(),
        )  # fmt: skip

    (loaded,) = golden.load_adapters(
        reference_lora="trained_default.safetensors",
        domain_lora="trained_coord.safetensors",
        domain_embedder="trained_domain_embedder.safetensors",
    )
    monkeypatch.setattr(golden, "adapters", loaded)
    x = golden.joint("rgb_latent", "pm_latent")
    found = golden.velocity(golden.apply(), x, golden.inputs["timestep"].item(), cfg=1.0)
    for ours, theirs in zip(found, wanted.chunk(2, dim=1)):
        grid = theirs.reshape(-1, 8, 8, 16, 2, 2).permute(0, 3, 1, 4, 2, 5)
        assert golden.error(ours, grid.reshape(-1, 16, 16, 16)) < 1e-5
