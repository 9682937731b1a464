"""refany3d-small, the trained model in the box, as the host's own objects.

Its transformer and autoencoder go through the host's loaders like any FLUX.1 file; its little text
encoder has no counterpart in the host and is wrapped here as a CLIP.
"""

from __future__ import annotations

import json
from pathlib import Path

import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.sd1_clip import escape_important, token_weights, unescape_important
from torch import Tensor, nn

from ..int8_rows import dequantise_rows
from . import model_files
from .routing import Adapters
from .small_text import LENGTH, PAD, START, TextEncoder, Tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "demo_model"
"""Where the bundled files lie."""

_KEY = "refany3d_small"


FROZEN = ("base", "text_encoder", "autoencoder")
"""Stems of the small model's files, beside the adapters' published names."""


def load_demo_models() -> tuple[
    comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE, Adapters
]:
    """(model, clip, vae, adapters) of the bundled files.

    Raises:
        ValueError: a file is missing from the pack's folder.
    """
    names = (*FROZEN, "default", "coord", "domain_embedder")
    missing = [f"{name}.safetensors" for name in names if not _path(FOLDER, name).is_file()]
    if missing:
        raise ValueError(
            f"Load Demo Models: {', '.join(missing)} missing from the pack's folder "
            f"'{FOLDER.name}'; install the pack again"
        )
    return (*load_small_models(*(_path(FOLDER, name) for name in FROZEN)), load_adapters(FOLDER))


def load_small_models(
    base: Path, text_encoder: Path, autoencoder: Path
) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """(model, clip, vae) of a small model's files, the base in float32."""
    weights = dequantise_rows(comfy.utils.load_torch_file(str(base)))
    model = comfy.sd.load_diffusion_model_state_dict(weights)
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(autoencoder)))
    return model, _load_clip(text_encoder), vae


def load_adapters(folder: Path) -> Adapters:
    """The published files of a folder."""
    return model_files.load_adapters(
        "default", "coord", "domain_embedder", lambda name, role: str(_path(folder, name))
    )


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _load_clip(file: Path) -> comfy.sd.CLIP:
    tensors, metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
    vocabulary = json.loads(metadata["vocabulary"])
    target = comfy.supported_models_base.ClipTarget(_WeightedTokenizer, _TextModel)
    target.params = {"vocabulary": len(vocabulary), "width": tensors["position"].shape[1]}
    return comfy.sd.CLIP(
        target,
        tokenizer_data={"vocabulary": vocabulary},
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        state_dict={f"encoder.{name}": tensor.float() for name, tensor in tensors.items()},
    )


class _WeightedTokenizer:
    """The small model's words with the host's weights, such as (word:1.2)."""

    def __init__(self, embedding_directory: object = None, tokenizer_data: dict = {}):
        self._tokenizer = Tokenizer(tokenizer_data["vocabulary"])

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: object
    ) -> dict[str, list[list[tuple]]]:
        pairs: list[tuple] = [(START, 1.0)]
        for part, weight in token_weights(escape_important(text), 1.0):
            numbers = self._tokenizer(unescape_important(part))[1:]
            pairs += [(number, weight) for number in numbers if number != PAD]
        pairs = (pairs + [(PAD, 1.0)] * LENGTH)[:LENGTH]
        if return_word_ids:
            pairs = [(number, weight, 0) for number, weight in pairs]
        return {_KEY: [pairs]}

    def state_dict(self) -> dict:
        return {}


class _TextModel(nn.Module):
    """The small text encoder with the methods that the host's CLIP calls; always float32."""

    def __init__(
        self,
        vocabulary: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        model_options: dict,
    ) -> None:
        super().__init__()
        self.encoder = TextEncoder(vocabulary, width).requires_grad_(False).eval().to(device)
        self.dtypes = {torch.float32}
        self._device = device

    def set_clip_options(self, options: dict) -> None:
        self._device = options.get("execution_device", self._device)

    def reset_clip_options(self) -> None:
        """Nothing is kept between calls but the device, which each call sets."""

    def encode_token_weights(self, tokens: dict) -> tuple[Tensor, Tensor]:
        pairs = tokens[_KEY][0]
        empty = [START] + [PAD] * (LENGTH - 1)
        rows = torch.tensor([[pair[0] for pair in pairs], empty], device=self._device)
        context, pooled = self.encoder(rows)
        weights = torch.tensor([pair[1] for pair in pairs], device=self._device)[:, None]
        context = context[1] + (context[0] - context[1]) * weights
        return context[None].cpu(), pooled[:1].cpu()
