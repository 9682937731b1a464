"""What speeds the method up leaves it unchanged: ours against the plain oracle of the benchmarks.

The oracle meets the golden set itself; then any number of views can be compared, above all the
merged black pair of the unconditional pass against 2n black references.
"""

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.oracle import Oracle

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def oracle(golden, host_base):
    folder = host_base / "models"
    loras = {
        name: load_file(folder / "loras" / f"{name}.safetensors") for name in ("default", "coord")
    }
    embedder = load_file(folder / "refany3d" / "domain_embedder.safetensors")
    return Oracle(golden.model.model.diffusion_model, loras, embedder)


def plain(oracle, golden, references: torch.Tensor, masked: bool) -> torch.Tensor:
    inputs = golden.inputs
    return oracle.predict(
        golden.joint("rgb_latent", "pm_latent"), inputs["timestep"], inputs["prompt_embeds"],
        inputs["pooled"], inputs["guidance"], references, masked,
    )  # fmt: skip


def ours(golden, reference, cfg: float) -> torch.Tensor:
    x = golden.joint("rgb_latent", "pm_latent")
    applied = golden.apply(reference)
    return torch.cat(golden.velocity(applied, x, golden.inputs["timestep"].item(), cfg), dim=-1)


def test_oracle_meets_the_golden_set(golden, oracle):
    for case, references, masked in (
        ("a_cond", golden.inputs["cond_latents"], True),
        ("b_uncond", golden.inputs["black_latent"].expand(4, -1, -1, -1), False),
    ):
        out = plain(oracle, golden, references, masked).chunk(2, dim=-1)
        for branch, actual in zip(("rgb", "pm"), out):
            assert golden.error(actual, golden.expect(f"{case}.{branch}")) < TOLERANCE


@pytest.mark.parametrize("views", [1, 3, 8])
def test_conditional_pass_of_n_views(golden, oracle, views):
    generator = torch.Generator().manual_seed(views)
    latents = torch.randn(2 * views, 16, 16, 16, generator=generator)
    expected = plain(oracle, golden, latents, masked=True)
    actual = ours(golden, golden.reference(latents[:views], latents[views:]), cfg=1.0)
    assert golden.error(actual, expected) < TOLERANCE


@pytest.mark.parametrize("views", [1, 3, 8])
def test_one_black_pair_equals_2n_black_references(golden, oracle, views):
    black = golden.inputs["black_latent"]
    expected = plain(oracle, golden, black.expand(2 * views, -1, -1, -1), masked=False)
    filler = torch.ones(views, 16, 16, 16)
    actual = ours(golden, golden.reference(filler, filler), cfg=0.0)
    assert golden.error(actual, expected) < TOLERANCE
