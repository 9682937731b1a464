"""The method as a patch on a clone of the host's MODEL: one DIFFUSION_MODEL wrapper."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import comfy.ldm.flux.model
import comfy.model_base
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrapperExecutor, WrappersMP
from torch import Tensor

from ..method.approximation import Approximation
from ..method.components import Components
from ..reference import LATENT_CHANNELS
from .conditioning import PASS_KEY
from .memory import shape_that_needs, working_bytes
from .reuse import ReferenceCache, StoredReferences, sampling_step
from .routing import Adapters, Routing
from .transformer import BranchAttention, Inputs, predict, rotary_table

KEY = "refany3d"


def patch_model(
    model: ModelPatcher,
    adapters: Adapters,
    components: Components = Components(),
    approximation: Approximation = Approximation(),
) -> ModelPatcher:
    """A clone of the model that denoises RGB and point map side by side.

    Args:
        model: a FLUX.1-dev MODEL; it is left as it is.
        adapters: RefAny3D's LoRAs and domain embedder.
        components: which parts of the method are on.
        approximation: what to compute less often than the method does.

    Raises:
        ValueError: the model is not FLUX.1-dev-like, or the adapters belong to another one.
    """
    _check_model(model, adapters)
    patched = model.clone()
    patch = JointDenoising(adapters, components, approximation)
    additional = [adapters.patcher]
    for kind in (
        WrappersMP.DIFFUSION_MODEL,
        WrappersMP.CALC_COND_BATCH,
        WrappersMP.PREPARE_SAMPLING,
    ):
        patched.remove_wrappers_with_key(kind, KEY)
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLEANUP, KEY)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, patch)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, patch.forget)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, patch.reserve)
    if approximation.reference_reuse > 1:
        additional.append(patch.cache.patcher)
    if approximation.guidance_start < 1 or approximation.guidance_end > 0:
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, patch.guidance_interval)
    patched.set_additional_models(KEY, additional)
    return patched


class JointDenoising:
    """The wrappers. They keep nothing between runs: `forget` ends a run, also a broken one."""

    def __init__(
        self, adapters: Adapters, components: Components, approximation: Approximation
    ) -> None:
        self.adapters = adapters
        self.components = components
        self.approximation = approximation
        self.cache = ReferenceCache(approximation)
        self._rotary: dict[tuple, Tensor] = {}

    def __call__(
        self,
        executor: WrapperExecutor,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        guidance: Tensor | None = None,
        ref_latents: list[Tensor] | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] = {},
        **kwargs: Any,
    ) -> Tensor:
        """DIFFUSION_MODEL: the method in place of the model's own forward."""
        # Wrappers of other packs further in (EasyCache) still run: only the innermost call is ours.
        executor.original = partial(self._forward, executor.class_obj)
        return executor(
            x, timestep, context, y, guidance, ref_latents, control, transformer_options, **kwargs
        )

    def forget(self, *_: Any) -> None:
        """ON_CLEANUP: drop what was computed for the run."""
        self._rotary.clear()
        self.cache.clear()

    def reserve(
        self, executor: WrapperExecutor, model: ModelPatcher, shape: Any, conds: dict, **kwargs: Any
    ) -> Any:
        """PREPARE_SAMPLING: tell the host what the run needs, what the cache will hold included."""
        base = model.model
        transformer, dtype = base.diffusion_model, base.get_dtype_inference()
        hidden, target = transformer.hidden_size, math.prod(shape[-2:]) // transformer.patch_size**2
        blocks = len(transformer.double_blocks) + len(transformer.single_blocks)
        for additional in model.get_additional_models_with_key(KEY):
            if additional.model is self.cache:
                additional.size = self.cache.expected_bytes(blocks, hidden, shape[0], conds, dtype)
        wanted = working_bytes(hidden, shape[0], target, conds, dtype.itemsize)
        # The host would add its own estimate of the reference latents to the shape's.
        counted = {
            name: [{k: v for k, v in c.items() if k != "reference_latents"} for c in cs]
            for name, cs in conds.items()
        }
        equal = shape_that_needs(wanted, base, shape[1])
        prepared, _, models = executor(model, equal, counted, **kwargs)
        return prepared, conds, models

    def guidance_interval(
        self,
        executor: WrapperExecutor,
        model: Any,
        conds: list,
        x: Tensor,
        timestep: Tensor,
        options: dict,
    ) -> list[Tensor]:
        """CALC_COND_BATCH: outside the interval the conditional prediction stands for both."""
        level = timestep[0].item()
        if self.approximation.guidance_end <= level <= self.approximation.guidance_start:
            return executor(model, conds, x, timestep, options)
        black = [bool(c) and c[0]["model_conds"][PASS_KEY].cond > 0 for c in conds]
        kept = [None if is_black else c for c, is_black in zip(conds, black)]
        out = executor(model, kept, x, timestep, options)
        conditional = out[black.index(False)]
        return [conditional if is_black else y for y, is_black in zip(out, black)]

    # Run as it is under torch.compile: hooks come and go, and compiled code would not notice.
    @torch.compiler.disable
    def _forward(
        self,
        model: comfy.ldm.flux.model.Flux,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        y: Tensor | None,
        guidance: Tensor | None,
        ref_latents: list[Tensor] | None,
        control: Any,
        transformer_options: dict[str, Any],
        **kwargs: Any,
    ) -> Tensor:
        references, black_copies = _checked(x, ref_latents, kwargs.get(PASS_KEY), control)
        inputs = Inputs(x, timestep, context, y, guidance, references)
        layout = inputs.layout(model.patch_size, self.components)
        shapes = (x.shape[-2:], references[0].shape[-2:], layout, x.device)
        if shapes not in self._rotary:
            self._rotary[shapes] = rotary_table(model, inputs, layout, self.components)
        stored, compute, keep = StoredReferences(), True, False
        if self.approximation.reference_reuse > 1:
            key = (tuple(transformer_options["uuids"]), shapes)
            stored, compute = self.cache.look_up(key, sampling_step(transformer_options))
            keep = compute
        attention = BranchAttention(
            layout,
            black_copies,
            self.components,
            self.approximation.isolated_references,
            transformer_options.get("optimized_attention_override"),
            stored,
            keep,
        )
        routing = Routing(self.adapters.layers(), layout, self.components)
        domain_tokens = None
        if self.components.domain_token:
            domain_tokens = self.adapters.modules.domain_tokens(x)
        with routing.attached(model):
            return predict(
                model,
                inputs,
                layout,
                self._rotary[shapes],
                domain_tokens,
                attention,
                routing,
                not compute,
                transformer_options,
            )


def _checked(
    x: Tensor, references: list[Tensor] | None, black_copies: int | None, control: Any
) -> tuple[list[Tensor], int]:
    """References and black copies of a call that the method serves; others raise ValueError."""
    if black_copies is None or references is None:
        raise ValueError(
            "Apply RefAny3D: a conditioning without RefAny3D references reached the patched "
            "model; connect "
            "the sampler's positive and negative to the 'positive' and 'negative' outputs of "
            "Apply RefAny3D"
        )
    if len(references) % 2 or (black_copies and len(references) != 2):
        raise ValueError(
            "Apply RefAny3D: another node added reference latents to the conditioning (Reference "
            "Latent or "
            "Kontext after Apply RefAny3D); remove it, RefAny3D uses all reference latents itself"
        )
    if control is not None:
        raise ValueError("Apply RefAny3D: ControlNet cannot be combined with RefAny3D; remove it")
    if x.shape[-2] % 2 or x.shape[-1] % 4:
        raise ValueError(
            f"Apply RefAny3D: the latent is {x.shape[-1]}x{x.shape[-2]}, which is not two panels "
            "of whole "
            "16-pixel tokens; connect the 'latent' output of Apply RefAny3D to the sampler"
        )
    return references, black_copies


def _check_model(model: ModelPatcher, adapters: Adapters) -> None:
    base = type(model.model)
    if base is not comfy.model_base.Flux:
        raise ValueError(
            f"Apply RefAny3D: 'model' is {base.__name__}, but RefAny3D needs FLUX.1-dev; load "
            "flux1-dev with Load Diffusion Model (or its fp8 or GGUF version)"
        )
    transformer = model.get_model_object("diffusion_model")
    if transformer.in_channels != LATENT_CHANNELS * transformer.patch_size**2:
        raise ValueError(
            "Apply RefAny3D: 'model' takes extra input channels (a Fill, Depth or Canny variant "
            "of FLUX); RefAny3D needs plain FLUX.1-dev"
        )
    depths = (len(transformer.double_blocks), len(transformer.single_blocks))
    paths = adapters.modules.paths
    for name, depth in zip(("double_blocks", "single_blocks"), depths):
        adapted = len({path.split(".")[1] for path in paths if path.startswith(name)})
        if adapted != depth:
            raise ValueError(
                f"Apply RefAny3D: the adapters ({adapters.source}) are for a model with {adapted} "
                f"{name}, 'model' has {depth}; choose the LoRAs of this base model"
            )
    for path, (reference, domain) in adapters.layers().items():
        layer = transformer.get_submodule(path)
        for lora in (reference, domain):
            shape = (lora.down.in_features, lora.up.out_features)
            if shape != (layer.in_features, layer.out_features):
                raise ValueError(
                    f"Apply RefAny3D: the adapters ({adapters.source}) do not fit 'model': layer "
                    f"'{path}' takes "
                    f"{layer.in_features} and gives {layer.out_features} features, its LoRA "
                    f"{shape[0]} and "
                    f"{shape[1]}; choose the LoRAs of this base model"
                )
