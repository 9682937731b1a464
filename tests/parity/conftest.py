"""The golden model, inputs and outputs of the published implementation, and stock sampling."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "golden"


class FixedNoise:
    """A NOISE that gives the tensor it was made with."""

    seed = 0

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise = noise

    def generate_noise(self, latent: dict) -> torch.Tensor:
        assert latent["samples"].shape == self.noise.shape
        return self.noise


class Golden:
    """The golden set, with the pack's nodes around it."""

    def __init__(self, pack) -> None:
        import comfy.sd
        from safetensors.torch import load_file

        self.inputs = load_file(GOLDEN / "inputs.safetensors")
        self.expected = load_file(GOLDEN / "expected.safetensors")
        self.nodes = pack.nodes
        self.core = pack.core
        self.model = comfy.sd.load_diffusion_model(
            str(GOLDEN / "flux.safetensors"), model_options={"dtype": torch.float32}
        )
        self.latent_format = self.model.model.latent_format
        (self.adapters,) = self.load_adapters()

    @staticmethod
    def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
        """Relative L2 error."""
        return ((actual - expected).norm() / expected.norm()).item()

    def expect(self, name: str) -> torch.Tensor:
        """An expected output of 8 x 8 packed tokens as a latent [B, 16, 16, 16]."""
        grid = self.expected[name].reshape(-1, 8, 8, 16, 2, 2)
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, 16, 16, 16)

    def joint(self, *names: str) -> torch.Tensor:
        """Inputs side by side: the RGB and the point-map panel."""
        return torch.cat([self.inputs[name] for name in names], dim=-1)

    def load_adapters(self, **files: str):
        names = {
            "reference_lora": "default.safetensors",
            "domain_lora": "coord.safetensors",
            "domain_embedder": "domain_embedder.pth",
        }
        return self.nodes["RefAny3D_LoadAdapters"].execute(**{**names, **files}).result

    def reference(self, views: torch.Tensor, maps: torch.Tensor, black: torch.Tensor | None = None):
        """Model-space latents as the VAE node would have given them."""
        black = self.inputs["black_latent"] if black is None else black
        out = self.latent_format.process_out
        return self.core("reference").Reference(out(views), out(maps), out(black))

    def golden_reference(self):
        latents = self.inputs["cond_latents"]
        return self.reference(latents[:2], latents[2:])

    def positive(self, guidance: float = 3.5):
        options = {"pooled_output": self.inputs["pooled"], "guidance": guidance}
        return [[self.inputs["prompt_embeds"], options]]

    def apply(self, reference=None, size: int | tuple[int, int] = 128, batch_size=1, **ablation):
        width, height = (size, size) if isinstance(size, int) else size
        reference = self.golden_reference() if reference is None else reference
        out = self.nodes["RefAny3D_Apply"].execute(
            self.model, self.adapters, reference, self.positive(), width, height, batch_size,
            **ablation,
        )  # fmt: skip
        return SimpleNamespace(**dict(zip(("model", "positive", "negative", "latent"), out.result)))

    def sample(self, applied, noise: torch.Tensor, sigmas: torch.Tensor, cfg: float):
        """SamplerCustomAdvanced with CFGGuider and Euler; gives model-space latents."""
        import comfy.samplers
        from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced

        (guider,) = CFGGuider.execute(applied.model, applied.positive, applied.negative, cfg).result
        out = SamplerCustomAdvanced.execute(
            FixedNoise(noise),
            guider,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            applied.latent,
        )
        return self.latent_format.process_in(out.result[0]["samples"])

    def plain(self, oracle, references: torch.Tensor, masked: bool) -> torch.Tensor:
        """The oracle's velocity of the golden inputs, for any references."""
        inputs = self.inputs
        return oracle.predict(
            self.joint("rgb_latent", "pm_latent"), inputs["timestep"], inputs["prompt_embeds"],
            inputs["pooled"], inputs["guidance"], references, masked,
        )  # fmt: skip

    def velocity(self, applied, x: torch.Tensor, timestep: float, cfg: float):
        """One Euler step from x to 0 gives x - t v; both panels of v."""
        denoised = self.sample(applied, x / timestep, torch.tensor([timestep, 0.0]), cfg)
        return ((x - denoised) / timestep).chunk(2, dim=-1)


@pytest.fixture(scope="session")
def golden(pack, host_base) -> Golden:
    """The golden set; its adapter files lie in the host's folders under the official names."""
    for folder, name in (
        ("loras", "default.safetensors"),
        ("loras", "coord.safetensors"),
        ("refany3d", "domain_embedder.pth"),
        ("refany3d", "domain_embedder.safetensors"),
    ):
        target = host_base / "models" / folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(GOLDEN / name, target)
    return Golden(pack)


@pytest.fixture(scope="session")
def oracle(golden, host_base):
    """The plain oracle of the benchmarks on the golden weights."""
    from safetensors.torch import load_file

    from benchmarks.oracle import Oracle

    folder = host_base / "models"
    loras = {
        name: load_file(folder / "loras" / f"{name}.safetensors") for name in ("default", "coord")
    }
    embedder = load_file(folder / "refany3d" / "domain_embedder.safetensors")
    return Oracle(golden.model.model.diffusion_model, loras, embedder)
