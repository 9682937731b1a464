"""The frozen models of a training run, and what encodes its pictures and captions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ..host.demo_models import FROZEN, load_small_models
from .config import ModelsConfig

_T5_LENGTH = "t5xxl_min_length"


@dataclass(frozen=True)
class Encoders:
    """What is run once over a training set.

    Attributes:
        pictures: uint8 [N, 3, H, W] to latents [N, 16, H / 8, W / 8] as the VAE node gives them.
        texts: captions to (text tokens [T, C], pooled [V]) each.
        pictures_made_of, texts_made_of: names of the weights: encodings by others are never used.
    """

    pictures: Callable[[Tensor], Tensor]
    texts: Callable[[list[str]], list[tuple[Tensor, Tensor]]]
    pictures_made_of: str
    texts_made_of: str


@dataclass(frozen=True)
class Models:
    """The host's model objects of a run.

    Attributes:
        model: MODEL of the base.
        clip: CLIP.
        vae: VAE.
        encoders: made of clip and vae, or faster ones with the same result.
    """

    model: Any
    clip: Any
    vae: Any
    encoders: Encoders


def host_encoders(clip: Any, vae: Any, text_tokens: int = 512) -> Encoders:
    """Encoders of the host's CLIP and VAE objects.

    Args:
        clip: FLUX's text encoders, or another's.
        vae: FLUX's VAE.
        text_tokens: least number of T5 tokens; the published code pads to 512 (METHOD fact 56).
    """
    clip = clip.clone()
    clip.set_tokenizer_option(_T5_LENGTH, text_tokens)

    def pictures(values: Tensor) -> Tensor:
        return vae.encode(values.movedim(1, -1).float() / 255).float()

    def texts(captions: list[str]) -> list[tuple[Tensor, Tensor]]:
        out = []
        for caption in captions:
            encoded = clip.encode_from_tokens(clip.tokenize(caption), return_pooled=True)
            out.append((encoded[0][0].float().cpu(), encoded[1][0].float().cpu()))
        return out

    return Encoders(
        pictures,
        texts,
        fingerprint(vae.first_stage_model.state_dict()),
        f"{text_tokens} {fingerprint(clip.cond_stage_model.state_dict())}",
    )


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A name of weights: a hash of names, shapes and the first values of every tensor."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if not torch.is_tensor(tensor):
            continue
        first = tensor.flatten()[:64]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(str(first.detach().to("cpu", torch.float64).tolist()).encode())
    return digest.hexdigest()[:16]


def load_models(config: ModelsConfig) -> Models:
    """FLUX.1-dev and its companions from ComfyUI's model folders.

    Raises:
        ValueError: a file is in no such folder, or the dtype is unknown.
    """
    dtypes = {
        "default": None,
        "bf16": torch.bfloat16,
        "fp8_e4m3fn": torch.float8_e4m3fn,
        "float32": torch.float32,
    }
    if config.weight_dtype not in dtypes:
        raise ValueError(
            f"[models]: weight_dtype is '{config.weight_dtype}', expected {', '.join(dtypes)}"
        )
    clip_type = getattr(comfy.sd.CLIPType, config.text_type.upper(), None)
    if clip_type is None:
        raise ValueError(f"[models]: text_type is '{config.text_type}', which ComfyUI has not")
    base = _find("diffusion_models", config.base, "base")
    encoders = [_find("text_encoders", name, "text_encoders") for name in config.text_encoders]
    vae_file = _find("vae", config.vae, "vae")
    dtype = dtypes[config.weight_dtype]
    options = {"dtype": dtype} if dtype is not None else {}
    model = comfy.sd.load_diffusion_model(base, model_options=options)
    clip = comfy.sd.load_clip(
        ckpt_paths=encoders,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=clip_type,
    )
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(vae_file))
    return Models(model, clip, vae, host_encoders(clip, vae, config.text_tokens))


def _find(folder: str, name: str, setting: str) -> str:
    if name.lower().endswith(".gguf"):
        raise ValueError(
            f"[models]: {setting} is '{name}', and ComfyUI reads no GGUF by itself; use the node "
            "Train RefAny3D LoRAs with the MODEL of a GGUF loader"
        )
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise ValueError(
            f"[models]: there is no '{name}' ({setting}) in ComfyUI's models/{folder}; put the "
            "file there, or name the one that is"
        )
    return path


def load_small(folder: Path, base: Path | None = None, encoders: Encoders | None = None) -> Models:
    """A small model from the folder of a run.

    Args:
        folder: with base, text_encoder and autoencoder.safetensors.
        base: another base than the folder's.
        encoders: faster ones than the host's.

    Raises:
        ValueError: a file is missing.
    """
    paths = [folder / f"{name}.safetensors" for name in FROZEN]
    if base is not None:
        paths[0] = base
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"'{folder}' has no {', '.join(missing)}: train the stages before it first"
        )
    model, clip, vae = load_small_models(*paths)
    return Models(model, clip, vae, encoders or host_encoders(clip, vae))


def on_device(model: Any) -> torch.nn.Module:
    """The transformer of a MODEL, all of it on its device, as tensors that autograd may save.

    Weights that were loaded under the executor's inference mode cannot be saved for a backward
    pass: then a copy of the model is used, and the given one stays as it is.
    """
    if any(p.is_inference() for p in model.model.parameters()):
        model = model.clone(force_deepcopy=True)
        for module in model.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter.is_inference():
                    plain = torch.nn.Parameter(parameter.clone(), requires_grad=False)
                    setattr(module, name, plain)
    comfy.model_management.load_models_gpu([model], force_full_load=True)
    return model.model.diffusion_model.requires_grad_(False)
