"""Networks of transformers: a folder or a name on the hub, loaded once, used by one at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def device_of(name: str) -> str:
    """The device by its name; "": this process's own GPU, or the CPU."""
    import torch

    if name:
        return name
    if not torch.cuda.is_available():
        return "cpu"
    local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    return f"cuda:{local % torch.cuda.device_count()}"


def load(model: str, auto: str, processor: str, device: str) -> tuple[Any, Any]:
    """(model, processor) by the names of transformers' classes.

    Raises:
        ValueError: transformers is missing or too old, or the model is no such one.
    """
    try:
        import transformers

        model_class = getattr(transformers, auto)
        processor_class = getattr(transformers, processor)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"'{model}' needs {auto} of transformers (pip install -U transformers): {error}"
        ) from error
    try:
        network = model_class.from_pretrained(model).eval().to(device_of(device))
        return network, processor_class.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"'{model}' is no checkpoint for {auto}: {error}") from error


def kind_of(model: str) -> str:
    """The `model_type` of a checkpoint, such as "sam2".

    Raises:
        ValueError: not a checkpoint.
    """
    try:
        from transformers import PreTrainedConfig
    except ImportError as error:
        raise ValueError(
            f"'{model}' needs transformers (pip install -U transformers): {error}"
        ) from error
    try:
        values, _ = PreTrainedConfig.get_config_dict(model)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{model}' is no checkpoint: {error}") from error
    return str(values.get("model_type", ""))


def load_embedder(model: str, device: str) -> tuple[Any, Any]:
    """(network, processor) that `embed` takes: CLIP (whole or its vision part with the projection),
    SigLIP, DINO, DINOv2, DINOv3, as transformers saves them.

    Raises:
        ValueError: as `load`.
    """
    clip = kind_of(model) in ("clip", "clip_vision_model")
    auto = "CLIPVisionModelWithProjection" if clip else "AutoModel"
    return load(model, auto, "AutoImageProcessor", device)


def embed(network: Any, processor: Any, pictures: Sequence[np.ndarray]) -> Tensor:
    """Unit embeddings float32 [N, D] on the CPU: CLIP's and SigLIP's image embedding, the class
    token of others.

    Args:
        network, processor: of `load_embedder`.
        pictures: float [H, W, 3] in 0..1 each.
    """
    import torch

    pixels = [(np.clip(x, 0, 1) * 255).round().astype(np.uint8) for x in pictures]
    with torch.no_grad():
        inputs = processor(images=pixels, return_tensors="pt").to(network.device)
        if hasattr(network, "get_image_features"):
            out = network.get_image_features(**inputs)
            out = getattr(out, "pooler_output", out)
        else:
            out = network(**inputs)
            out = out.image_embeds if "image_embeds" in out else out.last_hidden_state[:, 0]
        return torch.nn.functional.normalize(out.float(), dim=-1).cpu()
