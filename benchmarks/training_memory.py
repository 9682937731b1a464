"""What autograd keeps for the backward pass of a training step, per block, token and channel.

These are the constants of refany3d_core/training/memory.py; the table of docs/training.md is
computed from them.

    python benchmarks/training_memory.py      (ComfyUI's Python, COMFYUI_PATH set)
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from refany3d_core.training.find_host import prepare_host  # noqa: E402

prepare_host()

import torch  # noqa: E402

from refany3d_core.host import train as host_train  # noqa: E402
from refany3d_core.host.trainable import TrainableAdapters, published_sizes  # noqa: E402
from refany3d_core.training.config import BaseConfig, RefAny3DConfig  # noqa: E402
from refany3d_core.training.memory import GIB, estimate, trained_numbers  # noqa: E402
from refany3d_core.training.objectives import Batch, refany3d_loss  # noqa: E402
from refany3d_core.training.small.stages import new_flux  # noqa: E402

HIDDEN, TEXT, SIDE, VIEWS, RANK = 256, 64, 16, 4, 16
FLUX_HIDDEN, FLUX_BLOCKS, FLUX_PARAMETERS = 3072, 57, 11_901_408_320
"""FLUX.1-dev: width, 19 + 38 blocks, parameters."""


def saved_numbers(doubles: int, singles: int, checkpointing: bool) -> float:
    """Numbers that a forward pass keeps, parameters apart, per token and channel."""
    torch.manual_seed(0)
    sizes = BaseConfig(
        hidden=HIDDEN, double_blocks=doubles, single_blocks=singles, text_width=HIDDEN
    )
    model = new_flux(sizes).requires_grad_(False)
    adapters = TrainableAdapters(model, RANK)
    forward = host_train.TrainingForward(model, adapters, gradient_checkpointing=checkpointing)
    own = {p.data_ptr() for p in [*model.parameters(), *adapters.parameters()]}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    batch = Batch(
        torch.randn(1, 2, 16, SIDE, SIDE), torch.randn(1, 2, VIEWS, 16, SIDE, SIDE),
        torch.randn(1, TEXT, HIDDEN), torch.randn(1, HIDDEN), torch.rand(1),
        torch.randn(1, 2, 16, SIDE, SIDE),
    )  # fmt: skip
    with host_train.differentiable(model):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            refany3d_loss(forward, batch, torch.float32)
    tokens = TEXT + (2 + 2 * VIEWS) * SIDE * SIDE // 4
    return sum(kept.values()) / 4 / tokens / HIDDEN


def flux_row(views: int, weights: int, config: RefAny3DConfig) -> str:
    """Memory of FLUX.1-dev at 512 px, computed."""
    with torch.device("meta"):
        from comfy.ldm.flux.model import Flux

        model = Flux(
            image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768,
            context_in_dim=4096, hidden_size=FLUX_HIDDEN, mlp_ratio=4.0, num_heads=24, depth=19,
            depth_single_blocks=38, axes_dim=[16, 56, 56], theta=10000, patch_size=2,
            qkv_bias=True, txt_ids_dims=[], guidance_embed=True, operations=torch.nn,
        )  # fmt: skip
    trained = trained_numbers(published_sizes(model), config.rank, FLUX_HIDDEN)
    tokens = 512 + (2 + 2 * views) * 1024
    need = estimate(weights, trained, FLUX_BLOCKS, FLUX_HIDDEN, tokens, config, 2)
    parts = (need.weights, need.trained, need.activations)
    return " | ".join(f"{part / GIB:.1f}" for part in parts) + f" | **{need.total / GIB:.1f}**"


def main() -> None:
    # as on a graphics card: attention that keeps no matrix of weights
    host_train.training_attention.__code__ = _sdpa.__code__
    for checkpointing in (False, True):
        one, double, single = (
            saved_numbers(d, s, checkpointing) for d, s in ((1, 2), (2, 2), (1, 3))
        )
        print(
            f"checkpointing {checkpointing}: a double block keeps {double - one:.1f}, a single one "
            f"{single - one:.1f} numbers per token and channel"
        )
    print("| views | base | checkpointing | weights | adapters | activations | GiB |")
    for views in (8, 4, 2):
        for name, size in (("bf16", 2), ("fp8", 1), ("GGUF Q4", 0.57)):
            for on in (True, False):
                config = dataclasses.replace(RefAny3DConfig(), gradient_checkpointing=on)
                row = flux_row(views, int(FLUX_PARAMETERS * size), config)
                print(f"| {views} | {name} | {'yes' if on else 'no'} | {row} |")


def _sdpa(func, q, k, v, heads, **kwargs):
    import torch

    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)


if __name__ == "__main__":
    main()
