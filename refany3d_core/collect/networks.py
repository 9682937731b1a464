"""Networks of transformers: a folder or a name on the hub, loaded once, used by one at a time."""

from __future__ import annotations

import os
from typing import Any


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
    from transformers import PreTrainedConfig

    try:
        values, _ = PreTrainedConfig.get_config_dict(model)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{model}' is no checkpoint: {error}") from error
    return str(values.get("model_type", ""))
