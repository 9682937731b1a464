"""What else reaches the method in a user's graph: it works, or the run ends in a sentence."""

import logging

import pytest
import torch

ROUNDING = 1e-5


def node_class(module: str, name: str):
    import importlib

    return getattr(importlib.import_module(module), name)


def noise_of(applied, height: int = 16, width: int = 32) -> torch.Tensor:
    return torch.randn(1, 16, height, width, generator=torch.Generator().manual_seed(3))


def run(golden, applied, cfg: float = 2.0, **inputs):
    """Two steps of the stock sampler; the latent's keys can be replaced."""
    import comfy.sample
    import comfy.samplers

    latent = {**applied.latent, **inputs}
    noise = noise_of(applied, *latent["samples"].shape[-2:])
    return comfy.sample.sample_custom(
        applied.model, noise, cfg, comfy.samplers.sampler_object("euler"),
        torch.tensor([1.0, 0.6, 0.0]), applied.positive, applied.negative, latent["samples"],
        noise_mask=latent.get("noise_mask"), disable_pbar=True,
    )  # fmt: skip


def with_values(conditioning, **values):
    import node_helpers

    return node_helpers.conditioning_set_values(conditioning, values)


# The latent.


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (64, 64)])
def test_latent_of_one_picture_is_refused(golden, size):
    for fill in (torch.zeros, torch.ones):
        with pytest.raises(ValueError, match="is one picture of .*join an image and its point map"):
            run(golden, golden.apply(), samples=fill(1, 16, *size))


def test_joint_latent_of_other_pictures_is_refused(golden):
    with pytest.raises(ValueError, match="is set to; .*set its width to 96 and its height to 128"):
        run(golden, golden.apply(), samples=torch.zeros(1, 16, 16, 24))


@pytest.mark.parametrize("size", [(24, 48), (32, 64)])
def test_joint_latent_scaled_up_runs(golden, size):
    out = run(golden, golden.apply(), samples=torch.ones(1, 16, *size))
    assert out.shape[-2:] == size
    assert torch.isfinite(out).all()


def test_latent_of_one_picture_is_refused_by_the_sampler_node(golden):
    with pytest.raises(ValueError, match="^RefAny3D Sampler: 'latent' is one picture of 128x128"):
        golden.nodes["RefAny3D_Sampler"].execute(
            golden.model, golden.adapters, golden.golden_reference(), golden.positive(),
            width=128, height=128, latent={"samples": torch.ones(1, 16, 16, 16)},
        )  # fmt: skip


def image_mask() -> torch.Tensor:
    mask = torch.zeros(1, 128, 128)
    mask[..., 64:] = 1
    return mask


def test_mask_of_the_image_holds_for_the_image_alone_in_the_sampler_node(golden):
    samples = torch.ones(1, 16, 16, 32)
    image, point_map = golden.nodes["RefAny3D_Sampler"].execute(
        golden.model, golden.adapters, golden.golden_reference(), golden.positive(),
        steps=2, latent={"samples": samples, "noise_mask": image_mask()},
    ).result  # fmt: skip
    assert torch.allclose(image["samples"][..., :8], samples[..., :8], atol=1e-4)
    assert (image["samples"][..., 8:] - 1).abs().mean() > 0.1
    assert ((point_map["samples"] - 1).abs().mean(dim=(0, 1, 2)) > 0.1).all()


def test_mask_that_holds_an_empty_point_map_is_refused(golden):
    mask = torch.ones(1, 128, 128)
    mask[..., 100:] = 0
    with pytest.raises(ValueError, match="the noise mask holds the point map, but the latent has"):
        run(golden, golden.apply(), noise_mask=mask)


def test_mask_that_is_stretched_over_both_panels_is_said(golden, caplog):
    with caplog.at_level(logging.WARNING):
        run(golden, golden.apply(), samples=torch.ones(1, 16, 16, 32), noise_mask=image_mask())
        assert "noise mask also covers parts" not in caplog.text  # the right half is constant
        mask = image_mask().roll(32, -1)
        run(golden, golden.apply(), samples=torch.ones(1, 16, 16, 32), noise_mask=mask)
    assert "noise mask also covers parts of the point map" in caplog.text


# Parts of the latent.


def test_area_is_refused(golden):
    applied = golden.apply()
    area = node_class("nodes", "ConditioningSetArea")()
    (applied.positive,) = area.append(applied.positive, 64, 128, 0, 0, 1.0)
    with pytest.raises(ValueError, match="is for an area of the latent .*Set Mask"):
        run(golden, applied)


@pytest.mark.parametrize("bounds", ["default", "mask bounds"])
def test_mask_of_a_conditioning_holds_for_image_and_point_map(golden, bounds):
    """Equal to a mask of both panels side by side, which the host takes as it is."""
    node = node_class("nodes", "ConditioningSetMask")()
    mask = image_mask()
    outs = []
    for given in (mask, torch.cat([mask, mask], -1)):
        applied = golden.apply()
        other = [[-entry[0], entry[1]] for entry in applied.positive]
        (left,) = node.append(applied.positive, given, bounds, 1.0)
        (right,) = node.append(other, 1 - given, bounds, 1.0)
        applied.positive = left + right
        outs.append(run(golden, applied))
    plain = run(golden, golden.apply())
    assert golden.error(outs[0], outs[1]) < ROUNDING
    assert golden.error(outs[0], plain) > 1e-3


def test_tiles_are_refused(golden):
    applied = golden.apply()

    def tiled(apply_model, args):
        halves = [apply_model(x, args["timestep"], **args["c"]) for x in args["input"].chunk(2, 2)]
        return torch.cat(halves, 2)

    applied.model.set_model_unet_function_wrapper(tiled)
    with pytest.raises(ValueError, match="called on a part of the latent .256x64 of 256x128 pixel"):
        run(golden, applied)


# The patch that is not reached.


def test_conditioning_on_an_unpatched_model_is_refused(golden):
    applied = golden.apply()
    run(golden, applied)
    applied.model = golden.model
    with pytest.raises(ValueError, match="model is not patched by RefAny3D.*'model' output"):
        run(golden, applied)


def test_merge_of_plain_and_patched(golden):
    merge = node_class("comfy_extras.nodes_model_merging", "ModelMergeSimple")()
    applied = golden.apply()
    patched = applied.model
    expected = run(golden, applied)
    (applied.model,) = merge.merge(patched, golden.model, 0.5)
    assert golden.error(run(golden, applied), expected) < ROUNDING
    (applied.model,) = merge.merge(golden.model, patched, 0.5)
    with pytest.raises(ValueError, match="model is not patched by RefAny3D"):
        run(golden, applied)


def test_swapped_forward_is_refused(golden):
    applied = golden.apply()

    def forward(x, *args, **kwargs):
        return x

    applied.model.add_object_patch("diffusion_model.forward", forward)
    with pytest.raises(ValueError, match="replaced the model's forward"):
        run(golden, applied)


def test_swapped_inner_forward_is_said(golden, caplog):
    applied = golden.apply()
    inner = golden.model.model.diffusion_model.forward_orig
    applied.model.add_object_patch("diffusion_model.forward_orig", lambda *a, **k: inner(*a, **k))
    with caplog.at_level(logging.WARNING):
        out = run(golden, applied)
    assert "has no effect" in caplog.text
    assert torch.equal(out, run(golden, golden.apply()))


def test_replaced_blocks_are_refused(golden):
    applied = golden.apply()
    blocks = torch.nn.ModuleList([torch.nn.Identity()])
    applied.model.add_object_patch("diffusion_model.double_blocks", blocks)
    with pytest.raises(ValueError, match="another node replaced the model's blocks"):
        run(golden, applied)


# What a conditioning carries.


def test_two_reference_latents_after_apply_are_refused(golden):
    applied = golden.apply()
    latents = {"reference_latents": [torch.zeros(1, 16, 16, 16)] * 2}
    import node_helpers

    applied.positive = node_helpers.conditioning_set_values(applied.positive, latents, append=True)
    with pytest.raises(ValueError, match="another node added reference latents"):
        run(golden, applied)


def test_attention_bias_of_redux_is_refused(golden):
    class StyleModel:
        def get_cond(self, output):
            return torch.ones(1, 5, golden.inputs["prompt_embeds"].shape[-1])

    node = node_class("nodes", "StyleModelApply")()
    for kind in ("multiply", "attn_bias"):
        applied = golden.apply()
        (applied.positive,) = node.apply_stylemodel(applied.positive, StyleModel(), None, 0.5, kind)
        if kind == "multiply":
            assert torch.isfinite(run(golden, applied)).all()
        else:
            with pytest.raises(ValueError, match="set strength_type to 'multiply'"):
                run(golden, applied)


def test_conditioning_without_pooled_output_equals_zeros(golden):
    try:
        golden.model.model.encode_adm()
    except KeyError:
        pytest.skip("this ComfyUI's own Flux needs a pooled output")

    def without(conditioning):
        return [[c, {k: v for k, v in o.items() if k != "pooled_output"}] for c, o in conditioning]

    zeros = golden.apply()
    pooled = torch.zeros_like(golden.inputs["pooled"])
    zeros.positive, zeros.negative = (
        with_values(c, pooled_output=pooled) for c in (zeros.positive, zeros.negative)
    )
    none = golden.apply()
    none.positive, none.negative = without(none.positive), without(none.negative)
    assert golden.error(run(golden, none), run(golden, zeros)) < ROUNDING


def test_short_prompt_is_said(golden, caplog):
    conditioning = golden.core("host.conditioning")
    for tokens, said in ((256, True), (512, False), (600, False)):
        caplog.clear()
        positive = [[torch.zeros(1, tokens, 4096), {}]]
        with caplog.at_level(logging.WARNING):
            conditioning.with_references(positive, golden.golden_reference())
        assert ("T5 Tokenizer Options with min_length 512" in caplog.text) == said


def test_t5_tokenizer_options_give_512_tokens(golden):
    """The remedy that the notice names, by the host's own tokenizer."""
    from types import SimpleNamespace

    from comfy.text_encoders.flux import FluxTokenizer

    options = {}
    clip = SimpleNamespace(set_tokenizer_option=options.__setitem__)
    clip.clone = lambda: clip
    node_class("comfy_extras.nodes_cond", "T5TokenizerOptions").execute(clip, 0, 512)
    tokens = FluxTokenizer().tokenize_with_weights("a mug on a table", tokenizer_options=options)
    assert [len(batch) for batch in tokens["t5xxl"]] == [512]


# Patches of other nodes.


def test_scale_rope_moves_the_targets(golden):
    node = node_class("comfy_extras.nodes_rope", "ScaleROPE")
    outs = []
    for scale in (1.0, 0.5):
        applied = golden.apply()
        applied.model = node.execute(applied.model, scale, 0.0, scale, 0.0, 1.0, 0.0).result[0]
        outs.append(run(golden, applied))
    assert torch.equal(outs[0], run(golden, golden.apply()))
    assert golden.error(outs[1], outs[0]) > 1e-3


def test_post_input_patch_is_refused(golden):
    applied = golden.apply()
    applied.model.set_model_post_input_patch(lambda inputs: inputs)
    with pytest.raises(ValueError, match="changes the model's tokens .USO Style Reference"):
        run(golden, applied)


def test_attention_mask_of_another_patch_is_refused(golden):
    applied = golden.apply()

    def masked(q, k, v, pe=None, attn_mask=None, extra_options=None):
        return {"attn_mask": torch.zeros(q.shape[2], k.shape[2])}

    applied.model.set_model_attn1_patch(masked)
    with pytest.raises(ValueError, match="gives the model's attention a mask"):
        run(golden, applied)


def test_control_lora_is_refused(golden):
    """A FLUX Depth or Canny LoRA widens img_in; the host then hands over twice the channels."""
    import comfy.sd

    lora = {
        "transformer.x_embedder.lora_A.weight": torch.randn(4, 128) * 0.1,
        "transformer.x_embedder.lora_B.weight": torch.randn(256, 4) * 0.1,
        "transformer.x_embedder.reshape_weight": torch.tensor([256, 128]),
    }
    applied = golden.apply()
    applied.model, _ = comfy.sd.load_lora_for_models(applied.model, None, lora, 1.0, 0.0)
    before = run(golden, golden.apply())
    with pytest.raises(ValueError, match="a control LoRA .FLUX Depth or Canny. widened it"):
        run(golden, applied)
    assert torch.equal(run(golden, golden.apply()), before)


@pytest.mark.parametrize("options", [{"guidance_start": 0.9}, {"guidance_end": 0.9}, {}])
def test_plain_negative_is_refused(golden, options):
    applied = golden.apply(**options)
    applied.negative = golden.positive()
    with pytest.raises(ValueError, match="connect the sampler's positive and negative"):
        run(golden, applied)
    assert torch.isfinite(run(golden, applied, cfg=1.0)).all()


@pytest.mark.parametrize("simple", [False, True])
def test_skip_layer_guidance_that_ends_early_with_reuse(golden, simple):
    """Its passes without some blocks keep their own keys and values."""
    name = "SkipLayerGuidanceDiTSimple" if simple else "SkipLayerGuidanceDiT"
    node = node_class("comfy_extras.nodes_slg", name)
    percents = {"start_percent": 0.0, "end_percent": 0.3}
    more = {} if simple else {"scale": 2.0}
    applied = golden.apply(reference_reuse=1000)
    applied.model = node.execute(
        applied.model, double_layers="0", single_layers="1", **percents, **more
    ).result[0]
    out = run(golden, applied)
    assert torch.isfinite(out).all()
    assert golden.error(out, run(golden, golden.apply(reference_reuse=1000))) > 1e-3


def test_dual_model_guider(golden):
    from comfy_extras import nodes_custom_sampler as nodes

    if not hasattr(nodes, "DualModelGuider"):
        pytest.skip("this ComfyUI has no Dual Model CFG Guider")
    applied = golden.apply()
    sampler = node_class("comfy.samplers", "sampler_object")("euler")
    noise = nodes.RandomNoise.execute(5).result[0]
    sigmas = torch.tensor([1.0, 0.5, 0.0])

    def sample(guider):
        out = nodes.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, applied.latent)
        return out.result[0]["samples"]

    both = (applied.positive, applied.negative)
    usual = sample(nodes.CFGGuider.execute(applied.model, *both, 2.0).result[0])
    guider = nodes.DualModelGuider.execute
    dual = sample(guider(applied.model, both[0], 2.0, applied.model, both[1]).result[0])
    assert golden.error(dual, usual) < ROUNDING
    with pytest.raises(ValueError, match="connect the sampler's positive and negative"):
        sample(guider(applied.model, both[0], 2.0).result[0])


# Models.


def test_wrapper_model_is_refused(golden):
    """As Nunchaku's: a Flux of the host whose transformer is a module of another pack."""
    import copy

    import comfy.model_patcher

    base = copy.copy(golden.model.model)
    base._modules = {**base._modules, "diffusion_model": torch.nn.Linear(1, 1)}
    cpu = torch.device("cpu")
    usual, golden.model = golden.model, comfy.model_patcher.ModelPatcher(base, cpu, cpu)
    try:
        with pytest.raises(ValueError, match="'model' runs in a wrapper .*Nunchaku"):
            golden.apply()
    finally:
        golden.model = usual


def test_copy_for_a_second_device(golden):
    """MultiGPU CFG Split copies the MODEL and what belongs to it; each copy is exact alone."""
    applied = golden.apply(reference_reuse=2)
    if not hasattr(applied.model, "deepclone_multigpu"):
        pytest.skip("this ComfyUI has no multi-GPU copies")
    expected = run(golden, applied)
    copy = applied.model.deepclone_multigpu(new_load_device=torch.device("cpu"))
    modules = golden.core("host.routing").AdapterModules
    ours, theirs = (
        next(
            m for m in model.get_additional_models_with_key("refany3d") if type(m.model) is modules
        )
        for model in (applied.model, copy)
    )
    assert theirs.model is not ours.model
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters()):
        assert mine.data_ptr() != other.data_ptr()
        assert torch.equal(mine, other)
    applied.model = copy
    assert torch.equal(run(golden, applied), expected)
