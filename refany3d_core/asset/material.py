"""Materials and textures of an asset's parts, and how a colour is read from them."""

from dataclasses import dataclass, field

import numpy as np

REPEAT, CLAMP, MIRROR = "repeat", "clamp", "mirror"
OPAQUE, MASK, BLEND = "OPAQUE", "MASK", "BLEND"

UNCOLOURED = (102 / 255, 102 / 255, 102 / 255, 1.0)
"""Grey of a mesh without any colour: trimesh's default, which the published renderer shows."""


@dataclass(frozen=True, eq=False)
class Texture:
    """An image on a surface.

    Attributes:
        pixels: uint8 [H, W, 4], sRGB and alpha, first row at v = 0 (glTF's convention).
        wrap: what lies outside [0, 1] along u and along v: "repeat", "clamp" or "mirror".
    """

    pixels: np.ndarray
    wrap: tuple[str, str] = (REPEAT, REPEAT)

    def sample(self, uv: np.ndarray) -> np.ndarray:
        """Bilinear RGBA in 0..1 at uv [..., 2], without mipmaps, texel centres at + 0.5
        (METHOD fact 40)."""
        height, width = self.pixels.shape[:2]
        u0, u1, fu = _texels(uv[..., 0], width, self.wrap[0])
        v0, v1, fv = _texels(uv[..., 1], height, self.wrap[1])
        flat = self.pixels.reshape(-1, 4)

        def row(v):
            left, right = flat[v * width + u0], flat[v * width + u1]
            return left + (right.astype(np.float64) - left) * fu[..., None]

        top, bottom = row(v0), row(v1)
        return (top + (bottom - top) * fv[..., None]) / 255.0


def _texels(x: np.ndarray, size: int, wrap: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two neighbouring texels' indices and the weight of the second."""
    x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    if wrap == REPEAT:
        x = x - np.floor(x)
    elif wrap == MIRROR:
        x = 1.0 - np.abs(np.mod(x, 2.0) - 1.0)
    else:
        x = np.clip(x, 0.0, 1.0)
    x = x * size - 0.5
    low = np.floor(x)
    first = low.astype(np.int64)
    second = first + 1
    if wrap == REPEAT:
        return first % size, second % size, x - low
    return np.clip(first, 0, size - 1), np.clip(second, 0, size - 1), x - low


@dataclass(frozen=True, eq=False)
class Material:
    """How a part is coloured.

    Attributes:
        base_color: RGBA factor in 0..1; linear light in glTF.
        texture: base colour image, or None.
        alpha_mode: "OPAQUE", "MASK" or "BLEND" (glTF).
        alpha_cutoff: MASK keeps alpha at or above it.
        double_sided: whether back faces are visible under glTF's rules.
        metallic, roughness: factors in 0..1, for lit shading.
        placeholder: base_color only stands in for a colour that the file does not have: vertex
            colours are not multiplied by it.
    """

    base_color: tuple[float, float, float, float] = UNCOLOURED
    texture: Texture | None = None
    alpha_mode: str = OPAQUE
    alpha_cutoff: float = 0.5
    double_sided: bool = True
    metallic: float = 0.0
    roughness: float = 1.0
    placeholder: bool = False
    name: str = field(default="", compare=False)


NO_MATERIAL = Material(placeholder=True)
"""Of a surface whose file says nothing about its colour."""


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1 decoding of values in 0..1."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1 encoding of values in 0..1."""
    x = np.clip(x, 0.0, 1.0)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
