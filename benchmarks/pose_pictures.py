"""Pictures of meshes at a known pose, as a picture-to-triplet pipeline meets them.

The object drawn is the mesh deformed by smooth bumps (a reconstruction is never exact), lit from a
random side, blurred, noisy, before clutter, half of the time partly hidden; the mask is a
segmenter's: a noisy outline of what is visible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from refany3d_core.asset import Asset, Camera, Part, render
from refany3d_core.asset.cameras import look_at

SIZE = 512
BUMPS = 0.02
"""Root mean square of the deformation, as a part of the asset's longest side."""


@dataclass(frozen=True, eq=False)
class PosedPicture:
    """A picture and what is true of it.

    Attributes:
        image: float32 [H, W, 3] in 0..1.
        mask: float32 [H, W], 1 on the visible object, as a segmenter has it.
        camera: the true one, in the undeformed mesh's normalised frame.
        fov_guess: degrees, off by about 12 %.
        hidden: part of the object behind the occluder.
    """

    image: np.ndarray
    mask: np.ndarray
    camera: Camera
    fov_guess: float
    hidden: float


def draw(asset: Asset, rng: np.random.Generator, size: int = SIZE) -> PosedPicture:
    """One random picture of the asset."""
    camera = random_camera(asset, rng, size)
    view = render(deformed(asset, rng), camera, supersampling=2)
    light = camera.pose[:3, :3] @ np.array([*rng.normal(size=2), abs(rng.normal()) + 0.3])
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.3, 0.6)
    shade = ambient + (1 - ambient) * np.clip(view.normal @ light, 0, 1)
    tint = rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3)
    lit = np.clip(view.color * shade[..., None] * tint, 0, 1)
    image = np.where(view.mask[..., None], lit, clutter(rng, size))
    visible = view.mask.copy()
    if rng.random() < 0.5:
        hides = occluder(view.mask, rng)
        image = np.where(hides[..., None], clutter(rng, size), image)
        visible &= ~hides
    hidden = 1 - visible.sum() / max(view.mask.sum(), 1)
    image = ndimage.gaussian_filter(image, (*[rng.uniform(0.4, 1.2)] * 2, 0))
    image = np.clip(image + rng.normal(0, 0.02, image.shape), 0, 1)
    return PosedPicture(
        (np.round(image * 255) / 255).astype(np.float32),
        segmented(visible, rng),
        camera,
        float(camera.fov * (1 + np.clip(rng.normal(0, 0.12), -0.24, 0.24))),
        float(hidden),
    )


def random_camera(asset: Asset, rng: np.random.Generator, size: int = SIZE) -> Camera:
    """From all around, somewhat above, nearly level, the object near the middle."""
    azimuth, pitch = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-10, 50))
    fov = rng.uniform(22, 60)
    focal = size / 2 / np.tan(np.radians(fov) / 2)
    distance = 2 * focal / rng.uniform(0.39, 0.62) / size
    eye = distance * np.array(
        [np.cos(pitch) * np.cos(azimuth), np.sin(pitch), np.cos(pitch) * np.sin(azimuth)]
    )
    pose = look_at(eye)
    roll = np.radians(rng.uniform(-10, 10))
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]
    pose[:3, :3] = pose[:3, :3] @ turn
    aside = rng.uniform(-0.125, 0.125, 2) * size / focal * distance
    pose[:3, 3] += pose[:3, :2] @ aside
    return Camera(pose, fov, size, size)


def deformed(asset: Asset, rng: np.random.Generator, bumps: float = BUMPS) -> Asset:
    """The asset with a smooth displacement, of `bumps` of its size (root mean square)."""
    waves = rng.normal(size=(8, 3)) * 2.0
    phases = rng.uniform(0, 2 * np.pi, (8, 3))
    weights = rng.normal(size=(8, 3))
    offsets = (np.sin((asset.vertices @ waves.T)[..., None] + phases) * weights).sum(1)
    rms = np.sqrt((offsets**2).sum(1).mean())
    offsets *= bumps * 2 / rms / asset.scale
    parts, start = [], 0
    for part in asset.parts:
        moved = part.vertices + offsets[start : start + len(part.vertices)]
        parts.append(Part(moved, part.faces, part.material, part.uv, part.colors))
        start += len(part.vertices)
    return _Kept(parts, asset)


class _Kept(Asset):
    """A deformed asset that stays in the frame of the one it was made of."""

    def __init__(self, parts: list[Part], frame: Asset) -> None:
        super().__init__(parts)
        self.bounds = frame.bounds


def clutter(rng: np.random.Generator, size: int) -> np.ndarray:
    """float64 [size, size, 3]: coloured noise of several scales."""
    out = np.zeros((size, size, 3))
    for cell in (4, 12, 32, 90):
        few = rng.normal(size=(size // cell + 4, size // cell + 4, 3))
        fine = ndimage.zoom(few, (cell, cell, 1), order=1)
        out += fine[:size, :size] * cell**0.5
    out = (out - out.mean()) / out.std()
    return np.clip(0.45 + 0.25 * out + rng.uniform(-0.1, 0.1, 3), 0, 1)


def occluder(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [H, W]: a half plane (three times of four) or a disc that hides 5 to 30 % of the
    mask."""
    size = len(mask)
    y, x = np.mgrid[:size, :size]
    inside = np.stack([x[mask], y[mask]], axis=1)
    if not len(inside):
        return np.zeros_like(mask)
    share = rng.uniform(0.05, 0.3)
    if rng.random() < 0.75:
        angle = rng.choice(4) * np.pi / 2 + (rng.normal() * 0.3 if rng.random() < 0.3 else 0)
        along = np.array([np.cos(angle), np.sin(angle)])
        return x * along[0] + y * along[1] < np.quantile(inside @ along, share)
    centre = inside[rng.integers(len(inside))]
    distance = np.hypot(x - centre[0], y - centre[1])
    return distance < np.quantile(distance[mask], share)


def segmented(visible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [H, W]: the outline moved by smooth noise of a few pixels."""
    inside = ndimage.distance_transform_edt(visible) - ndimage.distance_transform_edt(~visible)
    noise = ndimage.gaussian_filter(rng.normal(size=visible.shape), rng.uniform(3, 10))
    noise *= rng.uniform(0.5, 2.0) / noise.std() * len(visible) / 512
    out = ndimage.gaussian_filter(inside, 1.5) + noise + rng.normal() > 0
    return out.astype(np.float32)
