"""The method as a patch on a clone of the host's MODEL: one DIFFUSION_MODEL wrapper."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import comfy.ldm.flux.model
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrapperExecutor, WrappersMP
from torch import Tensor

from ..method.approximation import Approximation
from ..method.components import Components
from .checks import (
    NO_REFERENCES,
    check_call,
    check_conds,
    check_latent,
    check_model,
    check_patches,
    check_transformer,
)
from .conditioning import PASS_KEY, PassCondition, pass_of
from .memory import shape_that_needs, working_bytes
from .reuse import ReferenceCache, StoredReferences, sampling_step
from .routing import AdapterModules, Adapters, Routing
from .transformer import BranchAttention, Inputs, predict, rotary_table

KEY = "refany3d"


def patch_model(
    model: ModelPatcher,
    adapters: Adapters,
    components: Components = Components(),
    approximation: Approximation = Approximation(),
    size: tuple[int, int] | None = None,
) -> ModelPatcher:
    """A clone of the model that denoises RGB and point map side by side.

    Args:
        model: a FLUX.1-dev MODEL; it is left as it is.
        adapters: RefAny3D's LoRAs and domain embedder.
        components: which parts of the method are on.
        approximation: what to compute less often than the method does.
        size: width and height of the pictures in pixels, to refuse other latents; None: unknown.

    Raises:
        ValueError: the model is not FLUX.1-dev-like, or the adapters belong to another one.
    """
    check_model(model, adapters)
    patched = model.clone()
    patch = JointDenoising(adapters, components, approximation, size)
    additional = [adapters.patcher]
    for kind in (
        WrappersMP.DIFFUSION_MODEL,
        WrappersMP.CALC_COND_BATCH,
        WrappersMP.PREPARE_SAMPLING,
        WrappersMP.OUTER_SAMPLE,
    ):
        patched.remove_wrappers_with_key(kind, KEY)
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLEANUP, KEY)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, patch)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, patch.forget)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, patch.reserve)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, patch.check_run)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, patch.predict_all)
    if approximation.reference_reuse > 1:
        additional.append(patch.cache.patcher)
    patched.set_additional_models(KEY, additional)
    return patched


class JointDenoising:
    """The wrappers. They keep nothing between runs: `forget` ends a run, also a broken one."""

    def __init__(
        self,
        adapters: Adapters,
        components: Components,
        approximation: Approximation,
        size: tuple[int, int] | None,
    ) -> None:
        self.adapters = adapters
        self.components = components
        self.approximation = approximation
        self.size = size
        self.cache = ReferenceCache(approximation)
        self._rotary: dict[tuple, Tensor] = {}
        self._on_device: dict[torch.device, Adapters] = {}
        self._run_shape: tuple[int, ...] | None = None
        self._reached = False

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
        self._on_device.clear()
        self._run_shape, self._reached = None, False
        PassCondition.prepared.discard(id(self))

    def check_run(
        self,
        executor: WrapperExecutor,
        noise: Tensor,
        latent: Tensor,
        sampler: Any,
        sigmas: Tensor,
        noise_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """OUTER_SAMPLE: refuse a latent that is not the method's."""
        check_latent(latent, noise_mask, self.size)
        return executor(noise, latent, sampler, sigmas, noise_mask, *args, **kwargs)

    def reserve(
        self, executor: WrapperExecutor, model: ModelPatcher, shape: Any, conds: dict, **kwargs: Any
    ) -> Any:
        """PREPARE_SAMPLING: tell the host what the run needs, what the cache will hold included."""
        conds = check_conds(conds, tuple(shape))
        base = model.model
        transformer, dtype = base.diffusion_model, base.get_dtype_inference()
        hidden, target = transformer.hidden_size, math.prod(shape[-2:]) // transformer.patch_size**2
        blocks = len(transformer.double_blocks) + len(transformer.single_blocks)
        for additional in model.get_additional_models_with_key(KEY):
            if isinstance(additional.model, ReferenceCache):
                additional.size = self.cache.expected_bytes(blocks, hidden, shape[0], conds, dtype)
        wanted = working_bytes(hidden, shape[0], target, conds, dtype.itemsize)
        # The host would add its own estimate of the reference latents to the shape's.
        counted = {
            name: [{k: v for k, v in c.items() if k != "reference_latents"} for c in cs]
            for name, cs in conds.items()
        }
        equal = shape_that_needs(wanted, base, shape[1])
        prepared, _, models = executor(model, equal, counted, **kwargs)
        self._run_shape, self._reached = tuple(shape[-2:]), False
        for copy in (model, *model.get_additional_models_with_key("multigpu")):
            for additional in copy.get_additional_models_with_key(KEY):
                if isinstance(additional.model, AdapterModules):
                    self._on_device[copy.load_device] = Adapters(additional, self.adapters.source)
        PassCondition.prepared.add(id(self))
        return prepared, conds, models

    def predict_all(
        self,
        executor: WrapperExecutor,
        model: Any,
        conds: list,
        x: Tensor,
        timestep: Tensor,
        options: dict,
    ) -> list[Tensor]:
        """CALC_COND_BATCH: outside the guidance interval the conditional prediction stands for
        both."""
        level, limits = timestep[0].item(), self.approximation
        passes = [pass_of(c[0]) if c else None for c in conds]
        everywhere = limits.guidance_start >= 1 and limits.guidance_end <= 0
        inside = everywhere or limits.guidance_end <= level <= limits.guidance_start
        conditional = [kind is not None and not kind.black_copies for kind in passes]
        if inside or not any(conditional):
            out = executor(model, conds, x, timestep, options)
        else:
            if any(c and kind is None for c, kind in zip(conds, passes)):
                raise ValueError(NO_REFERENCES)
            kept = [c if yes else None for c, yes in zip(conds, conditional)]
            out = executor(model, kept, x, timestep, options)
            stand_in = out[conditional.index(True)]
            out = [stand_in if kind and kind.black_copies else y for y, kind in zip(out, passes)]
        if any(passes) and not self._reached:
            raise ValueError(
                "another node replaced the model's forward, so that RefAny3D did not run; remove "
                "the node that patches the model beside Apply RefAny3D"
            )
        return out

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
        if not self._reached:
            check_transformer(model)
        self._reached = True
        kind = kwargs.get(PASS_KEY)
        check_call(x, context, ref_latents, kind, control, self._run_shape)
        assert kind is not None and ref_latents is not None, "check_call refuses these"
        check_patches(transformer_options, kwargs.get("attention_mask"))
        inputs = Inputs(x, timestep, context, y, guidance, ref_latents, kind.trimmed)
        layout = inputs.layout(model.patch_size, self.components)
        rope = tuple(sorted(transformer_options.get("rope_options", {}).items()))
        shapes = (x.shape[-2:], ref_latents[0].shape[-2:], layout, rope, x.device)
        if shapes not in self._rotary:
            self._rotary[shapes] = rotary_table(
                model, inputs, layout, self.components, transformer_options
            )
        weights: tuple[float, ...] = ()
        if not kind.black_copies:
            weights = kind.strength.weights(layout.pairs, timestep[0].item())
        absent = bool(weights) and not any(weights)
        stored, compute, keep = StoredReferences(), not absent, False
        if self.approximation.reference_reuse > 1 and not absent:
            # A pass with skipped blocks (Skip Layer Guidance) keeps its own.
            replaced = transformer_options.get("patches_replace", {}).get("dit", {})
            key = (tuple(transformer_options["uuids"]), frozenset(replaced), shapes)
            stored, compute = self.cache.look_up(key, sampling_step(transformer_options))
            keep = compute
        attention = BranchAttention(
            layout,
            kind.black_copies,
            self.components,
            self.approximation.isolated_references,
            transformer_options.get("optimized_attention_override"),
            stored,
            keep,
            weights,
        )
        adapters = self._on_device.get(x.device, self.adapters)
        routing = Routing(adapters.layers(), layout, self.components)
        domain_tokens = None
        if self.components.domain_token:
            domain_tokens = adapters.modules.domain_tokens(x)
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
