"""Procedural assets: compounds of a few solids, each with a procedural texture.

An asset is a pure function of (seed, split, index), so that a set is named by three numbers, any
part of it can be made again anywhere, and a held-out asset can never be among the training assets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from .textures import TEXTURE_SIZE, random_texture

EMPTY, ELLIPSOID, BOX, FRUSTUM, TORUS = range(5)
"""Kinds of solids; EMPTY fills the slots that an asset does not use."""

MAX_PARTS = 6
X, Y, Z = range(3)

SPLITS = ("train", "held_out")


@dataclass(frozen=True)
class AssetTable:
    """Parameters of N assets as arrays, one row an asset, in the canonical frame.

    The canonical frame is the method's: bounding box centred at the origin, longest side 2, Y up
    (METHOD fact 38).

    Attributes:
        kind: int64 [N], index into KINDS.
        solid: int64 [N, MAX_PARTS], kind of each solid.
        axis: int64 [N, MAX_PARTS], world axis that a frustum or a torus turns around.
        centre: float32 [N, MAX_PARTS, 3].
        half: float32 [N, MAX_PARTS, 3], half of the solid's extent along the world axes.
        shape: float32 [N, MAX_PARTS], top radius over bottom radius of a frustum, tube radius over
            ring radius of a torus.
        texture: float32 [N, MAX_PARTS, TEXTURE_SIZE].
        extent: float32 [N, 3], half of the bounding box's sides.
    """

    kind: np.ndarray
    solid: np.ndarray
    axis: np.ndarray
    centre: np.ndarray
    half: np.ndarray
    shape: np.ndarray
    texture: np.ndarray
    extent: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: slice | np.ndarray) -> AssetTable:
        return AssetTable(*(getattr(self, f.name)[rows] for f in fields(self)))

    def names(self) -> list[str]:
        """The word for each asset's kind, as captions use it."""
        return [KINDS[kind][0] for kind in self.kind]

    def name(self, row: int) -> str:
        """The word for an asset's kind, as captions use it."""
        return KINDS[self.kind[row]][0]


@dataclass(frozen=True)
class Part:
    """One solid before normalisation; see AssetTable."""

    solid: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    axis: int = Y
    shape: float = 1.0


def ellipsoid(centre: tuple, half: tuple) -> Part:
    return Part(ELLIPSOID, centre, half)


def box(centre: tuple, half: tuple) -> Part:
    return Part(BOX, centre, half)


def frustum(
    centre: tuple, radius: float, half_height: float, top: float = 1.0, axis: int = Y
) -> Part:
    """A cylinder (top = 1), a cone (top = 0) or what is between; `top` is the ratio of the
    radii."""
    half = [radius] * 3
    half[axis] = half_height
    return Part(FRUSTUM, centre, (half[0], half[1], half[2]), axis, top)


def torus(centre: tuple, ring: float, tube: float, axis: int = Y) -> Part:
    half = [ring + tube] * 3
    half[axis] = tube
    return Part(TORUS, centre, (half[0], half[1], half[2]), axis, tube / ring)


Draw = Callable[[float, float], float]


def _ball(u: Draw) -> list[Part]:
    return [ellipsoid((0, 0, 0), (1, u(0.8, 1), u(0.8, 1)))]


def _crate(u: Draw) -> list[Part]:
    return [box((0, 0, 0), (u(0.6, 1), u(0.6, 1), u(0.6, 1)))]


def _drum(u: Draw) -> list[Part]:
    return [frustum((0, 0, 0), u(0.6, 1), u(0.6, 1), u(0.75, 1))]


def _cone(u: Draw) -> list[Part]:
    return [frustum((0, 0, 0), u(0.6, 0.9), 1, u(0, 0.3))]


def _ring(u: Draw) -> list[Part]:
    return [torus((0, 0, 0), 1, u(0.3, 0.5), int(u(0, 2.999)))]


def _mug(u: Draw) -> list[Part]:
    r = u(0.55, 0.75)
    return [frustum((0, 0, 0), r, 0.8, 1), torus((r, 0, 0), u(0.35, 0.45), u(0.1, 0.14), Z)]


def _lamp(u: Draw) -> list[Part]:
    r = u(0.45, 0.7)
    return [
        frustum((0, -0.95, 0), u(0.35, 0.5), 0.1),
        frustum((0, -0.35, 0), u(0.1, 0.18), 0.6),
        frustum((0, 0.5, 0), r, u(0.4, 0.55), u(0.4, 0.7)),
    ]


def _hut(u: Draw) -> list[Part]:
    w, h, roof = u(0.6, 0.8), u(0.45, 0.55), u(0.4, 0.5)
    return [
        box((0, 0, 0), (w, h, w)),
        frustum((0, h + roof, 0), w * u(1.2, 1.4), roof, u(0, 0.2)),
        frustum((w * 0.6, h + roof * 1.3, 0), 0.13, 0.35),
    ]


def _mushroom(u: Draw) -> list[Part]:
    return [
        frustum((0, -0.5, 0), u(0.25, 0.4), 0.6, u(0.7, 1)),
        ellipsoid((0, 0.3, 0), (u(0.8, 1), u(0.4, 0.6), u(0.8, 1))),
    ]


def _snowman(u: Draw) -> list[Part]:
    a, b, c = u(0.6, 0.7), u(0.42, 0.5), u(0.28, 0.36)
    y = a * 1.75 + b * 0.75
    return [
        ellipsoid((0, 0, 0), (a, a, a)),
        ellipsoid((0, a + b * 0.75, 0), (b, b, b)),
        ellipsoid((0, y + b * 0.6, 0), (c, c, c)),
        frustum((c, y + b * 0.6, 0), 0.1, 0.2, 0, X),
    ]


def _rocket(u: Draw) -> list[Part]:
    r, h = u(0.3, 0.42), u(0.65, 0.8)
    return [
        frustum((0, 0, 0), r, h, u(0.8, 1)),
        frustum((0, h + 0.3, 0), r, 0.3, 0),
        box((0, -h * 0.8, 0), (r * 2, h * 0.3, 0.07)),
        box((0, -h * 0.8, 0), (0.07, h * 0.3, r * 2)),
    ]


def _robot(u: Draw) -> list[Part]:
    w, d = u(0.45, 0.6), u(0.3, 0.4)
    return [
        box((0, 0, 0), (d, 0.5, w)),
        box((0, 0.8, 0), (d * 0.8, 0.28, w * 0.6)),
        frustum((0, 0, w + 0.14), 0.14, u(0.35, 0.5)),
        frustum((0, 0, -w - 0.14), 0.14, u(0.35, 0.5)),
        box((0, -0.75, w * 0.5), (d * 0.7, 0.28, w * 0.35)),
        box((0, -0.75, -w * 0.5), (d * 0.7, 0.28, w * 0.35)),
    ]


def _dumbbell(u: Draw) -> list[Part]:
    r = u(0.35, 0.5)
    return [
        frustum((0, 0, 0), u(0.12, 0.2), 0.7, 1, X),
        ellipsoid((-0.75, 0, 0), (r, r, r)),
        ellipsoid((0.75, 0, 0), (r, r, r)),
    ]


def _table(u: Draw) -> list[Part]:
    w, d, leg = u(0.8, 1), u(0.7, 0.9), u(0.1, 0.16)
    x, z, h = w - leg, d - leg, 0.4
    legs = [box((sx * x, -h, sz * z), (leg, h, leg)) for sx in (-1, 1) for sz in (-1, 1)]
    return [box((0, 0.12, 0), (w, u(0.12, 0.2), d)), *legs]


def _tree(u: Draw) -> list[Part]:
    r = u(0.6, 0.75)
    return [
        frustum((0, -0.75, 0), u(0.15, 0.22), 0.3),
        frustum((0, -0.1, 0), r, 0.45, 0.25),
        frustum((0, 0.6, 0), r * 0.75, 0.45, 0),
    ]


def _cake(u: Draw) -> list[Part]:
    r = u(0.85, 1)
    return [
        frustum((0, -0.4, 0), r, 0.3),
        frustum((0, 0.1, 0), r * u(0.65, 0.75), 0.25),
        frustum((0, 0.5, 0), r * u(0.35, 0.45), 0.2),
        ellipsoid((0, 0.75, 0), (0.16, 0.16, 0.16)),
    ]


def _duck(u: Draw) -> list[Part]:
    return [
        ellipsoid((0, -0.2, 0), (0.85, u(0.45, 0.55), u(0.5, 0.6))),
        ellipsoid((0.55, 0.5, 0), (0.38, 0.38, 0.38)),
        frustum((0.98, 0.45, 0), 0.14, 0.2, 0.2, X),
        frustum((-0.85, 0.05, 0), 0.25, 0.3, 1, Z),
    ]


def _tower(u: Draw) -> list[Part]:
    r = u(0.4, 0.5)
    return [
        frustum((0, -0.3, 0), r, 0.7, 0.8),
        frustum((0, 0.5, 0), r * 1.1, 0.15),
        frustum((0, 0.95, 0), r * u(0.9, 1.1), 0.3, 0),
        box((0, -0.85, 0), (r * 1.3, 0.15, r * 1.3)),
    ]


KINDS: tuple[tuple[str, Callable[[Draw], list[Part]]], ...] = (
    ("ball", _ball),
    ("crate", _crate),
    ("drum", _drum),
    ("cone", _cone),
    ("ring", _ring),
    ("mug", _mug),
    ("lamp", _lamp),
    ("hut", _hut),
    ("mushroom", _mushroom),
    ("snowman", _snowman),
    ("rocket", _rocket),
    ("robot", _robot),
    ("dumbbell", _dumbbell),
    ("table", _table),
    ("tree", _tree),
    ("cake", _cake),
    ("duck", _duck),
    ("tower", _tower),
)
"""Word and recipe of every kind of asset. Append only: `AssetTable.kind` counts in it."""


def make_asset(seed: int, split: str, index: int, without: Sequence[str] = ()) -> AssetTable:
    """One asset, as a table of one row.

    Args:
        seed: names the whole set.
        split: "train" or "held_out"; their random streams never meet.
        index: which asset of the split.
        without: words of kinds that are left out.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    kinds = [i for i, (word, _) in enumerate(KINDS) if word not in without]
    kind = kinds[int(rng.integers(len(kinds)))]
    parts = KINDS[kind][1](lambda low, high: float(rng.uniform(low, high)))
    solid = np.full(MAX_PARTS, EMPTY, np.int64)
    axis = np.full(MAX_PARTS, Y, np.int64)
    centre = np.zeros((MAX_PARTS, 3), np.float32)
    half = np.ones((MAX_PARTS, 3), np.float32)
    shape = np.ones(MAX_PARTS, np.float32)
    texture = np.zeros((MAX_PARTS, TEXTURE_SIZE), np.float32)
    for i, part in enumerate(parts):
        solid[i], axis[i], shape[i] = part.solid, part.axis, part.shape
        centre[i], half[i] = part.centre, part.half
        texture[i] = random_texture(rng)
    used = solid != EMPTY
    low, high = (centre - half)[used].min(0), (centre + half)[used].max(0)
    scale = 2 / (high - low).max()
    centre[used] = (centre[used] - (low + high) / 2) * scale
    half[used] *= scale
    rows = (np.int64(kind), solid, axis, centre, half, shape, texture, (high - low) * scale / 2)
    return AssetTable(*(np.asarray(x)[None] for x in rows))


def make_assets(
    seed: int, split: str, count: int, start: int = 0, without: Sequence[str] = ()
) -> AssetTable:
    """Assets start .. start + count - 1 of a split; see make_asset."""
    tables = [make_asset(seed, split, start + i, without) for i in range(count)]
    names = [f.name for f in fields(AssetTable)]
    return AssetTable(*(np.concatenate([getattr(t, n) for t in tables]) for n in names))
