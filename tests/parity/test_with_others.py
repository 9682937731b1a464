"""Together with what other people use: style LoRAs, EasyCache, torch.compile, quantised bases."""

import contextlib
import shutil

import pytest
import torch
from safetensors.torch import load_file

ROUNDING = 1e-5


@contextlib.contextmanager
def base_model(golden, model):
    """The golden set on another base MODEL."""
    usual, golden.model = golden.model, model
    try:
        yield golden
    finally:
        golden.model = usual


def run(golden, change=None, **options) -> torch.Tensor:
    """The guided golden denoising; `change` is a node between Apply RefAny3D and the sampler."""
    applied = golden.apply(**options)
    if change is not None:
        applied.model = change(applied.model)
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return golden.sample(applied, noise, golden.inputs["sigmas"], cfg=2.0)


def load(golden_folder, change=None, **model_options):
    """The golden Flux with changed weights, by the host's loader."""
    import comfy.sd

    weights = {k: v.float() for k, v in load_file(golden_folder / "flux.safetensors").items()}
    if change is not None:
        weights = {k: change(k, v) for k, v in weights.items()}
    options = {"dtype": torch.float32, **model_options}
    return comfy.sd.load_diffusion_model_state_dict(weights, model_options=options)


@pytest.fixture
def folder(request):
    return request.path.parent.parent / "data" / "golden"


def test_style_lora_of_the_stock_loader_goes_below_ours(golden, folder):
    """Equal to a base with the style merged into its weights."""
    import comfy.sd

    generator = torch.Generator().manual_seed(0)
    down = torch.randn(4, 256, generator=generator) * 0.1
    up = torch.randn(256, 4, generator=generator) * 0.1
    layer = "single_transformer_blocks.0.attn.to_q"
    style = {
        f"transformer.{layer}.lora_A.weight": down,
        f"transformer.{layer}.lora_B.weight": up,
    }
    plain = run(golden)

    def merge(key, weight):
        return weight + up @ down if key == f"{layer}.weight" else weight

    with base_model(golden, load(folder, merge)):
        merged = run(golden)
    styled, _ = comfy.sd.load_lora_for_models(golden.model, None, style, 1.0, 0.0)
    with base_model(golden, styled):
        assert golden.error(run(golden), merged) < ROUNDING

    def after_ours(model):
        return comfy.sd.load_lora_for_models(model, None, style, 1.0, 0.0)[0]

    assert golden.error(run(golden, after_ours), merged) < ROUNDING
    assert golden.error(merged, plain) > 1e-3
    assert torch.equal(run(golden), plain)


def test_fp8_base(golden, folder):
    """Equal to the same rounded weights in float32."""
    fp8 = torch.float8_e4m3fn

    def rounded(key, weight):
        return weight.to(fp8).float()

    with base_model(golden, load(folder, rounded)):
        expected = run(golden)
    with base_model(golden, load(folder, dtype=fp8)):
        linear = golden.model.model.diffusion_model.single_blocks[0].linear1
        assert linear.weight.dtype == fp8
        assert golden.error(run(golden), expected) < ROUNDING


def test_base_whose_weights_are_no_plain_matrices(golden, folder):
    """As with GGUF: a Linear that keeps packed rows and unpacks them in its forward."""
    import comfy.ops

    class Packed(comfy.ops.manual_cast):
        class Linear(comfy.ops.manual_cast.Linear):
            def pack(self):
                self.row_scale = self.weight.abs().amax(1, keepdim=True) / 127
                packed = (self.weight / self.row_scale).round().to(torch.int8)
                self.weight = torch.nn.Parameter(packed, requires_grad=False)

            def forward(self, x):
                weight = self.weight.to(x.dtype) * self.row_scale
                return torch.nn.functional.linear(x, weight, self.bias)

    def rounded(key, weight):
        if weight.ndim != 2:
            return weight
        scale = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scale).round() * scale

    with base_model(golden, load(folder, rounded)):
        expected = run(golden)
    packed = load(folder, custom_operations=Packed)
    for module in packed.model.diffusion_model.modules():
        if isinstance(module, Packed.Linear):
            module.pack()
    with base_model(golden, packed):
        assert golden.error(run(golden), expected) < ROUNDING


def count_blocks(golden, change) -> tuple[torch.Tensor, int]:
    calls = []
    block = golden.model.model.diffusion_model.double_blocks[0]
    handle = block.register_forward_hook(lambda *_: calls.append(1))
    try:
        return run(golden, change), len(calls)
    finally:
        handle.remove()


@pytest.mark.parametrize("threshold", [0.0, 10.0])
def test_easycache(golden, threshold):
    """EasyCache after ours skips steps at a high threshold, and changes nothing at 0."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    def easycache(model):
        return EasyCacheNode.execute(model, threshold, 0.0, 1.0, False).result[0]

    exact, every_call = count_blocks(golden, None)
    out, calls = count_blocks(golden, easycache)
    assert every_call == 8
    if threshold == 0:
        assert torch.equal(out, exact)
        assert calls == every_call
    else:
        assert 2 <= calls < every_call
        assert torch.isfinite(out).all()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile(golden):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    def compiled(model):
        return TorchCompileModel.execute(model, "inductor").result[0]

    assert golden.error(run(golden, compiled), run(golden)) < ROUNDING


def test_attention_override_of_another_pack(golden):
    """An override that was there before ours still runs every group."""
    seen = []

    def override(func, *args, **kwargs):
        seen.append(args[0].shape[2])
        return func(*args, **kwargs)

    def other(model):
        model = model.clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = override
        return model

    # Without it the negative pass may merge by softmax sums, with it by repeated keys.
    assert golden.error(run(golden, other), run(golden)) < 1e-5
    # A step: text + RGB and map in 3 blocks, 2 pairs in all but the last; negative: one a block.
    assert len(seen) == 4 * (3 * 2 + 2 * 2 + 3)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "uni_pc"])
def test_other_samplers(golden, sampler):
    import comfy.sample
    import comfy.samplers

    applied = golden.apply()
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    out = comfy.sample.sample(
        applied.model, noise, 4, 2.0, sampler, "simple", applied.positive, applied.negative,
        applied.latent["samples"], disable_pbar=True, seed=1,
    )  # fmt: skip
    assert out.shape == noise.shape
    assert torch.isfinite(out).all()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_of_another_pack(golden):
    """Blocks compiled one by one would keep the adapters of the pass that they were compiled in."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    def compiled(model):
        model = model.clone()
        keys = [f"diffusion_model.single_blocks.{i}" for i in range(2)]
        set_torch_compile_wrapper(model, "inductor", keys=keys)
        return model

    assert golden.error(run(golden, compiled), run(golden)) < ROUNDING
