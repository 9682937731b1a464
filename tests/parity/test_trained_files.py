"""What the trainer saves gives the trainer's own prediction back through the pack's nodes."""

import pytest
import torch
from safetensors.torch import load_file, save_file

FILES = ("default", "coord", "domain_embedder")


@pytest.fixture
def trained(golden, host_base):
    """New adapters with nothing at zero, saved as training saves them and read back as saved."""
    transformer = golden.model.model.diffusion_model
    torch.manual_seed(7)
    adapters = golden.core("host.trainable").TrainableAdapters(transformer, rank=6)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    folder = host_base / "models" / "refany3d"
    for file, tensors in adapters.published().items():
        values = {key: tensor.detach().bfloat16() for key, tensor in tensors.items()}
        save_file(values, folder / f"trained_{file}.safetensors")
    files = {file: load_file(folder / f"trained_{file}.safetensors") for file in FILES}
    adapters.load_published(files)
    return adapters


def test_saved_files_give_the_trainers_prediction(golden, trained, monkeypatch):
    inputs = {k: v.float() for k, v in golden.inputs.items()}
    train, transformer = golden.core("host.train"), golden.core("host.transformer")
    model = golden.model.model.diffusion_model
    views, maps = inputs["cond_latents"].chunk(2)
    x = golden.joint("rgb_latent", "pm_latent")
    given = transformer.Inputs(
        x.float(), inputs["timestep"], inputs["prompt_embeds"], inputs["pooled"],
        inputs["guidance"], [*views.split(1), *maps.split(1)],
    )  # fmt: skip
    with train.differentiable(model), torch.no_grad():
        wanted = train.TrainingForward(model, trained)(given)

    (loaded,) = golden.load_adapters(
        reference_lora="trained_default.safetensors",
        domain_lora="trained_coord.safetensors",
        domain_embedder="trained_domain_embedder.safetensors",
    )
    monkeypatch.setattr(golden, "adapters", loaded)
    found = golden.velocity(golden.apply(), x, golden.inputs["timestep"].item(), cfg=1.0)
    for ours, theirs in zip(found, wanted.chunk(2, dim=-1)):
        assert golden.error(ours, theirs) < 1e-5
