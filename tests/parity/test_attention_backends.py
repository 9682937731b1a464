"""Attention backends that take no mask, ignore it, or are the host's others: all are exact."""

import pytest
import torch

TOLERANCE = 1e-5


def backend(name: str):
    """An attention override as other packs set it."""
    from comfy.ldm.modules import attention

    def override(func, *args, mask=None, **kwargs):
        if name == "refuses masks":
            if mask is not None or len(args) > 4:
                raise RuntimeError("this backend takes no mask")
            return func(*args, **kwargs)
        if name == "ignores masks":
            return func(*args[:4], **kwargs)
        return getattr(attention, f"attention_{name}")(*args, mask=mask, **kwargs)

    return override


BACKENDS = ["refuses masks", "ignores masks", "split", "sub_quad", "pytorch", "basic"]


@pytest.fixture(params=BACKENDS)
def use(request):
    """Puts the backend into the MODEL that Apply RefAny3D gave."""

    def change(applied):
        applied.model = applied.model.clone()
        options = applied.model.model_options["transformer_options"]
        options["optimized_attention_override"] = backend(request.param)
        return applied

    return change


def test_guided_denoising_meets_the_golden_set(golden, use):
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    out = golden.sample(use(golden.apply()), noise, golden.inputs["sigmas"], cfg=2.0)
    for branch, actual in zip(("rgb", "pm"), out.chunk(2, dim=-1)):
        assert golden.error(actual, golden.expect(f"g_denoise.{branch}_final")) < TOLERANCE


def test_negative_pass_of_eight_views_meets_the_oracle(golden, oracle, use):
    expected = golden.plain(oracle, golden.inputs["black_latent"].expand(16, -1, -1, -1), False)
    filler = torch.ones(8, 16, 16, 16)
    applied = use(golden.apply(golden.reference(filler, filler)))
    x = golden.joint("rgb_latent", "pm_latent")
    actual = golden.velocity(applied, x, golden.inputs["timestep"].item(), cfg=0.0)
    assert golden.error(torch.cat(actual, dim=-1), expected) < TOLERANCE


@pytest.mark.parametrize("copies", [1, 2, 8, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weighted_references_equal_a_bias_on_their_scores(pack, copies, dtype):
    attention, branches = pack.core("method.attention"), pack.core("method.branches")
    softmax_attention = torch.nn.functional.scaled_dot_product_attention
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 50, 16, generator=generator).to(dtype) for _ in range(3))
    v[:, 1, 30:] = v[:, 1, :20] = 1.0  # a head whose weighed values are those of the rest

    def attend(q, k, v):
        return softmax_attention(q, k, v).transpose(1, 2).flatten(2)

    bias = torch.zeros(50, 50, dtype=torch.float64)
    bias[:, 30:] = torch.tensor(copies, dtype=torch.float64).log()
    expected = softmax_attention(*(x.double() for x in (q, k, v)), attn_mask=bias)
    expected = expected.transpose(1, 2).flatten(2)
    layout = branches.BranchLayout(10, 10, 10, 1)
    actual = attention.weighted_references(attend, q, k, v, layout, copies).double()
    error = ((actual - expected).norm() / expected.norm()).item()
    assert error < (1e-6 if dtype == torch.float32 else 6e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_softmax_sums_of_plain_pytorch_attention(pack, dtype):
    """Groups merged by their sums equal groups merged by a further call."""
    from comfy.ldm.modules import attention as host

    sums, method = pack.core("host.softmax_sums"), pack.core("method.attention")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 50, 16, generator=generator).to(dtype) for _ in range(3))

    def attend(q, k, v):
        return host.attention_pytorch(q, k, v, 4, skip_reshape=True)

    groups = [(1.0, [slice(0, 20), slice(45, 50)]), (7.5, [slice(20, 30)]), (0.5, [slice(30, 45)])]
    usual = method.weighted_groups(attend, q, k, v, groups)
    attend.with_sums = sums.with_sums_for(host.attention_pytorch, q)
    merged = method.weighted_groups(attend, q, k, v, groups)
    error = ((merged - usual).norm() / usual.norm()).item()
    assert error < (1e-6 if dtype == torch.float32 else 6e-3)
    assert sums.with_sums_for(host.attention_split, q) is None
    assert sums.with_sums_for(host.attention_pytorch, q.float().requires_grad_()) is None
