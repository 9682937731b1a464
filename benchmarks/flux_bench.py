"""A random Flux of any size on the real host, patched by our nodes' core, and a meter for memory.

Import this module first: it sets the host to the given device before anything of it is imported.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
COMFYUI = Path(os.environ["REFANY3D_COMFYUI"])
sys.path[:] = [str(COMFYUI), *(p for p in sys.path if p not in (str(ROOT), ""))] + [str(ROOT)]

import torch  # noqa: E402
from comfy.cli_args import args  # noqa: E402

args.cpu = not torch.cuda.is_available()
args.use_pytorch_cross_attention = True

import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402

from refany3d_core.host.conditioning import with_references  # noqa: E402
from refany3d_core.host.model_files import fuse_lora, fused_places  # noqa: E402
from refany3d_core.host.patch import patch_model  # noqa: E402
from refany3d_core.host.routing import AdapterModules, own  # noqa: E402
from refany3d_core.method.adapters import LowRank  # noqa: E402
from refany3d_core.method.components import Components  # noqa: E402
from refany3d_core.reference import Reference  # noqa: E402


@dataclass(frozen=True)
class Size:
    """Sizes of a Flux; the defaults are FLUX.1-dev's, but for the number of blocks."""

    double_blocks: int = 1
    single_blocks: int = 1
    heads: int = 24
    text_width: int = 4096
    text_tokens: int = 512
    pooled_width: int = 768
    rank: int = 16

    @property
    def hidden(self) -> int:
        return 128 * self.heads


def layer_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Shapes of a Flux checkpoint in the host's layout."""
    d = size.hidden
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    linear("img_in", 64, d)
    linear("txt_in", size.text_width, d)
    for name, width in (("time_in", 256), ("guidance_in", 256), ("vector_in", size.pooled_width)):
        linear(f"{name}.in_layer", width, d)
        linear(f"{name}.out_layer", d, d)
    for i in range(size.double_blocks):
        for stream in ("img", "txt"):
            name = f"double_blocks.{i}.{stream}"
            linear(f"{name}_mod.lin", d, 6 * d)
            linear(f"{name}_attn.qkv", d, 3 * d)
            linear(f"{name}_attn.proj", d, d)
            linear(f"{name}_mlp.0", d, 4 * d)
            linear(f"{name}_mlp.2", 4 * d, d)
            for norm in ("query_norm", "key_norm"):
                shapes[f"{name}_attn.norm.{norm}.weight"] = (128,)
    for i in range(size.single_blocks):
        name = f"single_blocks.{i}"
        linear(f"{name}.modulation.lin", d, 3 * d)
        linear(f"{name}.linear1", d, 7 * d)
        linear(f"{name}.linear2", 5 * d, d)
        for norm in ("query_norm", "key_norm"):
            shapes[f"{name}.norm.{norm}.weight"] = (128,)
    linear("final_layer.adaLN_modulation.1", d, 2 * d)
    linear("final_layer.linear", d, 64)
    return shapes


def random_weights(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, device: str = "cpu"):
    """Weights that keep the size of what passes through them; norms are 1."""
    generator = torch.Generator(device).manual_seed(0)
    out = {}
    for name, shape in shapes.items():
        if "norm" in name and len(shape) == 1:
            out[name] = torch.ones(shape, dtype=dtype, device=device)
        else:
            weight = torch.randn(shape, generator=generator, dtype=dtype, device=device)
            out[name] = weight * (shape[-1] ** -0.5 if len(shape) > 1 else 0.02)
    return out


def random_loras(size: Size, dtype: torch.dtype) -> dict[str, dict[str, torch.Tensor]]:
    """Both LoRAs with the official keys."""
    shapes = layer_shapes(size)
    config = {
        "depth": size.double_blocks,
        "depth_single_blocks": size.single_blocks,
        "hidden_size": size.hidden,
    }
    loras = {}
    for seed, name in enumerate(("default", "coord")):
        generator = torch.Generator().manual_seed(seed + 1)
        lora = {}
        for layer, place in fused_places(config).items():
            outputs, inputs = shapes[f"{place.path}.weight"]
            outputs = place.rows or outputs
            down = torch.randn(size.rank, inputs, generator=generator) * inputs**-0.5
            up = torch.randn(outputs, size.rank, generator=generator) * 0.1
            lora[f"transformer.{layer}.lora_A.weight"] = down.to(dtype)
            lora[f"transformer.{layer}.lora_B.weight"] = up.to(dtype)
        loras[name] = lora
    return loras


OBJECT_SHARE = 0.22
"""Part of a reference's tokens that shows the object: the mean of five real meshes at 512 px."""


def disc(side: int, share: float) -> torch.Tensor:
    """A round object, bool [side, side], that covers this share of the tokens."""
    line = torch.arange(side) - (side - 1) / 2
    return line[:, None] ** 2 + line**2 < side**2 * share / math.pi


class Bench:
    """A patched random Flux with references of n views."""

    def __init__(self, size: Size, dtype: torch.dtype, pixels: int = 512) -> None:
        self.size, self.dtype, self.pixels = size, dtype, pixels
        device = "cuda" if torch.cuda.is_available() else "cpu"
        weights = random_weights(layer_shapes(size), dtype, device)
        self.model = comfy.sd.load_diffusion_model_state_dict(
            weights, model_options={"dtype": dtype}
        )
        self.model.set_model_compute_dtype(dtype)
        self.loras = random_loras(size, dtype)
        d = size.hidden
        embedder = {
            "0.weight": (2, 256), "1.weight": (d, 256), "1.bias": (d,), "3.weight": (d, d),
            "3.bias": (d,),
        }  # fmt: skip
        self.embedder = random_weights(embedder, dtype)
        fused = {name: fuse_lora(self._pairs(lora), d) for name, lora in self.loras.items()}
        self.adapters = own(
            AdapterModules(fused["default"], fused["coord"], self.embedder), "random adapters"
        )
        generator = torch.Generator().manual_seed(9)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator)

        self.text = noise(1, size.text_tokens, size.text_width)
        self.pooled = noise(1, size.pooled_width)
        self.resize(pixels)
        self.views, self.maps = noise(8, 16, 64, 64), noise(8, 16, 64, 64)
        self.black = noise(1, 16, 64, 64)
        self.objects = disc(32, OBJECT_SHARE).expand(8, -1, -1)

    def resize(self, pixels: int) -> None:
        """Make pictures of this side from now on."""
        self.pixels, side = pixels, pixels // 8
        self.x = torch.randn(1, 16, side, 2 * side, generator=torch.Generator().manual_seed(10))

    def memory_estimate(self, applied: SimpleNamespace) -> int:
        """Bytes that the host plans for the conditional pass, beside the weights."""
        base = applied.model.model
        tokens = sum(math.prod(x.shape[2:]) for x in applied.positive[0][1]["reference_latents"])
        return base.memory_required(list(self.x.shape), {"ref_latents": [[1, 16, tokens]]})

    @staticmethod
    def _pairs(lora: dict[str, torch.Tensor]) -> dict[str, LowRank]:
        names = [key.removesuffix(".lora_A.weight") for key in lora if key.endswith("A.weight")]
        return {
            name.removeprefix("transformer."): LowRank(
                lora[f"{name}.lora_A.weight"], lora[f"{name}.lora_B.weight"]
            )
            for name in names
        }

    def apply(self, views: int, trim: bool = False, **options) -> SimpleNamespace:
        """Patched model and both conditionings for the first n views, trimmed or not."""
        reference = Reference(
            self.views[:views], self.maps[:views], self.black, self.objects[:views]
        )
        positive = [(self.text, {"pooled_output": self.pooled, "guidance": 3.5})]
        model = patch_model(self.model, self.adapters, Components(), **options)
        positive, negative = with_references(positive, reference, trim=trim)
        return SimpleNamespace(model=model, positive=positive, negative=negative)

    def sample(self, applied: SimpleNamespace, sigmas, cfg: float = 2.0, callback=None):
        """Stock Euler sampling of the joint latent; float32 on the CPU."""
        return comfy.sample.sample_custom(
            applied.model, self.x, cfg, comfy.samplers.sampler_object("euler"),
            torch.as_tensor(sigmas, dtype=torch.float32), applied.positive, applied.negative,
            torch.zeros_like(self.x), callback=callback, disable_pbar=True,
        )  # fmt: skip

    def oracle(self):
        """The plain oracle on the same weights, where the host has loaded them."""
        from benchmarks.oracle import Oracle

        model = self.model.model.diffusion_model
        device = model.img_in.weight.device
        loras = {
            name: {key: x.to(device) for key, x in lora.items()}
            for name, lora in self.loras.items()
        }
        return Oracle(model, loras, {key: x.to(device) for key, x in self.embedder.items()})


class Peak:
    """Highest memory of tensors above the start, in bytes."""

    bytes = 0


@contextmanager
def measured_peak() -> Iterator[Peak]:
    """Watch the peak memory of what runs inside: what the allocators hand out, so that other
    programs, and what the C library keeps for later, do not count."""
    peak = Peak()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        yield peak
        torch.cuda.synchronize()
        peak.bytes = torch.cuda.max_memory_allocated() - start
        return
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        yield peak
    results = profiler.profiler.kineto_results if profiler.profiler else None
    events = results.events() if results else []
    changes = sorted(
        (e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]" and e.nbytes()
    )
    peak.bytes = max(accumulate((nbytes for _, nbytes in changes), initial=0))


@contextmanager
def stopwatch() -> Iterator[SimpleNamespace]:
    """Seconds of what runs inside: the device's, or without one the processor time of this process,
    which other programs' load changes little."""

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            return time.perf_counter() - start
        return time.process_time() - start

    start = 0.0
    result = SimpleNamespace(seconds=0.0, now=now)
    start = now()
    yield result
    result.seconds = now()
