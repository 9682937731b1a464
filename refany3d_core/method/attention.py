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
"""attend(q, k, v): [B, heads, tokens, head_dim] each, to [B, tokens of q, heads * head_dim]."""


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
    weighed = k.shape[2] == layout.total and any(weight != 1 for weight in weights)

    def look(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if weighed:
            return weighted_groups(attend, q, k, v, _groups(layout, k.shape[2], weights))
        return attend(q, k, v)

    out = []
    if text_agnostic and layout.point_maps:
        out.append(look(q[:, :, :sees_all], k, v))
        text = layout.text
        out.append(look(q[:, :, sees_all : layout.main], k[:, :, text:], v[:, :, text:]))
    else:
        out.append(look(q[:, :, : layout.main], k, v))
    if q.shape[2] > layout.main:
        out.append(_view_pairs(attend, q, k, v, layout))
    return torch.cat(out, dim=1)


def _groups(
    layout: BranchLayout, keys: int, weights: Sequence[float]
) -> list[tuple[float, list[slice]]]:
    """(weight, ranges of keys) by weight; the references are the last keys, and weight 1 is first.

    Args:
        layout: where the branches lie.
        keys: how many keys there are, references included.
        weights: of each view pair.
    """
    first = keys - layout.references
    groups: dict[float, list[slice]] = {1.0: [slice(0, first)]}
    for weight, view in zip(weights, layout.view_ranges()):
        ranges = [slice(first + start, first + end) for start, end in view]
        groups.setdefault(float(weight), []).extend(ranges)
    return [(weight, ranges) for weight, ranges in groups.items() if weight > 0]


def weighted_groups(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    groups: Sequence[tuple[float, Sequence[slice]]],
) -> Tensor:
    """Attention in which groups of keys count by their weights, without a mask.

    Every group is attended to on its own. What share of the softmax each has comes from one more
    call over all their keys, whose values say which group a key is of; the groups' answers are then
    mixed by share times weight.

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
    answers = [attend(q, key, _picked(v, ranges)) for key, (_, ranges) in zip(keys, groups)]
    if len(groups) == 1:
        return answers[0]
    every = torch.cat(keys, dim=2)
    owner = torch.zeros_like(every)
    start = 0
    for i, key in enumerate(keys):
        owner[:, :, start : start + key.shape[2], i] = 1
        start += key.shape[2]
    heads = q.shape[1]
    shares = attend(q, every, owner).unflatten(-1, (heads, -1))[..., : len(groups)].float()
    shares = shares * shares.new_tensor([weight for weight, _ in groups])
    shares = shares / shares.sum(-1, keepdim=True)
    mixed = sum(
        answer.unflatten(-1, (heads, -1)).float() * share[..., None]
        for answer, share in zip(answers, shares.unbind(-1))
    )
    return mixed.flatten(2).to(q.dtype)


def _view_pairs(attend: Attend, q: Tensor, k: Tensor, v: Tensor, layout: BranchLayout) -> Tensor:
    """View pairs one by one, [B, layout.references, heads * head_dim]; one at a time, since they
    may differ in length, and to copy the keys of text and targets for one of them only."""
    main = layout.main
    pictures: list[list[Tensor]] = [[], []]
    for view in layout.view_ranges():
        ranges = [slice(main + start, main + end) for start, end in view]
        seen = [slice(0, main), *ranges]
        answer = attend(_picked(q, ranges), _picked(k, seen), _picked(v, seen))
        for domain, part in enumerate(answer.split([end - start for start, end in view], dim=1)):
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
    if main + copies * (total - main) > 2 * total:  # what the keys of the groups' calls add up to
        groups = [(1.0, [slice(0, main)]), (float(copies), [slice(main, total)])]
        return weighted_groups(attend, q, k, v, groups)
    k, v = (torch.cat([x, *[x[:, :, main:]] * (copies - 1)], dim=2) for x in (k, v))
    return attend(q, k, v)
