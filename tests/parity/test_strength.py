"""Reference strength and weights of views: the method at 1, no references at 0, no mask."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from refany3d_core.method.attention import isolated_views
from refany3d_core.method.branches import BranchLayout
from refany3d_core.method.strength import ReferenceStrength

LAYOUT = BranchLayout(text=5, target=6, reference=4, pairs=3)


def attend(q, k, v):
    out = scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)


def with_bias(q, k, v, weights, text_agnostic=True):
    """The same by a bias on the scores: log of the weight on the keys of each view."""
    layout = LAYOUT
    bias = torch.zeros(layout.main, layout.total, dtype=q.dtype)
    for i, weight in enumerate(weights):
        for domain in range(2):
            start = layout.main + (domain * layout.pairs + i) * layout.reference
            bias[:, start : start + layout.reference] = torch.tensor(weight).log()
    if text_agnostic:
        bias[layout.text + layout.target :, : layout.text] = -torch.inf
    out = scaled_dot_product_attention(q[:, :, : layout.main], k, v, attn_mask=bias)
    return out.transpose(1, 2).flatten(2)


def sequence(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, LAYOUT.total, 8)
    return [torch.randn(shape, generator=generator, dtype=dtype) * 2 for _ in range(3)]


@pytest.mark.parametrize("weights", [(0.5, 0.5, 0.5), (0.3, 1.0, 2.5), (0.0, 1.0, 0.25)])
@pytest.mark.parametrize("text_agnostic", [True, False])
def test_weights_are_a_bias_on_the_scores(weights, text_agnostic):
    q, k, v = sequence()
    found = isolated_views(attend, q, k, v, LAYOUT, text_agnostic, weights)
    expected = with_bias(q, k, v, weights, text_agnostic)
    torch.testing.assert_close(found[:, : LAYOUT.main], expected, rtol=1e-6, atol=1e-6)
    plain = isolated_views(attend, q, k, v, LAYOUT, text_agnostic)
    assert torch.equal(found[:, LAYOUT.main :], plain[:, LAYOUT.main :])  # views see as ever


def test_weights_of_one_are_the_method_bit_for_bit():
    q, k, v = sequence(torch.float32)
    plain = isolated_views(attend, q, k, v, LAYOUT)
    assert torch.equal(isolated_views(attend, q, k, v, LAYOUT, True, (1.0, 1.0, 1.0)), plain)


def test_the_interval_and_the_number_of_views():
    strength = ReferenceStrength(0.5, 0.9, 0.2, (1.0, 2.0))
    assert strength.weights(2, 0.5) == (0.5, 1.0)
    assert strength.weights(2, 0.95) == strength.weights(2, 0.1) == (0.0, 0.0)
    with pytest.raises(ValueError, match="view_weights has 2 entries, but the reference has 3"):
        strength.weights(3, 0.5)


def velocity(golden, reference=None, timestep=0.6, **inputs):
    """The conditional velocity of the golden inputs, both panels."""
    applied = golden.apply(reference, **inputs)
    x = golden.joint("rgb_latent", "pm_latent")
    return torch.cat(golden.velocity(applied, x, timestep, cfg=1.0), dim=-1)


def chosen(golden, *views):
    latents = golden.inputs["cond_latents"]
    return golden.reference(latents[list(views)], latents[[2 + view for view in views]])


def test_strength_0_leaves_the_references_out_bit_for_bit(golden, oracle):
    """Neither what nor how many references there are changes a bit, and the rest is the method."""
    absent = velocity(golden, reference_strength=0.0)
    for other in (chosen(golden, 1), chosen(golden, 0, 0, 1)):
        assert torch.equal(velocity(golden, other, reference_strength=0.0), absent)
    assert torch.equal(velocity(golden, view_weights="0, 0"), absent)
    assert torch.equal(velocity(golden, reference_start=0.5), absent)  # the noise is 0.6
    assert torch.equal(velocity(golden, reference_end=0.7), absent)
    inputs = golden.inputs
    plain = oracle.predict(
        golden.joint("rgb_latent", "pm_latent"), torch.tensor([0.6]), inputs["prompt_embeds"],
        inputs["pooled"], inputs["guidance"], inputs["cond_latents"][:0], True,
    )  # fmt: skip
    assert golden.error(absent, plain) < 1e-5
    assert golden.error(absent, velocity(golden)) > 1e-3


def test_strength_1_is_the_method_bit_for_bit(golden):
    method = velocity(golden)
    given = {"reference_strength": 1.0, "reference_start": 0.9, "reference_end": 0.1}
    assert torch.equal(velocity(golden, **given, view_weights="1, 1"), method)


def test_a_weight_of_2_counts_a_view_twice(golden):
    cases = (
        ({"reference_strength": 2.0}, (0, 0, 1, 1)),
        ({"view_weights": "2, 1"}, (0, 0, 1)),
        ({"view_weights": "0, 1"}, (1,)),
        ({"view_weights": "0, 1.5", "reference_strength": 2.0}, (1, 1, 1)),
    )
    for inputs, views in cases:
        weighed = velocity(golden, **inputs)
        assert golden.error(weighed, velocity(golden, chosen(golden, *views))) < 1e-5, inputs


def test_strengths_between_lead_from_one_to_the_other(golden):
    ends = velocity(golden, reference_strength=0.0), velocity(golden)
    away = [golden.error(velocity(golden, reference_strength=s), ends[1]) for s in (0.2, 0.5, 0.8)]
    assert golden.error(*ends) > away[0] > away[1] > away[2] > 0


def test_no_strength_gives_the_attention_a_mask(golden):
    masks = []

    def spy(func, q, k, v, heads, **kwargs):
        masks.append(kwargs.get("mask"))
        return func(q, k, v, heads, **kwargs)

    for strength in (0.0, 0.4, 1.0):
        applied = golden.apply(reference_strength=strength)
        applied.model.model_options["transformer_options"]["optimized_attention_override"] = spy
        golden.velocity(applied, golden.joint("rgb_latent", "pm_latent"), 0.6, cfg=2.0)
    assert masks and all(mask is None for mask in masks)


def test_reused_references_come_when_they_are_asked_for(golden):
    """References that see only themselves are the same in every step: reuse changes nothing."""
    levels = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    inputs = {"isolated_references": True, "reference_start": 0.8, "reference_end": 0.4}
    noise = golden.joint("rgb_latent", "pm_latent")
    plain, reused = (
        golden.sample(golden.apply(**inputs, reference_reuse=every), noise, levels, 1.0)
        for every in (1, 1000)
    )
    assert golden.error(reused, plain) < 1e-5
    always = golden.sample(golden.apply(isolated_references=True), noise, levels, 1.0)
    assert golden.error(plain, always) > 1e-3


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("1, 2, 3", "view_weights has 3 entries, but the reference has 2 views"),
        ("1, -1", "view_weights is '1, -1'; weights are 0 or more"),
        ("a lot", "view_weights is 'a lot'; write numbers separated by commas"),
    ],
)
def test_bad_weights(golden, text, sentence):
    with pytest.raises(ValueError, match="Apply RefAny3D: " + sentence):
        golden.apply(view_weights=text)
