"""From the faces that pixels see to points, normals and colours.

Both backends only say which face a pixel sees; everything else is computed here in float64, so
that colour, point, depth and normal belong to one hit, whatever found it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .cameras import Camera
from .material import linear_to_srgb, srgb_to_linear
from .model import Asset

PUBLISHED, GLTF = "published", "gltf"
UNLIT, HEADLIGHT = "unlit", "headlight"


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Places on an asset's surface, P of them.

    Attributes:
        face: int32 [P], index into the asset's faces.
        weights: float64 [P, 3], barycentric weights of the face's corners.
    """

    asset: Asset
    face: np.ndarray
    weights: np.ndarray

    @cached_property
    def corners(self) -> np.ndarray:
        """int32 [P, 3], vertices of the faces."""
        return self.asset.faces[self.face]

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Per-vertex values [V, C] at the points: float64 [P, C]."""
        return np.einsum("pk,pkc->pc", self.weights, values[self.corners])

    @cached_property
    def normals(self) -> np.ndarray:
        """float64 [P, 3], unit face normals, as the winding has them."""
        a, b, c = (self.asset.vertices[self.corners[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)


@dataclass(frozen=True, eq=False)
class Hits(SurfacePoints):
    """Covered pixels of a view, P of them.

    Attributes:
        camera: the view.
        pixel: int64 [P], flat pixel index, row 0 at the top.
        depth: float64 [P], distance along the optical axis.
        direction: float64 [P, 3], the rays.
    """

    camera: Camera
    pixel: np.ndarray
    depth: np.ndarray
    direction: np.ndarray

    @cached_property
    def facing(self) -> np.ndarray:
        """float64 [P], cosine between the normal and the way back to the eye; below 0 on back
        faces."""
        length = np.linalg.norm(self.direction, axis=1)
        return -np.einsum("pc,pc->p", self.normals, self.direction) / length


def locate(asset: Asset, camera: Camera, faces: np.ndarray) -> Hits:
    """Where the rays meet the faces [H, W] (-1: none) that the backend found."""
    pixel = np.flatnonzero(faces.ravel() >= 0)
    face = faces.ravel()[pixel]
    direction = camera.directions(pixel)
    a, b, c = (asset.vertices[asset.faces[face, k]] for k in range(3))
    e1, e2, to_eye = b - a, c - a, camera.eye - a
    # Moeller and Trumbore, Fast, Minimum Storage Ray/Triangle Intersection, 1997
    p = np.cross(direction, e2)
    q = np.cross(to_eye, e1)
    determinant = np.einsum("pc,pc->p", e1, p)
    safe = np.where(determinant == 0, 1.0, determinant)
    u = np.where(determinant == 0, 0.0, np.einsum("pc,pc->p", to_eye, p) / safe)
    v = np.where(determinant == 0, 0.0, np.einsum("pc,pc->p", direction, q) / safe)
    weights = np.clip(np.stack([1 - u - v, u, v], axis=1), 0.0, 1.0)
    weights /= weights.sum(1, keepdims=True)
    point = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
    depth = (camera.eye - point) @ camera.pose[:3, 2]
    return Hits(asset, face, weights, camera, pixel, depth, direction)


def shade(hits: SurfacePoints, rule: str = PUBLISHED, light: str = UNLIT) -> np.ndarray:
    """RGBA of the hits, float64 [P, 4] in 0..1, sRGB.

    Args:
        hits: what the pixels see, or any places on the surface; a headlight needs pixels.
        rule: "published" (METHOD fact 40): the texture, else the vertex colours, else the factor,
            each as stored, and always opaque. "gltf": texture times factor times vertex colours
            in linear light, alpha modes, and no back faces of single-sided materials.
        light: "unlit", or "headlight": times the cosine to the eye, at least 0.25.
    """
    surface = hits.asset.surface
    part = hits.asset.face_part[hits.face]
    rgba = surface.factor[part]
    colored = surface.has_colors[part]
    if rule == PUBLISHED:
        if colored.any():
            rgba[colored] = _interpolated(hits, colored, surface.colors)
        for here, texel in _texels(hits, part):
            rgba[here] = texel
        rgba[:, 3] = 1.0
    else:
        rgba[colored & surface.placeholder[part]] = 1.0
        for here, texel in _texels(hits, part):
            rgba[here] *= np.concatenate([srgb_to_linear(texel[:, :3]), texel[:, 3:]], axis=1)
        if colored.any():
            rgba[colored] *= _interpolated(hits, colored, surface.linear_colors)
        rgba[:, :3] = linear_to_srgb(rgba[:, :3])
        cut = surface.cutoff[part]
        rgba[:, 3] = np.where(np.isnan(cut), rgba[:, 3], rgba[:, 3] >= cut)
    rgba = np.clip(np.nan_to_num(rgba), 0.0, 1.0)
    if light == HEADLIGHT and isinstance(hits, Hits):
        rgba[:, :3] *= np.maximum(np.abs(hits.facing), 0.25)[:, None]
    return rgba


def front_faces(asset: Asset, camera: Camera) -> np.ndarray:
    """bool [F], faces that glTF shows to a camera: all but the backs of single-sided materials."""
    a, b, c = (asset.vertices[asset.faces[:, k]] for k in range(3))
    toward = np.einsum("fc,fc->f", np.cross(b - a, c - a), camera.eye - a)
    return (toward >= 0) | asset.surface.double_sided[asset.face_part]


def _interpolated(hits: SurfacePoints, here: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Per-vertex values [V, C] at some of the hits, float64."""
    corners = values[hits.corners[here]].astype(np.float64)
    return np.einsum("pk,pkc->pc", hits.weights[here], corners)


def _texels(hits: SurfacePoints, part: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each texture in view: which hits show it, and its RGBA float64 [N, 4] there."""
    surface = hits.asset.surface
    texture = surface.texture[part]
    order = np.argsort(texture, kind="stable")
    order = order[texture[order] >= 0]
    starts = np.flatnonzero(np.diff(texture[order], prepend=-1))
    for here in np.split(order, starts[1:]) if len(order) else ():
        uv = _interpolated(hits, here, surface.uv)
        yield here, surface.textures[texture[here[0]]].sample(uv)
