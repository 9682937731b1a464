"""Training inside ComfyUI's own process: the same loop as the command's, on the user's models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ..host import model_files
from ..host.demo_models import load_adapters
from ..host.routing import Adapters
from ..host.trainable import FILES
from .config import Config, DatasetConfig, RefAny3DConfig
from .loop import Interrupted, make_accelerator
from .models import Models, host_encoders
from .refany3d import host_interrupts
from .run import CACHE, train_variant

PREVIEW_PIXELS = 512


def train_in_host(
    model: Any,
    clip: Any,
    vae: Any,
    data: DatasetConfig,
    config: RefAny3DConfig,
    folder: str,
    name: str,
    resume: bool,
) -> tuple[Adapters, list[float]]:
    """Train, with ComfyUI's progress bar, preview and interrupt.

    Args:
        model, clip, vae: the user's.
        data: the dataset.
        config: the recipe.
        folder: of the run.
        name: under which the published files go into models/refany3d.
        resume: go on from the folder's checkpoint.

    Returns:
        The trained adapters, and the loss of every step of this call.

    Raises:
        ValueError: an input does not fit.
        InterruptProcessingException: of the host's, after a checkpoint.
    """
    target = Path(folder)
    if not resume and target.is_dir():
        for kept in target.iterdir():  # the encodings stay
            if kept.is_file():
                kept.unlink()
    for file in FILES:  # those of a finished run, which this one goes on from or makes anew
        (target / f"{file}.safetensors").unlink(missing_ok=True)
    progress, losses = comfy.utils.ProgressBar(config.steps), []
    preview: list[Any] = [None]

    def watch(done: int, steps: int, loss: float) -> None:
        losses.append(loss)
        with host_interrupts():
            progress.update_absolute(done, steps, preview[0])
        preview[0] = None

    def show(picture: Tensor) -> None:
        from PIL import Image

        pixels = (picture * 255).round().to(torch.uint8).numpy()
        preview[0] = ("PNG", Image.fromarray(pixels), PREVIEW_PIXELS)

    # The executor's inference mode makes tensors that autograd must not save.
    with torch.inference_mode(False):
        models = Models(model, clip, vae, host_encoders(clip, vae))
        try:
            train_variant(
                models, Config(dataset=data), config, target, target.parent / CACHE,
                make_accelerator(comfy.model_management.get_torch_device().type), watch, show,
            )  # fmt: skip
        except Interrupted as e:
            raise comfy.model_management.InterruptProcessingException from e
    published = Path(folder_paths.models_dir) / model_files.FOLDER / name
    published.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(target / f"{file}.safetensors", published / f"{file}.safetensors")
    return load_adapters(published), losses
