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
