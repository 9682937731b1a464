"""Train RefAny3D LoRAs: the trainer's loop inside ComfyUI."""

import os

import folder_paths
from comfy_api.latest import io

from .save_triplet import FOLDER as DATASETS
from .sockets import CATEGORY, AdaptersSocket

NODE = "Train RefAny3D LoRAs"
FOLDER = "RefAny3D_training"
"""Subfolder of ComfyUI's output folder for checkpoints, encodings and validation pictures."""


def _advanced(kind, name: str, **settings) -> io.Input:
    return kind(name, optional=True, advanced=True, **settings)


class Train(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_Train",
            display_name=NODE,
            category=CATEGORY,
            is_experimental=True,
            is_output_node=True,
            description="Train both LoRAs and the domain embedder on a folder of triplets (Save "
            "Triplet makes one), by the published recipe. Progress, loss and a validation picture "
            "show on the node; an interrupt saves a checkpoint, and the next Run goes on from it.",
            search_aliases=["refany3d", "train", "fine-tune", "train lora", "triplets"],
            inputs=[
                io.Model.Input("model", tooltip="FLUX.1-dev, in bf16, fp8 or GGUF; it is frozen."),
                io.Clip.Input("clip", tooltip="FLUX's text encoders: CLIP-L and T5-XXL."),
                io.Vae.Input("vae", tooltip="FLUX's VAE (ae.safetensors)."),
                io.String.Input(
                    "dataset",
                    default="my_dataset",
                    tooltip=f"Name of a folder that Save Triplet wrote (in output/{DATASETS}), or "
                    "the path of a dataset in the published layout, with its meta_data.json.",
                ),
                io.Int.Input("steps", default=1000, min=1, max=10**6, tooltip="Optimiser steps."),
                io.Float.Input(
                    "learning_rate",
                    default=1.0,
                    min=1e-7,
                    max=10.0,
                    step=1e-4,
                    round=False,
                    tooltip="1.0 for prodigy (published), which finds its rate itself; about 1e-4 "
                    "for adamw.",
                ),
                io.Int.Input("rank", default=16, min=1, max=256, tooltip="Of both LoRAs; 16 is "
                             "published."),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    tooltip="Go on from the checkpoint of the same name; off starts anew.",
                ),
                _advanced(
                    io.String.Input, "name", default="my_loras",
                    tooltip="Of the run: its folder, and of the files in models/refany3d.",
                ),
                _advanced(
                    io.Combo.Input, "optimizer", options=["prodigy", "adamw"],
                    tooltip="prodigy is published.",
                ),
                _advanced(
                    io.Int.Input, "views", default=8, min=1, max=60,
                    tooltip="Reference views of an asset; 8 is published, fewer take less memory.",
                ),
                _advanced(
                    io.Int.Input, "resolution", default=512, min=64, max=2048, step=16,
                    tooltip="Pixels of a side; 512 is published.",
                ),
                _advanced(
                    io.Int.Input, "batch_size", default=1, min=1, max=64,
                    tooltip="Samples of a pass.",
                ),
                _advanced(
                    io.Int.Input, "accumulation", default=1, min=1, max=1024,
                    tooltip="Passes of a step, whose gradients are averaged.",
                ),
                _advanced(
                    io.Boolean.Input, "gradient_checkpointing", default=True,
                    tooltip="Far less memory, a third more time.",
                ),
                _advanced(
                    io.Int.Input, "seed", default=0, min=0, max=2**31 - 1,
                    tooltip="Of the start and of everything that is drawn.",
                ),
            ],
            outputs=[
                AdaptersSocket.Output(
                    "adapters", display_name="adapters",
                    tooltip="The trained adapters, for Apply RefAny3D or RefAny3D Sampler.",
                ),
                io.LossMap.Output(
                    "loss_map", display_name="loss_map", tooltip="For Plot Loss Graph.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        if not isinstance(name, str):  # linked, so that the run checks it; or the host tells
            return True
        try:
            _check_name(name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")  # a dataset on disk changes without the graph

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        dataset: str,
        steps: int,
        learning_rate: float,
        rank: int,
        resume: bool,
        name: str = "my_loras",
        optimizer: str = "prodigy",
        views: int = 8,
        resolution: int = 512,
        batch_size: int = 1,
        accumulation: int = 1,
        gradient_checkpointing: bool = True,
        seed: int = 0,
    ) -> io.NodeOutput:
        _check_name(name)
        # Training needs packages of its own, and loads only when it is used.
        from ..refany3d_core.training.config import DatasetConfig, RefAny3DConfig
        from ..refany3d_core.training.in_host import train_in_host

        config = RefAny3DConfig(
            steps=steps,
            learning_rate=learning_rate,
            rank=rank,
            optimizer=optimizer,
            batch=batch_size,
            accumulation=accumulation,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
            samples=1,
            log_every=1,
        )
        data = DatasetConfig(_dataset_folder(dataset), resolution, views)
        folder = os.path.join(folder_paths.get_output_directory(), FOLDER, name)
        try:
            adapters, losses = train_in_host(model, clip, vae, data, config, folder, name, resume)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        return io.NodeOutput(adapters, {"loss": losses})


def _check_name(name: str) -> None:
    """Refuse a run's name that is no plain name of a folder.

    Raises:
        ValueError: it is not.
    """
    plain = name == os.path.basename(name) and "\\" not in name and "\0" not in name
    if not name.strip() or not plain or name.startswith("."):
        raise ValueError(f"{NODE}: name is {name!r}; give a plain name, such as my_loras")


def _dataset_folder(name: str) -> str:
    """The folder of a dataset, by its name in the output folder or its path.

    Raises:
        ValueError: there is none.
    """
    for parent in ("", os.path.join(folder_paths.get_output_directory(), DATASETS)):
        path = os.path.join(parent, name)
        if name.strip() and os.path.isdir(path) and (parent or os.path.isabs(path)):
            return path
    raise ValueError(
        f"{NODE}: there is no dataset {name!r} in output/{DATASETS}; make one with Save Triplet, "
        "or give the whole path of a folder with a meta_data.json"
    )
