"""One pass of the method over the blocks of the host's own Flux."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.flux.layers import timestep_embedding
from comfy.ldm.flux.model import Flux
from torch import Tensor

from ..method.adapters import MAP_DOMAIN, RGB_DOMAIN
from ..method.attention import isolated_references, isolated_views, weighted_references
from ..method.branches import MAP_ROW, TEXT_ROW, BranchLayout
from ..method.components import Components
from ..method.guidance import REFERENCE_GUIDANCE, REFERENCE_TIMESTEP
from ..method.positions import grid_positions, reference_offset
from ..method.trimming import Trimmed
from .pruning import reference_keys_values
from .reuse import StoredReferences
from .routing import Routing
from .softmax_sums import with_sums_for


@dataclass(frozen=True)
class Inputs:
    """What the host hands to the transformer for one pass.

    Attributes:
        x: joint latent [B, 16, H, 2 W], RGB left and point map right.
        timestep: [B], the noise level in 0..1.
        context: text tokens [B, T, C].
        pooled: pooled text [B, V] or None.
        guidance: distilled guidance [B] or None.
        references: RGB views then their point maps, [B, 16, h, w] each.
        trimmed: which tokens of the references stay.
    """

    x: Tensor
    timestep: Tensor
    context: Tensor
    pooled: Tensor | None
    guidance: Tensor | None
    references: list[Tensor]
    trimmed: Trimmed = Trimmed()

    def layout(self, patch: int, components: Components) -> BranchLayout:
        """Where the branches of these inputs lie."""
        height, width = self.x.shape[-2] // patch, self.x.shape[-1] // patch // 2
        rows, columns = (n // patch for n in self.references[0].shape[-2:])
        pairs = len(self.references) // 2
        return BranchLayout(
            self.context.shape[1], height * width, rows * columns, pairs, components.point_maps,
            self.trimmed,
        )  # fmt: skip


def branch_tokens(
    model: Flux, inputs: Inputs, layout: BranchLayout, with_references: bool
) -> Tensor:
    """Image branches as projected tokens [B, layout.targets (+ layout.references), hidden]."""
    targets = list(inputs.x.chunk(2, dim=-1)) if layout.target else []
    views, maps = inputs.references[: layout.pairs], inputs.references[layout.pairs :]
    if not with_references:
        views, maps = [], []
    references = [*maps, *views] if layout.point_maps else views
    tokens = [model.process_img(latent)[0] for latent in references]
    if kept := inputs.trimmed.tokens:
        tokens = [x[:, list(kept[i % layout.pairs])] for i, x in enumerate(tokens)]
    shown = targets if layout.point_maps else targets[:1]
    return model.img_in(torch.cat([*(model.process_img(x)[0] for x in shown), *tokens], dim=1))


def modulation_rows(model: Flux, inputs: Inputs, domain_tokens: Tensor | None) -> Tensor:
    """Modulation vectors of the five kinds of branches, [B, 5, hidden] (METHOD facts 2 and 3).

    References are clean and have guidance 1; every image branch has its domain token added.
    """
    dtype = inputs.x.dtype
    clean = torch.full_like(inputs.timestep, REFERENCE_TIMESTEP)
    vec = model.time_in(timestep_embedding(torch.cat([inputs.timestep, clean]), 256).to(dtype))
    if model.params.guidance_embed and inputs.guidance is not None:
        plain = torch.full_like(inputs.guidance, REFERENCE_GUIDANCE)
        guidance = torch.cat([inputs.guidance, plain])
        vec = vec + model.guidance_in(timestep_embedding(guidance, 256).to(dtype))
    if model.vector_in is not None:
        pooled = inputs.pooled
        if pooled is None:  # as the host does
            pooled = inputs.x.new_zeros(len(inputs.x), model.params.vec_in_dim)
        vec = vec + model.vector_in(pooled[:, : model.params.vec_in_dim]).repeat(2, 1)
    noisy, reference = vec.chunk(2)
    rgb = domain_tokens[RGB_DOMAIN] if domain_tokens is not None else 0
    point_map = domain_tokens[MAP_DOMAIN] if domain_tokens is not None else 0
    rows = [noisy, noisy + rgb, noisy + point_map, reference + point_map, reference + rgb]
    return torch.stack(rows, dim=1)


def rotary_table(
    model: Flux,
    inputs: Inputs,
    layout: BranchLayout,
    components: Components,
    transformer_options: dict[str, Any] = {},
) -> Tensor:
    """Rotary table of the joint sequence; depends on nothing but shapes and the host's options.

    The targets have the positions that the host gives a picture of their size, a user's scaling
    (Scale ROPE) included; the references have the method's.
    """
    patch = model.patch_size
    picture = inputs.x.chunk(2, dim=-1)[0][:1]
    target = model.process_img(picture, transformer_options=transformer_options)[1][0].cpu()
    rows, columns = (n // patch for n in inputs.references[0].shape[-2:])
    offset = reference_offset(columns)
    targets, domains = [target], 1
    if layout.point_maps:
        shift = torch.tensor([0.0, 0.0, 0.0 if components.shared_positions else offset])
        targets.append(target + shift)
        domains = 2
    whole = grid_positions(rows, columns, -offset)
    views = [whole[list(view)] for view in inputs.trimmed.tokens] or [whole] * layout.pairs
    ids = torch.cat([torch.zeros(layout.text, 3), *targets, *views * domains])
    return model.pe_embedder(ids[None].to(inputs.x.device))


class BranchAttention:
    """The host's `optimized_attention_override`: splits a block's attention into the method's
    groups.

    Every group goes through the attention function that the host gives, or through the override of
    another pack that was there before ours. Keys and values of references that are not in the
    running sequence come from `stored`.

    Args:
        layout: where the branches lie.
        black_copies: 0 in the conditional pass, else how many pairs the black one stands for.
        components: which parts of the method are on.
        isolated: references of the conditional pass see only their own pair.
        outer: the override of another pack, or None.
        stored: keys and values of references.
        keep: put those of every block into `stored`.
        weights: how much each view pair counts in the conditional pass, or () for 1 each. With all
            at 0 the references are in neither the sequence nor `stored`.
    """

    def __init__(
        self,
        layout: BranchLayout,
        black_copies: int,
        components: Components,
        isolated: bool,
        outer: Any,
        stored: StoredReferences,
        keep: bool,
        weights: Sequence[float] = (),
    ) -> None:
        self.layout = layout
        self.black_copies = black_copies
        self.text_agnostic = components.text_agnostic
        self.isolated = isolated
        self.outer = outer
        self.stored = stored
        self.keep = keep
        self.weights = weights
        self.absent = bool(weights) and not any(weights)

    def __call__(
        self, func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any
    ) -> Tensor:
        if kwargs.get("mask") is not None:
            raise ValueError(
                "another node gives the model's attention a mask, which cannot be combined with "
                "RefAny3D; remove it"
            )

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if self.outer is not None:
                return self.outer(func, q, k, v, heads, **kwargs)
            return func(q, k, v, heads, **kwargs)

        if self.outer is None and (with_sums := with_sums_for(func, q)) is not None:
            attend.with_sums = with_sums  # type: ignore[attr-defined]
        layout, main = self.layout, self.layout.main
        options = kwargs["transformer_options"]
        block = (options["block_type"], options["block_index"])
        if k.shape[2] == main and not self.absent:
            stored = self.stored.load(block, k)
            k, v = (torch.cat(pair, dim=2) for pair in zip((k, v), stored))
        elif self.keep:
            self.stored.store(block, k[:, :, main:], v[:, :, main:])
        if self.black_copies:
            return weighted_references(attend, q, k, v, layout, self.black_copies)
        if self.isolated and q.shape[2] > main:
            targets = isolated_views(
                attend, q[:, :, :main], k, v, layout, self.text_agnostic, self.weights
            )
            references = isolated_references(
                attend, q[:, :, main:], k[:, :, main:], v[:, :, main:], layout
            )
            return torch.cat([targets, references], dim=1)
        return isolated_views(attend, q, k, v, layout, self.text_agnostic, self.weights)


def predict(
    model: Flux,
    inputs: Inputs,
    layout: BranchLayout,
    rotary: Tensor,
    domain_tokens: Tensor | None,
    attention: BranchAttention,
    routing: Routing,
    reuse: bool,
    transformer_options: dict[str, Any],
) -> Tensor:
    """Velocity of both targets as a joint latent [B, 16, H, 2 W].

    Runs the model's own blocks over the joint sequence. References are left out of the last block's
    output, which nobody reads, and of everything with `reuse`: their keys and values are stored.
    """
    image = branch_tokens(model, inputs, layout, with_references=not reuse)
    text = model.txt_in(inputs.context)
    vec = modulation_rows(model, inputs, domain_tokens)
    joint = _run_blocks(
        model, image, text, vec, rotary, layout, attention, routing, reuse, transformer_options
    )
    dims = [d for d in layout.image_dims() if d[2] <= MAP_ROW]
    out = model.final_layer(joint[:, layout.text :], vec, modulation_dims=dims)
    return _joint_latent(model, inputs.x, out)


def store_references(
    model: Flux,
    inputs: Inputs,
    layout: BranchLayout,
    rotary: Tensor,
    domain_tokens: Tensor | None,
    attention: BranchAttention,
    routing: Routing,
    transformer_options: dict[str, Any],
) -> None:
    """Run references that see only their own pair (METHOD fact 30) through the blocks, and leave
    their keys and values in `attention.stored`.

    They depend on nothing else, so one such pass serves any number of targets. `layout` has no
    targets and one text token, which nobody sees: core's blocks take no empty text. `rotary` is the
    table of these tokens, and `attention` is isolated.
    """
    image = branch_tokens(model, inputs, layout, with_references=True)
    text = model.txt_in(inputs.context[:, : layout.text])
    vec = modulation_rows(model, inputs, domain_tokens)
    _run_blocks(
        model, image, text, vec, rotary, layout, attention, routing, False, transformer_options
    )


def _run_blocks(
    model: Flux,
    image: Tensor,
    text: Tensor,
    vec: Tensor,
    rotary: Tensor,
    layout: BranchLayout,
    attention: BranchAttention,
    routing: Routing,
    reuse: bool,
    transformer_options: dict[str, Any],
) -> Tensor:
    """Text and targets [B, layout.main, hidden] after all blocks."""
    options = {**transformer_options, "optimized_attention_override": attention}
    replaced = options.get("patches_replace", {}).get("dit", {})
    target_rotary = rotary[:, :, : layout.main]
    target_dims = [d for d in layout.joint_dims() if d[2] <= MAP_ROW]
    image_dims = [d for d in layout.image_dims() if not reuse or d[2] <= MAP_ROW]

    def run(kind: str, index: int, block: Any, args: dict[str, Any]) -> dict[str, Any]:
        options["block_index"] = index
        if kind == "double":
            dims = {
                "modulation_dims_img": image_dims,
                "modulation_dims_txt": [(0, layout.text, TEXT_ROW)],
            }
        else:
            whole = args["img"].shape[1] == layout.total
            dims = {"modulation_dims": layout.joint_dims() if whole else target_dims}

        def original(args: dict[str, Any]) -> dict[str, Any]:
            args = dict(args)
            if kind == "double":
                return dict(zip(("img", "txt"), block(**args, **dims)))
            return {"img": block(args.pop("img"), **args, **dims)}

        args = {**args, "vec": vec, "attn_mask": None, "transformer_options": options}
        if (f"{kind}_block", index) in replaced:
            return replaced[(f"{kind}_block", index)](args, {"original_block": original})
        return original(args)

    options["total_blocks"], options["block_type"] = len(model.double_blocks), "double"
    for i, block in enumerate(_uncompiled(model.double_blocks)):
        pe = target_rotary if reuse else rotary
        out = run("double", i, block, {"img": image, "txt": text, "pe": pe})
        image, text = out["img"], out["txt"]
    if image.dtype == torch.float16:
        image = torch.nan_to_num(image, nan=0.0, posinf=65504, neginf=-65504)

    joint = torch.cat((text, image), dim=1)
    del image, text
    options["total_blocks"], options["block_type"] = len(model.single_blocks), "single"
    options["img_slice"] = [layout.text, joint.shape[1]]
    last = len(model.single_blocks) - 1
    for i, block in enumerate(_uncompiled(model.single_blocks)):
        if i == last and not reuse:
            path = f"single_blocks.{i}"
            k, v = reference_keys_values(block, path, joint, vec, rotary, layout, routing)
            attention.stored.store(("single", i), k, v)
            joint = joint[:, : layout.main]
        pe = rotary if joint.shape[1] == layout.total else target_rotary
        joint = run("single", i, block, {"img": joint, "pe": pe})["img"]
    return joint


def _uncompiled(blocks: torch.nn.ModuleList) -> list[torch.nn.Module]:
    """The blocks themselves where another pack put compiled ones in their place.

    Compiled code does not look at forward hooks again, and ours change with every pass.
    """
    return [getattr(block, "_orig_mod", block) for block in blocks]


def _joint_latent(model: Flux, x: Tensor, tokens: Tensor) -> Tensor:
    """Tokens of the targets as panels side by side; the panel of a left out point map is zero."""
    patch, channels = model.patch_size, x.shape[1]
    height, width = x.shape[-2] // patch, x.shape[-1] // patch // 2
    panels = tokens.reshape(len(x), -1, height, width, channels, patch, patch)
    panels = panels.permute(0, 4, 2, 5, 1, 3, 6).reshape(len(x), channels, x.shape[-2], -1)
    return torch.nn.functional.pad(panels, (0, x.shape[-1] - panels.shape[-1]))
