"""Wrong model files and settings through the server: a sentence, and the server goes on.

The sentences for each kind of damage are tested in tests/parity; here it is the server that counts.
"""

import re

import pytest
import torch
from safetensors.torch import save_file

import standins
from comfy_server import ServerError

pytestmark = pytest.mark.server


@pytest.fixture
def models(server):
    return server.base / "models"


@pytest.fixture
def refusal(server, template_graph):
    """`refusal(changes)`: the message with which a changed template fails.

    Afterwards the server must still run, and the next prompt must go through.
    """

    def run(changes: dict, template: str = "with its point map") -> str:
        graph = template_graph(template, changes)
        with pytest.raises(ServerError) as error:
            server.run(graph)
        # The host runs the outputs that the refused node does not reach, such as the views.
        server.wait_until_idle()
        assert server.running()
        return str(error.value)

    yield run
    server.run(template_graph("with its point map", {"RefAny3D_Sampler": {"steps": 1}}))


def says(message: str, *parts: str) -> None:
    """The message has all parts (regular expressions, any case) and is a sentence, no code."""
    for part in parts:
        assert re.search(part, message, re.IGNORECASE), f"{part!r} is not in: {message}"
    assert "Traceback" not in message
    assert not re.search(r"(KeyError|IndexError|AttributeError|RuntimeError):?\s", message)


def save_lora(folder, name: str, **options) -> str:
    save_file(standins.lora_state_dict(seed=7, **options), folder / "loras" / name)
    return name


def test_loras_for_a_model_of_another_width(models, refusal):
    names = {
        "reference_lora": save_lora(models, "wide_default.safetensors", hidden=384),
        "domain_lora": save_lora(models, "wide_coord.safetensors", hidden=384),
        "domain_embedder": "wide_embedder.pth",
    }
    wide = standins.domain_embedder_state_dict(hidden=384)
    torch.save(wide, models / "refany3d" / "wide_embedder.pth")
    says(refusal({"RefAny3D_LoadAdapters": names}), "RefAny3D", "384", "256")


def test_a_cut_lora_file(models, refusal):
    whole = (models / "loras" / "standin_default.safetensors").read_bytes()
    (models / "loras" / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    message = refusal({"RefAny3D_LoadAdapters": {"reference_lora": "cut.safetensors"}})
    says(message, "reference_lora", "cut.safetensors", "cannot be read|download")


class Bomb:
    """Unpickles to a call that leaves a trace."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_a_pickle_that_carries_code_is_not_run(models, refusal, tmp_path):
    trace = tmp_path / "code_was_run"
    torch.save({"0.weight": Bomb(trace)}, models / "refany3d" / "bomb.pth")
    message = refusal({"RefAny3D_LoadAdapters": {"domain_embedder": "bomb.pth"}})
    says(message, "domain_embedder", "bomb.pth", "refused")
    assert not trace.exists()


def test_a_file_that_is_not_there(refusal):
    message = refusal({"RefAny3D_LoadAdapters": {"reference_lora": "nowhere.safetensors"}})
    assert "nowhere.safetensors" in message and "reference_lora" in message


def test_a_model_that_is_chroma(models, refusal):
    """Chroma has Flux's blocks but another modulation; enough of its keys to be loaded as such."""
    state = {
        key: tensor.bfloat16() for key, tensor in standins.flux_state_dict().items()
        if not key.startswith(("guidance_in", "vector_in", "time_in"))
    }  # fmt: skip
    state["distilled_guidance_layer.norms.0.scale"] = torch.ones(5120, dtype=torch.bfloat16)
    save_file(state, models / "diffusion_models" / "chroma.safetensors")
    message = refusal({"UNETLoader": {"unet_name": "chroma.safetensors"}})
    says(message, "RefAny3D Sampler|Apply RefAny3D", "Chroma", "FLUX.1")


def test_a_vae_with_four_channels(models, refusal):
    save_file(standins.vae_state_dict(channels=4), models / "vae" / "four.safetensors")
    message = refusal({"VAELoader": {"vae_name": "four.safetensors"}})
    says(message, "Point Map Encode", "vae", "4", "16")


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        ({"width": 32}, ["RefAny3D Sampler", "width", "32", "64"]),
        ({"height": 0}, ["RefAny3D Sampler", "height", "0", "64"]),
        ({"width": 130}, ["RefAny3D Sampler", "width", "130", "16"]),
    ],
)
def test_sizes_out_of_range(refusal, size, parts):
    says(refusal({"RefAny3D_Sampler": size}), *parts)
