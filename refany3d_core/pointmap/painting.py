"""Generated pictures back on the asset: a texture out of pictures and their point maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..asset.cameras import Camera
from ..asset.layout import AUTO, Layout, lay_out
from ..asset.model import Asset
from ..asset.render import render
from ..asset.shade import SurfacePoints, shade
from .alignment import AlignedMap, align, check_proportions

OLD, NEAREST = "old texture", "nearest paint"
MAX_TEXELS, DEFAULT_TEXELS = 4096, 2048
"""Texels a side: the most, and of an asset without texture."""
GRAZING = 0.05
"""Cosine between the surface and the view from which nothing is painted; 87 degrees."""
SURE = 0.05
"""Trust times cosine at which a texel is all paint; below it fades into what was there."""
SHARPNESS = 2.0
"""Power of the pixels that a texel's place has in a picture: the sharper picture prevails."""
BLEED = 16
"""Texels by which colours are carried on beyond the charts' edges, for filters."""
PIXELS_OFF = 2.0
"""Pixels between a texel's place and the place that its pixel sees, up to which it is seen."""


@dataclass(frozen=True, eq=False)
class Painted:
    """An asset with a texture out of pictures.

    Attributes:
        asset: one part, with the texture.
        texture: uint8 [H, W, 4], row 0 at v = 0.
        paint: float32 [H, W] in 0..1, how much of a texel comes from the pictures.
        surface: bool [H, W], the texels that lie on the surface.
        views: share of the surface's texels that each picture painted.
        refusals: why pictures were left out, by their place in the batch.
    """

    asset: Asset
    texture: np.ndarray
    paint: np.ndarray
    surface: np.ndarray
    views: tuple[float, ...]
    refusals: dict[int, str]

    @property
    def coverage(self) -> float:
        """Share of the surface's texels that are at least half paint."""
        return float((self.paint[self.surface] >= 0.5).mean())


def paint_mesh(
    asset: Asset,
    images: Sequence[np.ndarray],
    point_maps: Sequence[np.ndarray],
    cameras: Sequence[Camera] | None = None,
    masks: Sequence[np.ndarray] | None = None,
    size: int = 0,
    uvs: str = AUTO,
    holes: str = OLD,
    progress: Callable[[], None] = lambda: None,
) -> Painted:
    """Paint pictures on an asset.

    Args:
        asset: what is in the pictures.
        images: float [H, W, 3] each, in 0..1, sRGB; the maps' size or larger.
        point_maps: float [h, w, 3] each, in 0..1, white background.
        cameras: that the maps were made with, of the maps' size; None to recover them.
        masks: float [H, W] in 0..1 each, what of the pictures to use; None for all.
        size: texels a side; 0 for the old texture's own.
        uvs: "auto", "own" or "new", see `lay_out`.
        holes: what no picture shows keeps its "old texture", or takes the "nearest paint".
        progress: called before each piece of work; may raise.

    Raises:
        ValueError: numbers or sizes that do not belong together, an empty mask, no usable texture
            coordinates, or no picture whose map is of this asset.
    """
    _check(images, point_maps, cameras, masks)
    progress()
    layout = lay_out(asset, uvs, size or DEFAULT_TEXELS)
    width, height = (size, size) if size else _texels(layout)
    progress()
    pixel, places = layout.texels(width, height)
    points = places.interpolate(asset.vertices)
    total, color = np.zeros(len(pixel)), np.zeros((len(pixel), 3))
    paint = np.zeros(len(pixel))
    views, refusals = [], {}
    for i, (image, point_map) in enumerate(zip(images, point_maps)):
        progress()
        try:
            found = align(point_map, asset, cameras[i] if cameras else None)
        except ValueError as error:
            refusals[i] = str(error)
            views.append(0.0)
            continue
        mask = None if masks is None else masks[i]
        sure, weight, seen = _look(found, image, mask, places, points)
        total += weight
        color += weight[:, None] * seen
        paint = np.maximum(paint, sure)
        views.append(float((sure >= 0.5).mean()))
    if len(refusals) == len(images):
        raise ValueError(f"no picture can be painted: {_listed(refusals)}")
    if not paint.any():
        raise ValueError(
            "the pictures show nothing of the mesh that could be painted; widen the masks, or "
            "take cameras that see it"
        )
    progress()
    color = np.divide(color, total[:, None], out=color, where=total[:, None] > 0)
    old = _old(layout, places, pixel, width, height)
    under = old.reshape(-1, 4)[pixel, :3] / 255.0
    if holes == NEAREST:
        under = _nearest(points, color, paint)
    mixed = under + paint[:, None] * (color - under)
    texture = _filled(old, pixel, mixed, paint > 0 if holes == OLD and layout.own else None)
    amount, surface = np.zeros(width * height, np.float32), np.zeros(width * height, bool)
    amount[pixel], surface[pixel] = paint, True
    shape = (height, width)
    return Painted(
        layout.textured(texture), texture, amount.reshape(shape), surface.reshape(shape),
        tuple(views), refusals,
    )  # fmt: skip


def _check(images: Sequence, point_maps: Sequence, cameras, masks) -> None:
    for name, items in (("point maps", point_maps), ("cameras", cameras), ("masks", masks)):
        if items is not None and len(items) != len(images):
            raise ValueError(
                f"there are {len(images)} images but {len(items)} {name}; connect one for each, "
                "of one sampling"
            )
    for i, (image, point_map) in enumerate(zip(images, point_maps)):
        check_proportions(image, point_map)
        if not np.isfinite(image).all():
            raise ValueError(f"image {i} has NaN or infinite pixels; sample again")
    if masks is not None and not any((mask > 0).any() for mask in masks):
        raise ValueError("the mask is empty: no pixel may be used; paint it, or disconnect it")


def _listed(refusals: dict[int, str]) -> str:
    """The reasons, each once."""
    if len(set(refusals.values())) == 1:
        return next(iter(refusals.values()))
    return "; ".join(f"picture {i}: {why}" for i, why in refusals.items())


def _texels(layout: Layout) -> tuple[int, int]:
    """Width and height of a texture with room for what the old one shows."""
    textures = [part.material.texture for part in layout.asset.parts if part.uv is not None]
    sizes = [texture.pixels.shape[:2] for texture in textures if texture is not None]
    if layout.own and sizes:
        height, width = sizes[0]
        return min(width, MAX_TEXELS), min(height, MAX_TEXELS)
    texels = np.sqrt(sum(height * width for height, width in sizes))
    side = int(2 ** np.ceil(np.log2(max(texels, DEFAULT_TEXELS))))
    return min(side, MAX_TEXELS), min(side, MAX_TEXELS)


def _look(
    found: AlignedMap,
    image: np.ndarray,
    mask: np.ndarray | None,
    places: SurfacePoints,
    points: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one picture shows at places on the surface: how sure [P] in 0..1, its weight against
    other pictures [P], and the colour [P, 3]."""
    from scipy import ndimage

    camera = found.camera
    seen = render(places.asset, camera)
    trust = found.trust(seen.points)
    scale = image.shape[0] / camera.height
    x, y, depth = camera.project(points)
    inside = (depth > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    sure, weight = np.zeros(len(points)), np.zeros(len(points))
    color = np.zeros((len(points), 3))
    on = np.flatnonzero(inside)
    x, y, depth = x[on], y[on], depth[on]
    row, column = y.astype(int), x.astype(int)
    to_eye = camera.eye - points[on]
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    cosine = np.abs(np.einsum("pc,pc->p", places.normals[on], to_eye))
    pixel_size = depth / camera.focal
    off = np.linalg.norm(seen.points[row, column] - points[on], axis=1)
    with np.errstate(invalid="ignore"):
        visible = off < PIXELS_OFF * pixel_size / np.maximum(cosine, GRAZING)
    keep = visible & (cosine > GRAZING)
    on, x, y, cosine, pixel_size = on[keep], x[keep], y[keep], cosine[keep], pixel_size[keep]
    at = np.stack([y - 0.5, x - 0.5])
    trusted = ndimage.map_coordinates(trust, at, order=1, mode="nearest")
    at = np.stack([y, x]) * scale - 0.5
    if mask is not None:
        trusted = trusted * ndimage.map_coordinates(mask, at, order=1, mode="nearest")
    for channel in range(3):
        smooth = np.asarray(image[..., channel], np.float32)
        color[on, channel] = ndimage.map_coordinates(smooth, at, order=3, mode="nearest")
    sure[on] = np.clip(trusted * (cosine - GRAZING) / SURE, 0, 1)
    weight[on] = trusted * (cosine - GRAZING) * (scale * cosine / pixel_size**2) ** SHARPNESS
    return sure, weight, np.clip(color, 0, 1)


def _old(
    layout: Layout, places: SurfacePoints, pixel: np.ndarray, width: int, height: int
) -> np.ndarray:
    """The asset's colours so far on the layout, uint8 [height, width, 4]."""
    texture = layout.asset.parts[0].material.texture
    if layout.own and texture is not None and texture.pixels.shape[:2] == (height, width):
        out = texture.pixels.copy()
        out[..., 3] = 255
        return out
    out = np.full((height * width, 4), 255, np.uint8)
    out[pixel] = (shade(places) * 255).round()
    return out.reshape(height, width, 4)


def _nearest(points: np.ndarray, color: np.ndarray, paint: np.ndarray) -> np.ndarray:
    """For each place the colour of the painted places around the nearest one [P, 3]."""
    from scipy.spatial import cKDTree

    sure = np.flatnonzero(paint >= 0.5)
    if not len(sure):
        sure = np.flatnonzero(paint == paint.max())
    out = color.copy()
    bare = paint < 1
    count = min(8, len(sure))
    distance, index = cKDTree(points[sure]).query(points[bare], count)
    distance, index = distance.reshape(-1, count), index.reshape(-1, count)
    weight = 1 / (distance + 1e-3)
    weight /= weight.sum(1, keepdims=True)
    out[bare] = np.einsum("pk,pkc->pc", weight, color[sure][index])
    return out


def _filled(
    old: np.ndarray, pixel: np.ndarray, colors: np.ndarray, changed: np.ndarray | None
) -> np.ndarray:
    """The texture with new colours, carried on beyond the charts' edges.

    Args:
        old: uint8 [H, W, 4].
        pixel: flat texels on the surface [P].
        colors: float [P, 3] in 0..1, theirs.
        changed: bool [P], the texels to write; None for all. The others, and what lies beside
            them, stay byte for byte.
    """
    from scipy import ndimage

    height, width = old.shape[:2]
    flat = old.reshape(-1, 4).copy()
    write = np.ones(len(pixel), bool) if changed is None else changed
    flat[pixel[write], :3] = np.clip(colors[write] * 255, 0, 255).round()
    outside = np.ones(height * width, bool)
    outside[pixel] = False
    wrote = np.zeros(height * width, bool)
    wrote[pixel[write]] = True
    distance, (rows, columns) = ndimage.distance_transform_edt(
        outside.reshape(height, width), return_indices=True
    )
    source = (rows * width + columns).ravel()
    beside = outside & (distance.ravel() <= BLEED) & wrote[source]
    flat[beside, :3] = flat[source[beside], :3]
    return flat.reshape(height, width, 4)
