"""The host's own quantised bases: each equals its dequantised twin, exact and with reuse.

Formats whose products quantise the activations too differ from their twin in plain FLUX already;
the method may then differ as much as plain FLUX does.
"""

import json

import pytest
import torch

ROUNDING = 1e-5
QUANTISED_ACTIVATIONS = ("int8_tensorwise", "convrot_w4a4")
FORMATS = ["float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "nvfp4", "mxfp8", "convrot_w4a4"]


def run(golden, **options) -> torch.Tensor:
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    applied = golden.apply(**options)
    return golden.sample(applied, noise, golden.inputs["sigmas"], cfg=2.0)


def plain_flux(golden) -> torch.Tensor:
    import comfy.sample
    import comfy.samplers

    x = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return comfy.sample.sample_custom(
        golden.model, x, 1.0, comfy.samplers.sampler_object("euler"), golden.inputs["sigmas"],
        golden.positive(), golden.positive(), torch.zeros_like(x), disable_pbar=True,
    )  # fmt: skip


def load(weights: dict[str, torch.Tensor]):
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})


def is_quantised(key: str) -> bool:
    """The layers that quantised files of FLUX hold in few bits: those of the blocks."""
    return "_blocks." in key and key.endswith(".weight") and "norm" not in key


def quantise(weights, kind: str):
    """(file's tensors, the same weights dequantised) in one of the host's formats."""
    from comfy import quant_ops

    if kind not in quant_ops.QUANT_ALGOS:
        pytest.skip(f"this ComfyUI has no {kind}")
    layout = quant_ops.QUANT_ALGOS[kind]["comfy_tensor_layout"]
    name = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
    quantised, plain = dict(weights), dict(weights)
    for key in filter(is_quantised, weights):
        tensor = quant_ops.QuantizedTensor.from_float(weights[key], layout)
        quantised.update(tensor.state_dict(key))
        quantised[f"{key.removesuffix('.weight')}.comfy_quant"] = name
        plain[key] = tensor.dequantize().float()
    return quantised, plain


def old_scaled_fp8(weights):
    """The scaled fp8 files of before ComfyUI's own metadata."""
    quantised, plain = dict(weights), dict(weights)
    quantised["scaled_fp8"] = torch.tensor([], dtype=torch.float8_e4m3fn)
    for key in filter(is_quantised, weights):
        scale = weights[key].abs().max() / 448
        quantised[key] = (weights[key] / scale).to(torch.float8_e4m3fn)
        quantised[key.replace(".weight", ".scale_weight")] = scale
        plain[key] = quantised[key].float() * scale
    return quantised, plain


@pytest.fixture
def weights(golden):
    model = golden.model.model.diffusion_model
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("kind", [*FORMATS, "scaled fp8 of earlier files"])
def test_quantised_base_equals_its_dequantised_twin(golden, weights, kind, monkeypatch):
    quantised, plain = old_scaled_fp8(weights) if kind not in FORMATS else quantise(weights, kind)
    outs = {}
    for name, tensors in (("quantised", quantised), ("plain", plain)):
        monkeypatch.setattr(golden, "model", load(tensors))
        linear = golden.model.model.diffusion_model.single_blocks[0].linear1
        assert ("Quantized" in type(linear.weight).__name__) == (name == "quantised")
        outs[name] = run(golden), run(golden, reference_reuse=1000), plain_flux(golden)
    exact = golden.expect("g_denoise.rgb_final")
    *errors, of_plain_flux = map(golden.error, outs["quantised"], outs["plain"])
    activations = kind in QUANTISED_ACTIVATIONS
    assert activations == (of_plain_flux > ROUNDING)
    assert max(errors) < (2 * of_plain_flux if activations else ROUNDING)
    assert golden.error(outs["plain"][0].chunk(2, -1)[0], exact) > 1e-4
