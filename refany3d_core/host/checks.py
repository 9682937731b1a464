"""What would give a wrong picture without a word: models, conditionings, latents, other patches.

Sentences name no node of their own: the host shows them on the node that runs, and our nodes put
their title before them.
"""

from __future__ import annotations

from typing import Any

import comfy.ldm.flux.model
import comfy.model_base
from comfy.ldm.flux.layers import DoubleStreamBlock, SingleStreamBlock
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..reference import LATENT_CHANNELS
from .conditioning import Pass
from .notices import notify
from .routing import Adapters

NO_REFERENCES = (
    "a conditioning without RefAny3D references reached the patched model; connect the sampler's "
    "positive and negative to the 'positive' and 'negative' outputs of Apply RefAny3D"
)
_PLAIN_FLUX = "load flux1-dev with Load Diffusion Model (or its fp8 or GGUF version)"


def check_model(model: ModelPatcher, adapters: Adapters) -> None:
    """Raise ValueError unless the MODEL is FLUX.1-dev-like and the adapters are for it."""
    base = type(model.model)
    if base is not comfy.model_base.Flux:
        raise ValueError(
            f"'model' is {base.__name__}, but RefAny3D needs FLUX.1-dev; {_PLAIN_FLUX}"
        )
    transformer = model.get_model_object("diffusion_model")
    transformer = getattr(transformer, "_orig_mod", transformer)
    if not isinstance(transformer, comfy.ldm.flux.model.Flux):
        raise ValueError(
            f"'model' runs in a wrapper of another pack ({type(transformer).__name__}; Nunchaku's "
            "loader makes such ones), whose layers RefAny3D's LoRAs cannot reach; " + _PLAIN_FLUX
        )
    if transformer.in_channels != LATENT_CHANNELS * transformer.patch_size**2:
        raise ValueError(
            "'model' takes extra input channels (a Fill, Depth or Canny variant of FLUX); RefAny3D "
            "needs plain FLUX.1-dev"
        )
    # As objects of this MODEL: another one, loaded before it, may still have its own in place.
    blocks = {
        name: model.get_model_object(f"diffusion_model.{name}")
        for name in ("double_blocks", "single_blocks")
    }
    paths = adapters.modules.paths
    for name, depth in ((name, len(found)) for name, found in blocks.items()):
        adapted = len({path.split(".")[1] for path in paths if path.startswith(name)})
        if adapted != depth:
            raise ValueError(
                f"the adapters ({adapters.source}) are for a model with {adapted} {name}, 'model' "
                f"has {depth}; choose the LoRAs of this base model"
            )
    for path, (reference, domain) in adapters.layers().items():
        kind, _, inner = path.partition(".")
        try:
            layer = blocks[kind].get_submodule(inner) if inner else getattr(transformer, kind)
        except AttributeError as error:
            raise ValueError(
                f"another node replaced the model's blocks: there is no layer '{path}'; take that "
                "node out"
            ) from error
        for lora in (reference, domain):
            shape = (lora.down.in_features, lora.up.out_features)
            if shape != (layer.in_features, layer.out_features):
                raise ValueError(
                    f"the adapters ({adapters.source}) do not fit 'model': layer '{path}' takes "
                    f"{layer.in_features} and gives {layer.out_features} features, its LoRA "
                    f"{shape[0]} and {shape[1]}; choose the LoRAs of this base model"
                )


def check_call(
    x: Tensor,
    context: Tensor | None,
    references: list[Tensor] | None,
    kind: Pass | None,
    control: Any,
    run_shape: tuple[int, ...] | None,
) -> None:
    """Raise ValueError if a call of the transformer is not one of the method's.

    Args:
        x: its latent.
        context: its text tokens.
        references: its reference latents.
        kind: which pass it is, by its conditioning.
        control: of a ControlNet.
        run_shape: height and width of the latent of the whole run, or None if unknown.
    """
    if kind is None or references is None or context is None:
        raise ValueError(NO_REFERENCES)
    if len(references) != kind.references:
        raise ValueError(
            "another node added reference latents to the conditioning (Reference Latent or Kontext "
            "after Apply RefAny3D); remove it, RefAny3D uses all reference latents itself"
        )
    if control is not None:
        raise ValueError("ControlNet cannot be combined with RefAny3D; remove it")
    if x.shape[1] != LATENT_CHANNELS:
        raise ValueError(
            f"the model's input has {x.shape[1]} channels, RefAny3D's has {LATENT_CHANNELS}: a "
            "control LoRA (FLUX Depth or Canny) widened it; remove that LoRA"
        )
    if run_shape is not None and tuple(x.shape[-2:]) != run_shape:
        raise ValueError(
            f"the model was called on a part of the latent ({_size(x.shape)} of "
            f"{_size(run_shape)} pixels), as tiled diffusion and context windows do; a part is not "
            "an image and its point map side by side: remove that node"
        )
    if x.shape[-2] % 2 or x.shape[-1] % 4:
        raise ValueError(
            f"the latent is {x.shape[-1]}x{x.shape[-2]}, which is not two panels of whole 16-pixel "
            "tokens; connect the 'latent' output of Apply RefAny3D to the sampler"
        )


def check_patches(options: dict[str, Any], attention_bias: Tensor | None) -> None:
    """Raise ValueError for what other nodes ask of the forward and the method cannot give.

    Args:
        options: transformer_options of the call.
        attention_bias: of the conditioning.
    """
    if options.get("patches", {}).get("post_input"):
        raise ValueError(
            "another node changes the model's tokens (USO Style Reference, Flux KV Cache), which "
            "cannot be combined with RefAny3D; remove it"
        )
    if attention_bias is not None:
        raise ValueError(
            "the conditioning weighs attention by a mask (Apply Style Model with strength_type "
            "'attn_bias'), which many attention backends drop; set strength_type to 'multiply'"
        )


def check_transformer(transformer: Any) -> None:
    """Look at what other nodes replaced in the transformer for this run.

    Says that a replaced inner forward has no effect here.

    Raises:
        ValueError: its blocks are not the host's own.
    """
    blocks = [*transformer.double_blocks, *transformer.single_blocks]
    blocks = [getattr(block, "_orig_mod", block) for block in blocks]
    if not all(isinstance(block, (DoubleStreamBlock, SingleStreamBlock)) for block in blocks):
        raise ValueError(
            "another node replaced the model's blocks, which cannot be combined with RefAny3D; "
            "remove it (for caching use EasyCache or the speed input)"
        )
    if "forward_orig" in vars(transformer):
        notify(
            "another node replaced the model's own forward (as PuLID, TeaCache and First Block "
            "Cache do); RefAny3D runs the blocks itself, so that node has no effect"
        )


def check_conds(conds: dict[str, list[dict]], shape: tuple[int, ...]) -> dict[str, list[dict]]:
    """A run's conditionings with regional masks of the image's size made joint.

    A mask that has not the shape of both panels side by side is the image's: it holds for both
    panels, since a pixel and its point share a place.

    Args:
        conds: the run's conditionings by name.
        shape: of the run's latent.

    Raises:
        ValueError: one is for an area.
    """

    def joint(cond: dict) -> dict:
        if "area" in cond:
            raise ValueError(
                "a conditioning is for an area of the latent (Conditioning (Set Area)), which cuts "
                "through image and point map; use Conditioning (Set Mask) with a mask of the image"
            )
        mask = cond.get("mask")
        if mask is None:
            return cond
        if not _near(mask.shape[-1] / mask.shape[-2], shape[-1] / shape[-2]):
            mask = mask.repeat(*[1] * (mask.ndim - 1), 2)
        # The bounds would cut out an area; the mask alone gives the same picture.
        return {**cond, "mask": mask, "set_area_to_bounds": False}

    return {name: [joint(cond) for cond in cs] for name, cs in conds.items()}


def check_latent(latent: Tensor, noise_mask: Tensor | None, size: tuple[int, int] | None) -> None:
    """Raise ValueError if a run's latent is not an image and its point map side by side.

    Args:
        latent: what the sampler was given.
        noise_mask: its noise mask, already of the latent's shape, or None.
        size: width and height of the picture in pixels that Apply RefAny3D was set to, or None.
    """
    if latent.ndim != 4:
        raise ValueError(
            f"the latent is {tuple(latent.shape)}, not an image's; connect the 'latent' output of "
            "Apply RefAny3D to the sampler"
        )
    height, width = latent.shape[-2:]
    join = (
        "connect the 'latent' output of Apply RefAny3D to the sampler, or join an image and its "
        "point map with Join Joint Latent"
    )
    if size is not None and not _near(width / height, 2 * size[0] / size[1]):
        if _near(width / height, size[0] / size[1]):
            raise ValueError(
                f"the latent is one picture of {_size(latent.shape)} pixels, not an image and its "
                f"point map side by side; {join}"
            )
        raise ValueError(
            f"the latent is {_size(latent.shape)} pixels, which is not two pictures of the "
            f"{size[0]}x{size[1]} that Apply RefAny3D is set to; {join}, or set its width to "
            f"{width * 4} and its height to {height * 8} if the latent is meant"
        )
    if noise_mask is None:
        return
    held = 1 - noise_mask[..., width // 2 :]
    if held.max() > 0.5 and not latent[..., width // 2 :].any():
        raise ValueError(
            "the noise mask holds the point map, but the latent has none: a mask of the image's "
            "size is stretched over image and point map here; give the image with its mask to Join "
            "Joint Latent"
        )
    if held.max() - held.min() > 0.5 and not held.allclose(1 - noise_mask[..., : width // 2]):
        notify(
            "the noise mask also covers parts of the point map; if it is meant for the image "
            "alone, give the image with its mask to Join Joint Latent"
        )


def _near(ratio: float, wanted: float) -> bool:
    """Whether two aspect ratios are equal but for rounding to whole tokens."""
    return abs(ratio / wanted - 1) < 0.04


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-1] * 8}x{shape[-2] * 8}"
