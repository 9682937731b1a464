"""What speeds the method up leaves it unchanged: ours against the plain oracle of the benchmarks.

The oracle meets the golden set itself; then any number of views can be compared, above all the
merged black pair of the unconditional pass against 2n black references.
"""

import pytest
import torch

TOLERANCE = 1e-5


def ours(golden, reference, cfg: float) -> torch.Tensor:
    x = golden.joint("rgb_latent", "pm_latent")
    applied = golden.apply(reference)
    return torch.cat(golden.velocity(applied, x, golden.inputs["timestep"].item(), cfg), dim=-1)


def test_oracle_meets_the_golden_set(golden, oracle):
    for case, references, masked in (
        ("a_cond", golden.inputs["cond_latents"], True),
        ("b_uncond", golden.inputs["black_latent"].expand(4, -1, -1, -1), False),
    ):
        out = golden.plain(oracle, references, masked).chunk(2, dim=-1)
        for branch, actual in zip(("rgb", "pm"), out):
            assert golden.error(actual, golden.expect(f"{case}.{branch}")) < TOLERANCE


@pytest.mark.parametrize("views", [1, 3, 8])
def test_conditional_pass_of_n_views(golden, oracle, views):
    generator = torch.Generator().manual_seed(views)
    latents = torch.randn(2 * views, 16, 16, 16, generator=generator)
    expected = golden.plain(oracle, latents, masked=True)
    actual = ours(golden, golden.reference(latents[:views], latents[views:]), cfg=1.0)
    assert golden.error(actual, expected) < TOLERANCE


@pytest.mark.parametrize("views", [1, 3, 8])
def test_one_black_pair_equals_2n_black_references(golden, oracle, views):
    black = golden.inputs["black_latent"]
    expected = golden.plain(oracle, black.expand(2 * views, -1, -1, -1), masked=False)
    filler = torch.ones(views, 16, 16, 16)
    actual = ours(golden, golden.reference(filler, filler), cfg=0.0)
    assert golden.error(actual, expected) < TOLERANCE
