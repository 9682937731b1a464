"""Reused references and the guidance interval: exact where they say so, freed when a run ends."""

import pytest
import torch

TOLERANCE = 1e-5
WHOLE_RUN = {"reference_reuse": 1000}


def two_calls(golden, applied, cfg: float) -> list[tuple[torch.Tensor, ...]]:
    """Velocities of the golden inputs of step 1 and step 2, within one run of the host."""
    import comfy.sample
    import comfy.samplers

    first = golden.joint("rgb_latent", "pm_latent")
    second = golden.joint("rgb_latent_step2", "pm_latent_step2")
    levels = torch.cat([golden.inputs["timestep"], golden.inputs["timestep_step2"]])
    out = []

    def sampler(model, x, sigmas, extra_args, callback, disable):
        for state, sigma in zip((first, second), sigmas):
            denoised = model(state, sigma.reshape(1), **extra_args)
            out.append(((state - denoised) / sigma).chunk(2, dim=-1))
        return x

    comfy.sample.sample_custom(
        applied.model, torch.zeros_like(first), cfg, comfy.samplers.KSAMPLER(sampler),
        torch.cat([levels, torch.zeros(1)]), applied.positive, applied.negative,
        torch.zeros_like(first),
    )  # fmt: skip
    return out


def assert_published(golden, outputs, case: str, suffix: str = "") -> None:
    for branch, actual in zip(("rgb", "pm"), outputs):
        expected = golden.expect(f"{case}.{branch}{suffix}")
        assert golden.error(actual, expected) < TOLERANCE, (case, branch)


@pytest.mark.parametrize(
    ("case", "cfg", "options"),
    [
        ("c_kv", 1.0, {**WHOLE_RUN, "isolated_references": True}),
        # The published cache has no mask in the unconditional pass, and neither has ours.
        ("c_kv_uncond", 0.0, WHOLE_RUN),
    ],
)
def test_published_cache(golden, case, cfg, options):
    write, read = two_calls(golden, golden.apply(**options), cfg)
    assert_published(golden, write, f"{case}_write")
    assert_published(golden, read, f"{case}_read")


def test_published_cached_denoising(golden):
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    applied = golden.apply(**WHOLE_RUN, isolated_references=True)
    out = golden.sample(applied, noise, golden.inputs["sigmas"], cfg=2.0)
    assert_published(golden, out.chunk(2, dim=-1), "g_denoise_kv", "_final")


def test_first_step_with_reuse_is_exact_and_the_second_is_near(golden):
    exact = two_calls(golden, golden.apply(), 1.0)
    reused = two_calls(golden, golden.apply(**WHOLE_RUN), 1.0)
    for branch in range(2):
        assert golden.error(reused[0][branch], exact[0][branch]) < TOLERANCE
        assert 1e-4 < golden.error(reused[1][branch], exact[1][branch]) < 0.1


def denoise(golden, **options) -> torch.Tensor:
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return golden.sample(golden.apply(**options), noise, golden.inputs["sigmas"], cfg=2.0)


def test_more_frequent_recomputation_is_nearer(golden):
    exact = denoise(golden)
    errors = [golden.error(denoise(golden, reference_reuse=k), exact) for k in (1, 2, 4)]
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2] < 0.2


@pytest.mark.parametrize("storage", ["device", "RAM", "device, fp8", "RAM, fp8"])
def test_storage(golden, storage):
    whole = denoise(golden, **WHOLE_RUN)
    error = golden.error(denoise(golden, **WHOLE_RUN, reuse_storage=storage), whole)
    assert error == 0 if "fp8" not in storage else 0 < error < 0.05


def test_cache_is_counted_before_the_run_and_freed_after_it(golden):
    import comfy.model_management

    applied = golden.apply(**WHOLE_RUN)
    (patch,) = applied.model.wrappers["diffusion_model"]["refany3d"]
    kept, counted = [], []

    def look(*_):
        stored = patch.cache._passes.values()
        tensors = [x for s in stored for pair in s._blocks.values() for x in pair]
        kept.append(sum(x.nbytes for x in tensors))
        loaded = comfy.model_management.current_loaded_models
        counted.extend(m.model.size for m in loaded if m.model.model is patch.cache)

    applied.model.add_callback_with_key("on_cleanup", "look", look)
    applied.model.callbacks["on_cleanup"] = dict(
        reversed(applied.model.callbacks["on_cleanup"].items())
    )
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    golden.sample(applied, noise, golden.inputs["sigmas"], cfg=2.0)
    assert kept[0] > 0
    assert counted == kept
    assert not patch.cache._passes


def test_cache_moves_off_the_device_when_the_host_asks(golden):
    reuse = golden.core("host.reuse")
    cache = reuse.ReferenceCache(golden.core("method.approximation").Approximation(4))
    stored, compute = cache.look_up("pass", 0)
    assert compute
    stored.store(("double", 0), torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    cache.to("meta")
    assert stored._blocks[("double", 0)][0].device.type == "meta"


def test_guidance_interval(golden):
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    sigmas = golden.inputs["sigmas"]
    calls = []

    def run(cfg=2.0, **options):
        applied = golden.apply(**options)

        def count(executor, *args, **kwargs):
            calls.append(args[-1]["sigmas"].item())
            return executor(*args, **kwargs)

        calls.clear()
        applied.model.add_wrapper_with_key("diffusion_model", "count", count)
        return golden.sample(applied, noise, sigmas, cfg)

    everywhere, number = run(), len(calls)
    assert number == 8
    never = run(guidance_start=0.0)
    assert len(calls) == 4
    assert golden.error(never, run(cfg=1.0)) < TOLERANCE
    middle = [s.item() for s in sigmas[1:3]]
    partly = run(guidance_start=middle[0], guidance_end=middle[1])
    assert sorted(calls) == sorted([*[s.item() for s in sigmas[:4]], *middle])
    assert golden.error(partly, everywhere) > 1e-3
    assert golden.error(partly, never) > 1e-3
