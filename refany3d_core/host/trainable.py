"""RefAny3D's adapters as trained parameters: peft's pairs under the published names, routed by us.

A layer that peft wraps adds its delta to every token, and this method's LoRAs act on ranges of
tokens. So peft makes, initialises and names the pairs on layers of the published names and sizes,
which hold no weights and never run; the host's fused layers get the fused pairs, by token range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from comfy.ldm.flux.model import Flux
from torch import Tensor, nn

from ..method.adapters import LowRank, domain_embedder
from ..method.branches import Range
from .model_files import fuse_lora, fused_places
from .routing import AdapterModules, Layers

FILES = ("default", "coord", "domain_embedder")
"""Stems of the published files: Reference-LoRA, Domain-LoRA, domain embedder."""

_PREFIX = "transformer."


class _Site(nn.Linear):
    """A layer of a published name and size without a weight: what peft hangs a pair on."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False, device="meta")
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)


def published_sizes(transformer: Flux) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of every adapted layer of the host's Flux, by its published name."""
    config = {
        "depth": len(transformer.double_blocks),
        "depth_single_blocks": len(transformer.single_blocks),
        "hidden_size": transformer.hidden_size,
    }
    sizes = {}
    for name, place in fused_places(config).items():
        layer = transformer.get_submodule(place.path)
        sizes[name] = layer.in_features, place.rows or layer.out_features
    return sizes


class Lora(nn.Module):
    """One LoRA over all adapted layers: lora_A ~ N(0, 1 / rank), lora_B = 0 (METHOD fact 53).

    Args:
        sizes: (inputs, outputs) of the layers by published name.
        rank: of every pair; alpha equals it, since the scale is 1 whatever alpha says (fact 16).

    Raises:
        ValueError: peft is not installed.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]], rank: int) -> None:
        super().__init__()
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as e:
            raise ValueError("training needs the package peft: pip install peft") from e
        self.sites = nn.Module()
        for name, (inputs, outputs) in sizes.items():
            *parents, last = name.split(".")
            module = self.sites
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, nn.Module())
                module = module.get_submodule(parent)
            module.add_module(last, _Site(inputs, outputs))
        config = LoraConfig(
            r=rank,
            lora_alpha=rank,
            init_lora_weights="gaussian",
            target_modules="|".join(re.escape(name) for name in sizes),
        )
        inject_adapter_in_model(config, self.sites)
        self.names = list(sizes)

    def pairs(self) -> dict[str, LowRank]:
        """The trained pairs by published name, always in the same order (METHOD fact 55)."""
        trained = dict(self.sites.named_parameters())
        return {
            name: LowRank(
                trained[f"{name}.lora_A.default.weight"], trained[f"{name}.lora_B.default.weight"]
            )
            for name in self.names
        }

    def published(self) -> dict[str, Tensor]:
        """The trained tensors themselves under the published keys (METHOD fact 20)."""
        out = {}
        for name, pair in self.pairs().items():
            out[f"{_PREFIX}{name}.lora_A.weight"] = pair.down
            out[f"{_PREFIX}{name}.lora_B.weight"] = pair.up
        return out


class TrainablePair:
    """A fused pair with gradients; computes in the dtype of the layer that it is added to."""

    def __init__(self, pair: LowRank) -> None:
        self.down, self.up = pair

    def add_to(self, output: Tensor, x: Tensor, tokens: Range, rows: slice | None = None) -> None:
        """See RoutedPair."""
        start, end = max(tokens[0], 0), min(tokens[1], x.shape[1])
        if start >= end:
            return
        up = self.up if rows is None else self.up[rows]
        low = F.linear(x[:, start:end], self.down.to(x.dtype))
        output[:, start:end] += F.linear(low, up.to(low.dtype))


class TrainableAdapters(nn.Module):
    """Reference-LoRA, Domain-LoRA and the domain embedder, whose last layer starts at zero (METHOD
    fact 53). Parameters are float32.

    Args:
        transformer: the host's Flux that they are for.
        rank: rank of both LoRAs.
    """

    def __init__(self, transformer: Flux, rank: int) -> None:
        super().__init__()
        sizes = published_sizes(transformer)
        self.hidden_size = transformer.hidden_size
        self.default, self.coord = Lora(sizes, rank), Lora(sizes, rank)
        self.domain_embedder = domain_embedder(self.hidden_size)
        for parameter in self.domain_embedder[3].parameters():
            nn.init.zeros_(parameter)

    def layers(self) -> Layers:
        """The pairs for one pass, fused to the host's layers, differentiable."""
        reference = fuse_lora(self.default.pairs(), self.hidden_size)
        domain = fuse_lora(self.coord.pairs(), self.hidden_size)
        return {
            path: (TrainablePair(pair), TrainablePair(domain[path]))
            for path, pair in reference.items()
        }

    def domain_tokens(self, like: Tensor) -> Tensor:
        """[2, hidden] in the dtype of `like`, rows RGB and map."""
        device = next(self.domain_embedder.parameters()).device
        return self.domain_embedder(torch.arange(2, device=device)).to(like.dtype)

    def published(self) -> dict[str, dict[str, Tensor]]:
        """The trained tensors themselves by published file and key."""
        embedder: dict[str, Tensor] = dict(self.domain_embedder.named_parameters())
        tensors = (self.default.published(), self.coord.published(), embedder)
        return dict(zip(FILES, tensors))

    def named_trained(self) -> dict[str, Tensor]:
        """Trained tensors as FILE.KEY, always in the same order (METHOD fact 55)."""
        return {
            f"{file}.{key}": tensor
            for file, tensors in self.published().items()
            for key, tensor in tensors.items()
        }

    @torch.no_grad()
    def load_published(self, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over the tensors of published files.

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        for name, tensor in self.named_trained().items():
            file, key = name.split(".", 1)
            value = files[file].get(key)
            if value is None or value.shape != tensor.shape:
                found = "missing" if value is None else f"{tuple(value.shape)}"
                raise ValueError(
                    f"{file}: '{key}' is {found}, expected {tuple(tensor.shape)}; the files belong "
                    "to another model or rank"
                )
            tensor.copy_(value)

    def modules_for_sampling(self) -> AdapterModules:
        """A copy for the host's samplers, as Load RefAny3D LoRAs makes it of the saved files."""
        copies = {
            file: {key: tensor.detach().clone() for key, tensor in tensors.items()}
            for file, tensors in self.published().items()
        }
        pairs = [
            {
                name: LowRank(
                    copies[file][f"{_PREFIX}{name}.lora_A.weight"],
                    copies[file][f"{_PREFIX}{name}.lora_B.weight"],
                )
                for name in self.default.names
            }
            for file in FILES[:2]
        ]
        reference, domain = (fuse_lora(lora, self.hidden_size) for lora in pairs)
        return AdapterModules(reference, domain, copies["domain_embedder"])
