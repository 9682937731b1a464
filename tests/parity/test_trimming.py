"""Trimmed references: which tokens stay, and that nothing but them is left out."""

import logging

import pytest
import torch

ROUNDING = 1e-5


@pytest.fixture
def trimming(pack):
    return pack.core("method.trimming")


def test_tokens_of_the_object_of_a_ring_and_some_white_ones_stay(trimming):
    maps = torch.ones(2, 128, 128, 3)
    maps[0, 40:60, 50:51] = 0.2  # rows 2 and 3, column 3
    maps[1, 0, 0, 2] = 0.0  # one corner
    objects = trimming.object_tokens(maps, 16)
    assert objects.nonzero().tolist() == [[0, 2, 3], [0, 3, 3], [1, 0, 0]]
    few = trimming.trimmed(objects, ring=1, stand_ins=1)
    ring = [row * 8 + column for row in (1, 2, 3, 4) for column in (2, 3, 4)]
    assert [view[:-1] for view in few.tokens] == [tuple(ring), (0, 1, 8, 9)]
    assert few.stand_ins == (1, 1)
    assert few.weight == (52 + 60) / 2
    more = trimming.trimmed(objects, ring=1, stand_ins=8)
    assert sum(more.stand_ins) == 16
    assert [len(set(view)) for view in more.tokens] == [
        n + k for n, k in zip((12, 4), more.stand_ins)
    ]
    every = trimming.trimmed(objects, ring=1, stand_ins=1000)
    assert every.weight == 1
    assert every.lengths == (64, 64)


@pytest.fixture
def unequal(golden):
    """The golden reference with objects that fill a quarter and a half of the views."""
    objects = torch.zeros(2, 8, 8, dtype=torch.bool)
    objects[0, :4, :4] = objects[1, 2:6, :] = True
    reference = golden.golden_reference()
    return type(reference)(
        reference.view_latents, reference.point_map_latents, reference.empty_latent, objects
    )


def run(golden, reference, **options) -> torch.Tensor:
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return golden.sample(
        golden.apply(reference, **options), noise, golden.inputs["sigmas"], cfg=2.0
    )


def test_trimming_nothing_is_exact(golden, unequal):
    whole = type(unequal)(
        unequal.view_latents, unequal.point_map_latents, unequal.empty_latent,
        torch.ones(2, 8, 8, dtype=torch.bool),
    )  # fmt: skip
    exact = run(golden, unequal)
    assert golden.error(run(golden, whole, trim_references=True), exact) < ROUNDING
    assert golden.error(run(golden, unequal, trim_references=True), exact) > 1e-3


def test_trimmed_views_of_unequal_length_equal_masked_ones(golden, oracle, unequal, trimming):
    """Against the plain oracle, whose references lose the same tokens and weigh the stand-ins."""
    few = trimming.trimmed(unequal.object_tokens)
    assert few.lengths[0] != few.lengths[1] and few.weight > 2
    weights = [
        [1.0] * (length - last) + [few.weight] * last
        for length, last in zip(few.lengths, few.stand_ins)
    ]
    inputs = golden.inputs
    expected = oracle.predict(
        golden.joint("rgb_latent", "pm_latent"), inputs["timestep"], inputs["prompt_embeds"],
        inputs["pooled"], inputs["guidance"], inputs["cond_latents"], True, few.tokens, weights,
    )  # fmt: skip
    applied = golden.apply(unequal, trim_references=True)
    x = golden.joint("rgb_latent", "pm_latent")
    actual = golden.velocity(applied, x, inputs["timestep"].item(), cfg=1.0)
    assert golden.error(torch.cat(actual, dim=-1), expected) < ROUNDING


@pytest.mark.parametrize("options", [{"reference_reuse": 1000}, {"isolated_references": True}])
def test_trimming_goes_with_the_other_settings(golden, unequal, options):
    both = run(golden, unequal, trim_references=True, **options)
    near = run(golden, unequal, trim_references=True)
    assert torch.isfinite(both).all()
    assert 0 < golden.error(both, near) < 0.2


def test_order_of_trimmed_views_does_not_matter(golden, unequal):
    turned = type(unequal)(
        *(x.flip(0) for x in (unequal.view_latents, unequal.point_map_latents)),
        unequal.empty_latent, unequal.object_tokens.flip(0),
    )  # fmt: skip
    out = run(golden, turned, trim_references=True)
    assert golden.error(out, run(golden, unequal, trim_references=True)) < ROUNDING


def test_reference_that_does_not_know_its_object_runs_whole(golden, caplog):
    with caplog.at_level(logging.WARNING):
        out = run(golden, golden.golden_reference(), trim_references=True)
    assert "trim_references has no effect" in caplog.text
    assert torch.equal(out, run(golden, golden.golden_reference()))


def test_presets(golden):
    approximation = __import__(
        golden.nodes["RefAny3D_Apply"].__module__.replace("apply", "speed"), fromlist=["_"]
    ).approximation
    exact = golden.core("method.approximation").Approximation()
    assert approximation() == approximation(speed="exact") == exact
    fast = approximation(speed="fast")
    assert fast.trim_references and fast.reference_reuse > 28 and fast.guidance_end > 0
    mixed = approximation(speed="fast", reference_reuse=2, guidance_end=0.0, reuse_storage="RAM")
    assert mixed.reference_reuse == 2 and mixed.trim_references and mixed.ram_storage
    assert mixed.guidance_end == fast.guidance_end


@pytest.mark.parametrize("node", ["RefAny3D_Apply", "RefAny3D_Sampler"])
def test_new_inputs_come_last(golden, node):
    """Saved workflows hold widget values by order."""
    names = [i.id for i in golden.nodes[node].define_schema().inputs]
    assert names[-2:] == ["speed", "trim_references"]


def test_saved_reference_keeps_the_object(golden, unequal):
    files = golden.core("host.reference_files")
    files.save_reference(unequal, "trimmed")
    loaded = files.load_reference("trimmed")
    assert torch.equal(loaded.object_tokens, unequal.object_tokens)
    files.save_reference(golden.golden_reference(), "older")
    assert files.load_reference("older").object_tokens is None
