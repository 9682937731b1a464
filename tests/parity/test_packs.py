"""With the real code of other packs, where REFANY3D_PACKS names a folder that holds their sources.

Kernels that need a graphics card are stood in for by ones of the same contract: Sage's swallows the
mask, Flash's has none; both round to half precision, as the packs ask them to.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

PACKS = os.environ.get("REFANY3D_PACKS")
pytestmark = pytest.mark.skipif(PACKS is None, reason="REFANY3D_PACKS is not set")
ROUNDING, HALF = 1e-5, 5e-3


def pack_module(folder: str, file: str) -> ModuleType:
    """A module of a pack, which is a package under a name of its own."""
    path = Path(PACKS, folder)
    if not path.is_dir():
        pytest.skip(f"REFANY3D_PACKS has no {folder}")
    package = folder.replace("-", "_")
    if package not in sys.modules:
        parent = ModuleType(package)
        parent.__path__ = [str(path)]
        sys.modules[package] = parent
    return importlib.import_module(f"{package}.{file}")


def run(golden, change=None, **options) -> torch.Tensor:
    applied = golden.apply(**options)
    if change is not None:
        applied.model = change(applied.model)
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    return golden.sample(applied, noise, golden.inputs["sigmas"], 2.0)


def stand_in_kernels(monkeypatch) -> list[int]:
    """Modules that the packs import their kernels from; gives the calls seen."""
    calls = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def sageattn(q, k, v, is_causal=False, tensor_layout="HND", **swallowed):
        calls.append(q.shape[2])
        assert tensor_layout == "HND"
        return attention(q, k, v)

    def flash_attn_func(q, k, v, dropout_p=0.0, causal=False):
        calls.append(q.shape[1])
        return attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    for name, kernel in (("sageattention", sageattn), ("flash_attn", flash_attn_func)):
        module = ModuleType(name)
        setattr(module, kernel.__name__, kernel)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


@pytest.mark.parametrize("views", [2, 8])
@pytest.mark.parametrize("node", ["PathchSageAttentionKJ", "PatchFlashAttentionKJ"])
def test_attention_patches_of_kjnodes(golden, monkeypatch, node, views):
    calls = stand_in_kernels(monkeypatch)
    patch = getattr(pack_module("ComfyUI-KJNodes", "nodes.model_optimization_nodes"), node)()
    options = {"sage_attention": "auto"} if "Sage" in node else {}
    latents = torch.randn(2 * views, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    reference = golden.reference(latents[:views], latents[views:])
    plain = run(golden, reference=reference)
    patched = run(golden, lambda model: patch.patch(model, **options)[0], reference=reference)
    assert calls
    assert golden.error(patched, plain) < HALF


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "BF16"])
@pytest.mark.parametrize("reuse", [1, 1000])
def test_gguf_base(golden, host_base, monkeypatch, kind, reuse):
    """Equal to a base of the dequantised weights, by city96's own loader and layers."""
    import comfy.sd
    import folder_paths

    gguf = pytest.importorskip("gguf")
    quants = pytest.importorskip("gguf.quants")
    weights = golden.model.model.diffusion_model.state_dict()
    folder = host_base / "models" / "gguf"
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "flux.gguf", "flux")
    twin = {}
    wanted = gguf.GGMLQuantizationType[kind]
    for key, tensor in weights.items():
        array = tensor.float().numpy()
        if tensor.ndim == 2 and "_blocks." in key:
            packed = quants.quantize(array, wanted)
            writer.add_tensor(key, packed, raw_dtype=wanted)
            twin[key] = torch.from_numpy(quants.dequantize(packed, wanted).copy())
        else:
            writer.add_tensor(key, array)
            twin[key] = tensor.clone()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    nodes = pack_module("ComfyUI-GGUF", "nodes")
    monkeypatch.setattr(folder_paths, "get_full_path", lambda *_: str(folder / "flux.gguf"))
    (base,) = nodes.UnetLoaderGGUF().load_unet("flux.gguf", "float32")
    monkeypatch.undo()
    outs = []
    options = {"dtype": torch.float32}
    for model in (base, comfy.sd.load_diffusion_model_state_dict(twin, model_options=options)):
        monkeypatch.setattr(golden, "model", model)
        outs.append(run(golden, reference_reuse=reuse))
    assert golden.error(*outs) < ROUNDING


def test_first_block_cache_of_wavespeed_has_no_effect_and_says_so(golden, caplog):
    node = pack_module("Comfy-WaveSpeed", "fbcache_nodes").ApplyFBCacheOnModel()
    with caplog.at_level("WARNING"):
        out = run(golden, lambda model: node.patch(model, "diffusion_model", 0.9)[0])
    assert "has no effect" in caplog.text
    assert torch.equal(out, run(golden))


@pytest.mark.parametrize("method", ["MultiDiffusion", "Mixture of Diffusers", "SpotDiffusion"])
def test_tiled_diffusion_is_refused(golden, method):
    node = pack_module("ComfyUI-TiledDiffusion", "tiled_diffusion").TiledDiffusion()
    with pytest.raises(ValueError, match="was called on a part of the latent"):
        run(golden, lambda model: node.apply(model, method, 96, 96, 32, 1)[0])
