"""What colours the faces of an asset, as arrays over all of its parts.

A view looks up colours for all of its pixels at once; only textures are taken one by one. So an
asset of twenty thousand parts is shaded as fast as one of a single part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .material import BLEND, MASK, Material, Texture, srgb_to_linear


@dataclass(frozen=True, eq=False)
class Surface:
    """Colours of N parts, whose V vertices are numbered part after part.

    Attributes:
        uv: float32 [V, 2] texture coordinates, 0 where a part has none; [0, 2] where no
            part has any.
        colors: float32 [V, 4] vertex colours, likewise.
        linear_colors: the same in linear light.
        has_colors: bool [N], whether the part has vertex colours.
        textures: the textures.
        texture: int32 [N], the part's texture, -1 for none.
        factor: float64 [N, 4], base colour.
        placeholder: bool [N], whether the base colour only stands in for one.
        cutoff: float64 [N], glTF's alpha test: alpha is 1 at or above it, else 0; NaN where it
            stays as it is (BLEND), -inf where it is always 1 (OPAQUE).
        double_sided: bool [N].
    """

    uv: np.ndarray
    colors: np.ndarray
    linear_colors: np.ndarray
    has_colors: np.ndarray
    textures: list[Texture]
    texture: np.ndarray
    factor: np.ndarray
    placeholder: np.ndarray
    cutoff: np.ndarray
    double_sided: np.ndarray


def surface_of(parts: Sequence) -> Surface:
    """The surface of parts (`model.Part`)."""
    materials = [part.material for part in parts]
    textured = [part.uv is not None and part.material.texture is not None for part in parts]
    textures = {
        id(material.texture): material.texture
        for material, has in zip(materials, textured, strict=True)
        if has
    }
    number = {key: i for i, key in enumerate(textures)}
    return Surface(
        uv=_stacked([part.uv if has else None for part, has in zip(parts, textured)], parts, 2),
        colors=_stacked([part.colors for part in parts], parts, 4),
        linear_colors=_stacked([_linear_colors(part) for part in parts], parts, 4),
        has_colors=np.array([part.colors is not None for part in parts]),
        textures=list(textures.values()),
        texture=np.array(
            [
                number[id(material.texture)] if has else -1
                for material, has in zip(materials, textured, strict=True)
            ],
            np.int32,
        ),
        factor=np.array([material.base_color for material in materials], np.float64),
        placeholder=np.array([material.placeholder for material in materials]),
        cutoff=np.array([_cutoff(material) for material in materials]),
        double_sided=np.array([material.double_sided for material in materials]),
    )


def _linear_colors(part) -> np.ndarray | None:
    if part.colors is None or not part.srgb_colors:
        return part.colors
    return np.concatenate([srgb_to_linear(part.colors[:, :3]), part.colors[:, 3:]], axis=1)


def _cutoff(material: Material) -> float:
    if material.alpha_mode == MASK:
        return material.alpha_cutoff
    return np.nan if material.alpha_mode == BLEND else -np.inf


def _stacked(arrays: list, parts: Sequence, width: int) -> np.ndarray:
    if all(values is None for values in arrays):
        return np.zeros((0, width), np.float32)
    out = np.zeros((sum(len(part.vertices) for part in parts), width), np.float32)
    start = 0
    for values, part in zip(arrays, parts, strict=True):
        stop = start + len(part.vertices)
        if values is not None:
            out[start:stop] = values
        start = stop
    return out
