"""The trainer's own forward meets the published implementation's outputs."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refany3d_core.training.adapters import Adapters, domain_embedder
from refany3d_core.training.sequence import make_sequence
from refany3d_core.training.transformer import Flux, FluxShape

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "golden"


def floats(name: str) -> dict[str, torch.Tensor]:
    return {key: value.float() for key, value in load_file(GOLDEN / name).items()}


@pytest.fixture(scope="module")
def model() -> Flux:
    """The golden base, by the host's own conversion to the original layout."""
    from comfy.model_detection import convert_diffusers_mmdit

    weights = convert_diffusers_mmdit(floats("flux.safetensors"))
    flux = Flux(FluxShape(256, 1, 2, 64, 32))
    flux.load_state_dict({k.replace("_norm.weight", "_norm.scale"): v for k, v in weights.items()})
    return flux


@pytest.mark.parametrize("case", ["a_cond", "b_uncond"])
def test_forward_meets_the_golden_set(model, case):
    inputs, expected = floats("inputs.safetensors"), floats("expected.safetensors")
    adapters = Adapters(model.shape, 4)
    adapters.reference.load_published(floats("default.safetensors"))
    adapters.domain.load_published(floats("coord.safetensors"))
    embedder = domain_embedder(256)
    embedder.load_state_dict(floats("domain_embedder.safetensors"))
    sequence = make_sequence(12, (8, 8), (8, 8), 2, "cpu")
    if case == "a_cond":
        # In our order: map references, then RGB references.
        references = [inputs["cond_tokens"][i : i + 1] for i in (2, 3, 0, 1)]
    else:
        sequence = dataclasses.replace(sequence, isolated=False)
        references = [inputs["black_tokens"]] * 4
    tokens = torch.cat([inputs["rgb_tokens"], inputs["pm_tokens"], *references], dim=1)
    with torch.no_grad():
        out = model(
            sequence, tokens, inputs["prompt_embeds"], inputs["pooled"], inputs["timestep"],
            inputs["guidance"], adapters.deltas(), embedder(torch.arange(2)),
        )  # fmt: skip
    wanted = torch.cat([expected[f"{case}.rgb"], expected[f"{case}.pm"]], dim=1)
    assert ((out - wanted).norm() / wanted.norm()).item() < 1e-5
