"""What a training pass draws: samples, noise levels, noises and droppings, each by its number.

Every sample draws from a generator of its own, seeded by the run's seed and the sample's number
among all samples of the run. So a resumed run draws what an uninterrupted one would have, and two
processes draw together what one with the double batch draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .cache import Asset, EncodedTexts, EncodedTriplets
from .config import RefAny3DConfig
from .objectives import Batch


class AssetOrder:
    """Which assets a pass sees: every epoch a new order, passes of one size of targets.

    Args:
        assets: of the set.
        a_pass: assets of one pass.
        seed: of the orders.
    """

    def __init__(self, assets: list[Asset], a_pass: int, seed: int) -> None:
        sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, asset in enumerate(assets):
            sizes[asset.size].append(i)
        self._buckets = [np.array(rows) for _, rows in sorted(sizes.items())]
        self._a_pass, self._seed = a_pass, seed
        self._epoch, self._passes = -1, np.empty((0, a_pass), np.int64)
        self._length = sum(-(-len(rows) // a_pass) for rows in self._buckets)

    def __call__(self, number: int) -> np.ndarray:
        """Rows of the assets of pass `number`, [a_pass]."""
        epoch, place = divmod(number, self._length)
        if epoch != self._epoch:
            self._epoch, self._passes = epoch, self._shuffled(epoch)
        return self._passes[place]

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        passes = []
        for rows in self._buckets:
            order = rng.permutation(rows)
            missing = -len(order) % self._a_pass
            order = np.concatenate([order, np.resize(order, missing)])  # the last pass is filled up
            passes.append(order.reshape(-1, self._a_pass))
        if len(passes) > 1:
            joined = np.concatenate(passes)
            return joined[rng.permutation(len(joined))]
        return passes[0]


@dataclass
class Batches:
    """Batches of a run by number.

    Attributes:
        triplets, texts: the encoded set.
        config: batch, droppings, shared targets and seed.
        to_model: latents as the VAE gives them to those that the transformer sees.
        device: where batches go.
    """

    triplets: EncodedTriplets
    texts: EncodedTexts
    config: RefAny3DConfig
    to_model: Callable[[Tensor], Tensor]
    device: torch.device
    _order: AssetOrder = field(init=False)

    def __post_init__(self) -> None:
        copies = self.config.shared_targets or 1
        self._order = AssetOrder(
            self.triplets.assets, self.config.batch // copies, self.config.seed
        )

    def __call__(self, number: int) -> Batch:
        """Batch `number` of all batches of all processes."""
        config, copies = self.config, self.config.shared_targets or 1
        first = number * config.batch
        references, samples = [], []
        for i, row in enumerate(self._order(number)):
            asset = self.triplets.assets[row]
            dropped = False
            for j in range(copies):
                draw = _generator(config.seed, first + i * copies + j)
                t = torch.randn((), generator=draw).sigmoid()
                gone = torch.rand(2, generator=draw)
                if j == 0:  # all references of an asset at once (METHOD fact 52)
                    dropped = bool(gone[0] < config.reference_drop)
                scene = int(torch.randint(len(asset.captions), (), generator=draw))
                target = self.triplets.target(asset, scene)
                noise = torch.randn(target.shape, generator=draw)
                caption = "" if gone[1] < config.text_drop else asset.captions[scene]
                samples.append((target, noise, t, *self.texts(caption)))
            views = self.triplets.views(asset)[:, : config.reference_views or None]
            references.append(self.triplets.black.expand_as(views) if dropped else views)
        targets, noises, levels, context, pooled = (
            torch.stack(part).to(self.device, non_blocking=True) for part in zip(*samples)
        )
        views = torch.stack(references).to(self.device, non_blocking=True)
        return Batch(self.to_model(targets), self.to_model(views), context, pooled, levels, noises)


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_000_007 + number) % 2**63)
