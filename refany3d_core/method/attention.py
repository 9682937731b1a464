"""Text-agnostic attention with isolated views (paper, section 3.3), without any mask.

Who sees whom in the conditional pass (METHOD fact 6, docs/method_facts.md):

    text, RGB target        everything
    map target              everything but the text
    view pair i             itself, text and both targets

In the unconditional pass everything sees everything (fact 7). Its n reference pairs are copies of
one black pair: equal content, positions and adapters, and each sees all, so they stay equal through
every layer. One pair is computed, and its keys weigh n times in every softmax.

No call carries a mask, because attention backends drop masks without a word or refuse them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .branches import BranchLayout

Attend = Callable[..., Tensor]
"""attend(q, k, v): [B, heads, tokens, head_dim] each, to [B, tokens of q, heads * head_dim].

It may have attend.with_sums(q, k, v), which gives besides the answer the logarithm of the sum of
the exponentiated scores, [B, heads, tokens of q]."""


def isolated_views(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: BranchLayout,
    text_agnostic: bool = True,
    weights: Sequence[float] = (),
) -> Tensor:
    """Attention of the conditional pass.

    Args:
        attend: the attention function.
        q: queries [B, heads, S, head_dim] of the whole sequence (S = layout.total), or of text and
            targets alone (S = layout.main).
        k: keys of the whole sequence, [B, heads, layout.total, head_dim], or of text and targets
            alone when there are no references.
        v: values, as k.
        layout: where the branches lie.
        text_agnostic: the map target does not see the text.
        weights: how much each view pair counts for text and targets, or () for 1 each.

    Returns:
        [B, S, heads * head_dim].
    """
    sees_all = layout.text + layout.target

    uneven = any(weight != 1 for weight in weights) or layout.trimmed.tokens
    weighed = k.shape[2] == layout.total and uneven

    def look(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not weighed:
            return attend(q, k, v)
        first = k.shape[2] - layout.references
        groups = _groups(layout, [slice(0, first)], first, weights or (1.0,) * layout.pairs)
        return weighted_groups(attend, q, k, v, groups)

    out = []
    if text_agnostic and layout.map_target:
        out.append(look(q[:, :, :sees_all], k, v))
        text = layout.text
        out.append(look(q[:, :, sees_all : layout.main], k[:, :, text:], v[:, :, text:]))
    else:
        out.append(look(q[:, :, : layout.main], k, v))
    if q.shape[2] > layout.main:
        out.append(_view_pairs(attend, q, k, v, layout))
    return torch.cat(out, dim=1)


def _groups(
    layout: BranchLayout, seen: list[slice], first: int, weights: Sequence[float]
) -> list[tuple[float, list[slice]]]:
    """(weight, ranges of keys) by weight, weight 1 first.

    Args:
        layout: where the branches lie.
        seen: ranges of weight 1 besides the references.
        first: number of the first reference's key.
        weights: of each view pair; 0 leaves it out.
    """
    groups: dict[float, list[slice]] = {1.0: list(seen)}
    for weight, view in zip(weights, layout.view_ranges()):
        for start, white, end in view:
            for one, (begin, stop) in (
                (weight, (start, white)),
                (weight * layout.trimmed.weight, (white, end)),
            ):
                if one > 0 and stop > begin:
                    groups.setdefault(float(one), []).append(slice(first + begin, first + stop))
    return [(weight, ranges) for weight, ranges in groups.items() if ranges]


def weighted_groups(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    groups: Sequence[tuple[float, Sequence[slice]]],
) -> Tensor:
    """Attention in which groups of keys count by their weights, without a mask.

    Every group is attended to on its own, and the answers are mixed by the shares of the softmax
    that the groups have, times their weights. The shares follow from the logarithms of the groups'
    sums where the attention function gives them. Else they come from one more call over all keys,
    whose values say which group a key is of.

    Args:
        attend: the attention function.
        q: queries [B, heads, S, head_dim].
        k: keys [B, heads, T, head_dim].
        v: values, as k.
        groups: (weight above 0, ranges of keys), at most head_dim of them; keys in none of them
            are not seen.

    Returns:
        [B, S, heads * head_dim].
    """
    keys = [_picked(k, ranges) for _, ranges in groups]
    values = [_picked(v, ranges) for _, ranges in groups]
    if len(groups) == 1:
        return attend(q, keys[0], values[0])
    weights = q.new_tensor([weight for weight, _ in groups], dtype=torch.float32)
    with_sums = getattr(attend, "with_sums", None)
    if with_sums is not None:
        answers, sums = zip(*(with_sums(q, key, value) for key, value in zip(keys, values)))
        shares = (torch.stack(sums, dim=-1).float() + weights.log()).softmax(-1).transpose(1, 2)
    else:
        answers = tuple(attend(q, key, value) for key, value in zip(keys, values))
        shares = _shares(attend, q, keys) * weights
        shares = shares / shares.sum(-1, keepdim=True)
    heads = q.shape[1]
    mixed = sum(
        answer.unflatten(-1, (heads, -1)).float() * share[..., None]
        for answer, share in zip(answers, shares.unbind(-1))
    )
    return mixed.flatten(2).to(q.dtype)


def _shares(attend: Attend, q: Tensor, keys: Sequence[Tensor]) -> Tensor:
    """Shares of the softmax over all keys that groups of them have, [B, S, heads, groups]."""
    every = torch.cat(tuple(keys), dim=2)
    owner = torch.zeros_like(every)
    start = 0
    for i, key in enumerate(keys):
        owner[:, :, start : start + key.shape[2], i] = 1
        start += key.shape[2]
    return attend(q, every, owner).unflatten(-1, (q.shape[1], -1))[..., : len(keys)].float()


def _view_pairs(attend: Attend, q: Tensor, k: Tensor, v: Tensor, layout: BranchLayout) -> Tensor:
    """View pairs one by one, [B, layout.references, heads * head_dim]; one at a time, since they
    may differ in length, and to copy the keys of text and targets for one of them only."""
    main = layout.main
    pictures: list[list[Tensor]] = [[], []]
    for i, view in enumerate(layout.view_ranges()):
        alone = [float(i == other) for other in range(layout.pairs)]
        groups = _groups(layout, [slice(0, main)] if main else [], main, alone)
        own = _picked(q, [slice(main + start, main + end) for start, _, end in view])
        answer = weighted_groups(attend, own, k, v, groups)
        for domain, part in enumerate(answer.split([end - start for start, _, end in view], dim=1)):
            pictures[domain].append(part)
    return torch.cat([part for domain in pictures for part in domain], dim=1)


def _picked(x: Tensor, ranges: Sequence[slice]) -> Tensor:
    return torch.cat([x[:, :, part] for part in ranges], dim=2)


def isolated_references(
    attend: Attend, q: Tensor, k: Tensor, v: Tensor, layout: BranchLayout
) -> Tensor:
    """Attention of references that see only their own pair (METHOD fact 30, the published cache).

    Args:
        attend: the attention function.
        q: queries of the references alone, [B, heads, layout.references, head_dim]; k and v alike.
        k: their keys.
        v: their values.
        layout: where the branches lie.

    Returns:
        [B, layout.references, heads * head_dim].
    """
    return _view_pairs(attend, q, k, v, replace(layout, text=0, target=0))


def weighted_references(
    attend: Attend, q: Tensor, k: Tensor, v: Tensor, layout: BranchLayout, copies: int
) -> Tensor:
    """Attention of the unconditional pass: all see all, the one reference pair counts `copies`
    times.

    Args:
        attend: the attention function.
        q: queries of the whole sequence, or of text and targets alone, [B, heads, S, head_dim].
        k: keys of the whole sequence.
        v: values of the whole sequence.
        layout: where the branches lie.
        copies: how many equal reference pairs the one in the sequence stands for.

    Returns:
        [B, S, heads * head_dim].
    """
    if copies == 1:
        return attend(q, k, v)
    main, total = layout.main, k.shape[2]
    repeated = main + copies * (total - main)
    # Without the sums, the keys of the groups' calls add up to twice their number.
    if not hasattr(attend, "with_sums") and repeated <= 2 * total:
        k, v = (torch.cat([x, *[x[:, :, main:]] * (copies - 1)], dim=2) for x in (k, v))
        return attend(q, k, v)
    groups = [(1.0, [slice(0, main)]), (float(copies), [slice(main, total)])]
    return weighted_groups(attend, q, k, v, groups)
