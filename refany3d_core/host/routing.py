"""RefAny3D's adapters on the host: modules owned by a ModelPatcher, routed to token ranges by
hooks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor, nn

from ..method.adapters import LowRank, add_low_rank_, domain_embedder
from ..method.branches import BranchLayout, Range, Stream
from ..method.components import Components

_OPERATIONS = comfy.ops.manual_cast


class RoutedPair(Protocol):
    """A low-rank pair that adds its delta to a range of a layer's tokens."""

    def add_to(self, output: Tensor, x: Tensor, tokens: Range, rows: slice | None = None) -> None:
        """Add the delta of x's tokens [start, end) to the same tokens of the output, in place.

        Args:
            output: [B, S, out].
            x: [B, S, in].
            tokens: range of the second axis; what lies outside 0..S is left out.
            rows: the output's features among the layer's rows, when it holds only some of them.
        """


Layers = Mapping[str, tuple[RoutedPair, RoutedPair]]
"""(Reference-LoRA, Domain-LoRA) by path of the host's layer."""


class LowRankModule(nn.Module):
    """A fused low-rank pair as host modules, so that the host moves, offloads and casts them."""

    def __init__(self, pair: LowRank) -> None:
        super().__init__()
        rank, in_features = pair.down.shape
        kwargs = {"bias": False, "dtype": pair.down.dtype, "device": "meta"}
        self.down = _OPERATIONS.Linear(in_features, rank, **kwargs)
        self.up = _OPERATIONS.Linear(rank, pair.up.shape[0], **kwargs)
        self.down.weight = nn.Parameter(pair.down, requires_grad=False)
        self.up.weight = nn.Parameter(pair.up, requires_grad=False)

    def add_to(self, output: Tensor, x: Tensor, tokens: Range, rows: slice | None = None) -> None:
        """See RoutedPair; without gradients and without a temporary of the output's size."""
        start, end = max(tokens[0], 0), min(tokens[1], x.shape[1])
        if start >= end:
            return
        low = self.down(x[:, start:end])
        up, bias, stream = comfy.ops.cast_bias_weight(self.up, low, offloadable=True)
        add_low_rank_(output[:, start:end], low, up if rows is None else up[rows])
        comfy.ops.uncast_bias_weight(self.up, up, bias, stream)


class AdapterModules(nn.Module):
    """Both LoRAs, fused to the layers of the host's Flux, and the domain embedder.

    Args:
        reference: fused Reference-LoRA by path of the host's layer.
        domain: fused Domain-LoRA by path of the host's layer.
        embedder: state dict of the domain embedder.
    """

    def __init__(
        self, reference: dict[str, LowRank], domain: dict[str, LowRank], embedder: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.paths = list(reference)
        self.reference = nn.ModuleList(LowRankModule(reference[path]) for path in self.paths)
        self.domain = nn.ModuleList(LowRankModule(domain[path]) for path in self.paths)
        hidden_size, dtype = embedder["3.weight"].shape[0], embedder["3.weight"].dtype
        self.embedder = domain_embedder(hidden_size, _OPERATIONS, dtype=dtype, device="meta")
        self.embedder.load_state_dict(embedder, assign=True)
        self.embedder.requires_grad_(False)

    def domain_tokens(self, like: Tensor) -> Tensor:
        """Both domain tokens [2, hidden] in the dtype and on the device of `like`."""
        rows = torch.arange(2, device=like.device)
        hidden = self.embedder[0](rows, out_dtype=like.dtype)
        return self.embedder[1:](hidden)


@dataclass(frozen=True)
class Adapters:
    """What the node Load RefAny3D LoRAs gives: the adapters of one model, owned by the host.

    Attributes:
        patcher: owns an AdapterModules; the host loads, offloads and counts it with the model.
        source: names of the files, for messages.
    """

    patcher: comfy.model_patcher.ModelPatcher
    source: str

    @property
    def modules(self) -> AdapterModules:
        return self.patcher.model

    def layers(self) -> dict[str, tuple[LowRankModule, LowRankModule]]:
        """(Reference-LoRA, Domain-LoRA) by path of the host's layer."""
        modules = self.modules
        pairs = zip(modules.reference, modules.domain)
        return dict(zip(modules.paths, cast(Iterable[tuple[LowRankModule, LowRankModule]], pairs)))


def own(modules: AdapterModules, source: str) -> Adapters:
    """Hand the modules to a ModelPatcher of their own."""
    patcher = comfy.model_patcher.CoreModelPatcher(
        modules,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    # The host makes copies of a MODEL for further devices, and of all that belongs to it.
    patcher.cached_patcher_init = (_own_copy, (modules, source))
    return Adapters(patcher, source)


def _own_copy(
    modules: AdapterModules, source: str, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    return own(copy.deepcopy(modules), source).patcher


def layer_stream(path: str) -> Stream:
    """Which sequence a layer of the host's Flux gets."""
    if path.endswith(".lin"):
        return Stream.ROWS
    return Stream.JOINT if path.startswith("single_blocks.") else Stream.IMAGE


class Routing:
    """The adapters of one pass, each on its own range of tokens.

    Args:
        layers: (Reference-LoRA, Domain-LoRA) by path of the host's layer.
        layout: where the branches lie.
        components: which of them are on.
    """

    def __init__(
        self, layers: Layers, layout: BranchLayout, components: Components = Components()
    ) -> None:
        on = components.reference_lora or components.domain_lora
        self._layers = layers if on else {}
        self._layout = layout
        self._components = components
        self._skipped = {stream: 0 for stream in Stream}
        self.is_attached = False

    @contextmanager
    def attached(self, transformer: nn.Module, below: str = "") -> Iterator[None]:
        """Add the deltas to the outputs of the transformer's layers while the context lasts.

        Args:
            transformer: the host's Flux.
            below: only to layers whose path starts so.

        Forward hooks leave a layer's own forward, whatever its class or quantisation, as it is.
        They are removed at the end, also after an error or an interrupt.
        """
        with ExitStack() as stack:
            for path in self._layers:
                if path.startswith(below):
                    hook = partial(self._hook, path)
                    layer = transformer.get_submodule(path)
                    stack.callback(layer.register_forward_hook(hook).remove)
            self.is_attached = True
            stack.callback(setattr, self, "is_attached", False)
            yield

    @contextmanager
    def references_only(self) -> Iterator[None]:
        """While the context lasts, layers see the references alone instead of the whole
        sequence."""
        self._skipped = {
            Stream.ROWS: 0,
            Stream.IMAGE: self._layout.targets,
            Stream.JOINT: self._layout.main,
        }
        try:
            yield
        finally:
            self._skipped = {stream: 0 for stream in Stream}

    def add_deltas(self, path: str, output: Tensor, x: Tensor, rows: slice | None = None) -> None:
        """Add both adapters' deltas of a layer to its output, in place.

        Args:
            path: the layer's path in the transformer.
            output: [B, S, out], or the given rows of it.
            x: the layer's input [B, S, in].
            rows: which of the layer's output features `output` holds; None: all.
        """
        if path not in self._layers:
            return
        reference, domain = self._layers[path]
        stream = layer_stream(path)
        skipped = self._skipped[stream]
        # The published sum: (base + coord) + default (METHOD fact 17).
        if self._components.domain_lora:
            start, end = self._layout.point_map_range(stream)
            domain.add_to(output, x, (start - skipped, end - skipped), rows)
        if self._components.reference_lora:
            start, end = self._layout.reference_range(stream)
            reference.add_to(output, x, (start - skipped, end - skipped), rows)

    def _hook(self, path: str, layer: nn.Module, args: tuple, output: Tensor) -> None:
        self.add_deltas(path, output, args[0])
