"""What the patch must not touch: the input model, its layers, other runs."""

import pytest
import torch


def vanilla(golden, cfg: float = 1.0) -> torch.Tensor:
    """Plain Flux on the golden inputs, with the stock sampler."""
    import comfy.sample
    import comfy.samplers

    x = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return comfy.sample.sample_custom(
        golden.model, x, cfg, comfy.samplers.sampler_object("euler"), golden.inputs["sigmas"],
        golden.positive(), golden.positive(), torch.zeros_like(x),
    )  # fmt: skip


def patched_run(golden) -> torch.Tensor:
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return golden.sample(golden.apply(), noise, golden.inputs["sigmas"], cfg=2.0)


def module_state(golden) -> list:
    modules = golden.model.model.diffusion_model.modules()
    return [(len(m._forward_hooks), "forward" in vars(m), type(m)) for m in modules]


def test_vanilla_is_bit_identical_with_a_clone_and_after_a_patched_run(golden):
    before = vanilla(golden)
    applied = golden.apply()
    assert torch.equal(vanilla(golden), before)
    golden.sample(applied, golden.joint("rgb_latent", "pm_latent"), golden.inputs["sigmas"], 2.0)
    assert torch.equal(vanilla(golden), before)


def test_input_model_is_untouched(golden):
    state, options = module_state(golden), str(golden.model.model_options)
    patched_run(golden)
    assert module_state(golden) == state
    assert str(golden.model.model_options) == options
    assert not golden.model.wrappers and not golden.model.additional_models


def test_same_run_twice_gives_the_same_bytes(golden):
    assert torch.equal(patched_run(golden), patched_run(golden))


def test_interrupt_leaves_nothing_behind(golden):
    import comfy.model_management

    before, state = patched_run(golden), module_state(golden)
    applied = golden.apply()
    block = golden.model.model.diffusion_model.single_blocks[0]

    def interrupt(*_):
        comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()

    handle = block.register_forward_hook(interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        golden.sample(applied, golden.joint("rgb_latent", "pm_latent"), torch.tensor([1.0, 0]), 2.0)
    handle.remove()
    assert module_state(golden) == state
    (patch,) = applied.model.wrappers["diffusion_model"]["refany3d"]
    assert not patch._rotary
    assert torch.equal(patched_run(golden), before)


def test_clones_with_different_adapters_do_not_mix(golden):
    """Two patched clones of one model, run in turn, give what each gives alone."""
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    sigmas = golden.inputs["sigmas"]
    both, none = golden.apply(), golden.apply(no_adapters=True)
    first = golden.sample(both, noise, sigmas, 2.0)
    other = golden.sample(none, noise, sigmas, 2.0)
    assert golden.error(other, first) > 0.1
    assert torch.equal(golden.sample(both, noise, sigmas, 2.0), first)
