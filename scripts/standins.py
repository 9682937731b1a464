"""Small random models that the stock loaders accept, written into a `models` folder.

They have the layout of the real files and none of their skill: with them a workflow runs from end
to end in seconds, and its pictures are noise. Run with ComfyUI's Python:

    python scripts/standins.py COMFYUI_FOLDER MODELS_FOLDER

* `standin_flux.safetensors`: Flux with 1 double and 2 single blocks, 2 heads of 128;
* `standin_clip_l.safetensors`: a CLIP-L of full size (its shape is fixed in ComfyUI). T5-XXL cannot
  be made small, so a graph that wants both gets this file twice and the type `sd3`, which then
  encodes with CLIP-L alone, padded to Flux's 4096 text features;
* `standin_vae.safetensors`: an autoencoder of TAESD's shape with 16 latent channels;
* `standin_default.safetensors`, `standin_coord.safetensors`, `standin_domain_embedder.pth`: the
  three RefAny3D files with their published key names, LoRA rank 4.
"""

from __future__ import annotations

import sys
from pathlib import Path

HIDDEN, HEADS, DOUBLE, SINGLE, RANK = 256, 2, 1, 2, 4
TEXT_FEATURES, POOLED_FEATURES = 4096, 768

# What a FLUX.1-dev workflow has to be changed to for these files: {node type: {input: value}}.
SWAPS = {
    "UNETLoader": {"unet_name": "standin_flux.safetensors"},
    "DualCLIPLoader": {
        "clip_name1": "standin_clip_l.safetensors",
        "clip_name2": "standin_clip_l.safetensors",
        "type": "sd3",
    },
    "VAELoader": {"vae_name": "standin_vae.safetensors"},
    "RefAny3D_LoadAdapters": {
        "reference_lora": "standin_default.safetensors",
        "domain_lora": "standin_coord.safetensors",
        "domain_embedder": "standin_domain_embedder.pth",
    },
}


def random_like(shapes: dict, seed: int, gain: float = 1.0) -> dict:
    """Random tensors for {name: tensor}: weights of unit gain, norms of one, small biases."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in shapes.items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim < 2:
            is_norm = "norm" in name and name.endswith(("weight", "scale"))
            found[name] = 1.0 + 0.1 * noise if is_norm else 0.02 * noise
        elif "embedding" in name:
            found[name] = 0.02 * noise
        else:
            found[name] = noise * gain * tensor[0].numel() ** -0.5
    return {name: tensor.contiguous() for name, tensor in found.items()}


def flux(hidden: int = HIDDEN, heads: int = HEADS, double: int = DOUBLE, single: int = SINGLE):
    """The host's Flux at these sizes, without weights."""
    import torch
    from comfy.ldm.flux.model import Flux

    return Flux(
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=POOLED_FEATURES,
        context_in_dim=TEXT_FEATURES, hidden_size=hidden, mlp_ratio=4.0, num_heads=heads,
        depth=double, depth_single_blocks=single, axes_dim=[16, 56, 56], theta=10000,
        patch_size=2, qkv_bias=True, txt_ids_dims=[], guidance_embed=True, device="meta",
        dtype=torch.float32, operations=torch.nn,
    )  # fmt: skip


def flux_state_dict(hidden: int = HIDDEN, heads: int = HEADS) -> dict:
    """Weights in the layout of FLUX.1-dev's own file, float32."""
    return random_like(flux(hidden, heads).state_dict(), seed=1)


def clip_l_state_dict() -> dict:
    import json

    import comfy.sd1_clip
    import torch
    from comfy.clip_model import CLIPTextModel

    config = Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    model = CLIPTextModel(
        json.loads(config.read_text()), torch.float32, torch.device("meta"), torch.nn
    )
    state = random_like(model.state_dict(), seed=2)
    return {name: tensor.half() for name, tensor in state.items()}


def vae_state_dict(channels: int = 16) -> dict:
    """An autoencoder of TAESD's shape."""
    import torch
    from comfy.taesd.taesd import TAESD

    state = random_like(TAESD(latent_channels=channels).state_dict(), seed=3, gain=1.2)
    # Latents of about unit size, and pictures around mid grey that do not clip.
    state["taesd_encoder.14.weight"] *= 0.3
    state["taesd_decoder.19.weight"] *= 0.15
    state["taesd_decoder.19.bias"] += 0.5
    # The stock loader's own values for FLUX.1's small autoencoder.
    return state | {"vae_scale": torch.tensor(0.3611), "vae_shift": torch.tensor(0.1159)}


def lora_state_dict(seed: int, hidden: int = HIDDEN, rank: int = RANK, **blocks: int) -> dict:
    import torch

    from refany3d_core.host.trainable import published_sizes

    shapes = {}
    model = flux(hidden, hidden // (HIDDEN // HEADS), **blocks)
    for module, (features_in, features_out) in published_sizes(model).items():
        shapes[f"transformer.{module}.lora_A.weight"] = torch.empty(rank, features_in)
        shapes[f"transformer.{module}.lora_B.weight"] = torch.empty(features_out, rank)
    state = random_like(shapes, seed=seed, gain=0.5)
    return {name: tensor.bfloat16() for name, tensor in state.items()}


def domain_embedder_state_dict(hidden: int = HIDDEN) -> dict:
    import torch

    shapes = {"0.weight": (2, 256), "1.weight": (hidden, 256), "1.bias": (hidden,),
              "3.weight": (hidden, hidden), "3.bias": (hidden,)}  # fmt: skip
    generator = torch.Generator().manual_seed(6)
    return {
        name: (torch.randn(shape, generator=generator) * 0.1).bfloat16()
        for name, shape in shapes.items()
    }


def write_standins(models: Path) -> None:
    """Write all files; what is there already stays, and each file appears whole or not at all."""
    import torch
    from safetensors.torch import save_file

    tensors = {
        "diffusion_models/standin_flux.safetensors": flux_state_dict,
        "text_encoders/standin_clip_l.safetensors": clip_l_state_dict,
        "vae/standin_vae.safetensors": vae_state_dict,
        "loras/standin_default.safetensors": lambda: lora_state_dict(seed=4),
        "loras/standin_coord.safetensors": lambda: lora_state_dict(seed=5),
        "refany3d/standin_domain_embedder.pth": domain_embedder_state_dict,
    }
    for name, make in tensors.items():
        target = models / name
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        if target.suffix == ".pth":
            torch.save(make(), partial)
        else:
            save_file(make(), partial)
        partial.replace(target)


def main() -> None:
    comfyui, models = sys.argv[1:]
    sys.path.insert(0, comfyui)
    # At the end: the project's package `nodes` has the name of a module of ComfyUI's.
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    write_standins(Path(models))


if __name__ == "__main__":
    main()
