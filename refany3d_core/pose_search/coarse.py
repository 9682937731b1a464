"""Where to start: the asset rendered from all around, laid on the mask by correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from ..asset.cameras import Camera, orbit_pose
from ..asset.model import Asset
from ..asset.render import render
from ..pointmap.pnp import Pose
from .picture import Level, Picture

GRID = 64
SPAN = 46
"""Pixels of the grid that the asset's box spans from corner to corner."""
ONE_COLOR = 0.02
SCALE_STEP = 1.08
HIDDEN_SHARES = (0.0, 0.14, 0.27)
"""Parts of the object that may be hidden: each gives the size at which mask and render have one
area."""
OUTSIDE_PRICE = 0.5
"""Of a rendered pixel off the mask, which something may hide, by one of the mask left bare."""


@dataclass(frozen=True, eq=False)
class Templates:
    """The asset from V viewpoints, on a grid of GRID pixels.

    Attributes:
        masks: bool [V, GRID, GRID].
        colors: float32 [V, GRID, GRID, 3], 0 off the mask.
        rotations: float64 [V, 3, 3], object to camera, x right, y down, z forward.
        focal: grid pixels.
        distance: of the camera.
    """

    masks: np.ndarray
    colors: np.ndarray
    rotations: np.ndarray
    focal: float
    distance: float

    @property
    def colored(self) -> bool:
        """Whether the asset has more than one colour: else its render says nothing of the
        picture's colours (a shape from a generator without texture)."""
        return float(self.colors[self.masks].std(0).max()) > ONE_COLOR


def viewpoints(pitches: tuple[float, ...], step: float) -> list[tuple[float, float]]:
    """Azimuth and pitch in degrees, about `step` apart on each circle, and no more than twice that
    from above, where turning the object is turning the picture."""
    out = []
    for row, pitch in enumerate(pitches):
        count = round(360 / step * max(np.cos(np.radians(pitch)), 0.5))
        out += [((i + row % 2 / 2) * 360 / count, pitch) for i in range(count)]
    return out


def make_templates(
    asset: Asset, distance: float, views: list[tuple[float, float]], rolls: tuple[float, ...]
) -> Templates:
    """Render the viewpoints once and turn each picture by the rolls (degrees)."""
    radius = float(np.linalg.norm(asset.extent) / 2 * asset.scale)
    distance = max(distance, 1.3 * radius)
    focal = SPAN / 2 / radius * (distance**2 - radius**2) ** 0.5
    fov = float(np.degrees(2 * np.arctan(GRID / 2 / focal)))
    masks, colors, rotations = [], [], []
    y, x = np.mgrid[:GRID, :GRID] + 0.5 - GRID / 2
    for azimuth, pitch in views:
        pose = orbit_pose(azimuth, pitch, distance)
        view = render(asset, Camera(pose, fov, GRID, GRID))
        rotation = (pose[:3, :3] * (1, -1, -1)).T
        color = np.where(view.mask[..., None], view.color, 0)
        for roll in rolls:
            a = np.radians(roll)
            turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
            column = (np.cos(a) * x + np.sin(a) * y + GRID / 2).astype(int).clip(0, GRID - 1)
            row = (np.cos(a) * y - np.sin(a) * x + GRID / 2).astype(int).clip(0, GRID - 1)
            masks.append(view.mask[row, column])
            colors.append(color[row, column])
            rotations.append(turn @ rotation)
    return Templates(
        np.stack(masks), np.stack(colors), np.stack(rotations), float(focal), float(distance)
    )


@dataclass(frozen=True, eq=False)
class Start:
    """A pose to refine, and how well it lies: lower is better."""

    pose: Pose
    cost: float


def place(picture: Picture, templates: Templates, focal: float, color_price: float) -> list[Start]:
    """The best place and size of every template on the mask, best first."""
    areas = templates.masks.sum((1, 2)).astype(np.float64)
    pixels = picture.level(GRID)
    # Grid pixels for one of the picture's, at which mask and render have the same area.
    mask_area = pixels.mask.sum() / pixels.scale**2
    wanted = np.sqrt(areas[:, None] * (1 - np.array(HIDDEN_SHARES)) / mask_area)
    steps = np.unique(np.round(np.log(wanted) / np.log(SCALE_STEP)).astype(int))
    spectrum = np.conj(fft.rfft2(templates.masks.astype(np.float32)))
    found = []
    for step in steps:
        scale = SCALE_STEP**step
        which = np.flatnonzero(
            (np.round(np.log(wanted) / np.log(SCALE_STEP)).astype(int) == step).any(1)
        )
        level = picture.cropped(picture.centre, GRID / scale, GRID)
        mask = fft.rfft2(level.mask.astype(np.float32))
        both = fft.irfft2(mask * spectrum[which], s=(GRID, GRID))
        known = areas[which, None, None]
        if not level.known.all():
            frame = fft.rfft2(level.known.astype(np.float32))
            known = fft.irfft2(frame * spectrum[which], s=(GRID, GRID))
        overlap = both / (level.mask.sum() + OUTSIDE_PRICE * (known - both))
        flat = overlap.reshape(len(which), -1)
        best = flat.argmax(1)
        dy, dx = np.divmod(best, GRID)
        dy, dx = (dy + GRID // 2) % GRID - GRID // 2, (dx + GRID // 2) % GRID - GRID // 2
        value = flat[np.arange(len(which)), best]
        found += [
            (float(v), int(w), float(scale), int(a), int(b), level)
            for v, w, a, b in zip(value, which, dx, dy)
        ]
    found.sort(key=lambda f: -f[0])
    starts = []
    for value, index, scale, dx, dy, level in found[: max(240, len(found) // 4)]:
        cost = 1 - value + color_price * _color_misfit(templates, index, dx, dy, level)
        starts.append(Start(_pose(picture, templates, index, scale, dx, dy, focal), cost))
    return sorted(starts, key=lambda s: s.cost)


def _color_misfit(templates: Templates, index: int, dx: int, dy: int, level: Level) -> float:
    """Root mean square of the colours' difference after one gain a channel, 0..1."""
    rows, columns = np.nonzero(templates.masks[index])
    y, x = rows + dy, columns + dx
    inside = (y >= 0) & (x >= 0) & (y < GRID) & (x < GRID)
    y, x, rows, columns = y[inside], x[inside], rows[inside], columns[inside]
    on = level.inner[y, x]
    seen, drawn = level.color[y[on], x[on]], templates.colors[index, rows[on], columns[on]]
    if len(seen) < 8:
        return 0.5
    gain = (seen * drawn).sum(0) / np.maximum((drawn * drawn).sum(0), 1e-6)
    middle = np.median(gain)
    gain = np.clip(gain, middle / 1.5, middle * 1.5)
    return float(np.sqrt(np.minimum((seen - gain * drawn) ** 2, 0.09).mean()))


def _pose(
    picture: Picture, templates: Templates, index: int, scale: float, dx: int, dy: int, focal: float
) -> Pose:
    # The template looks along its own axis at the asset's middle; turn it to the pixel it lies on.
    pixel = picture.centre + np.array([dx, dy]) / scale
    ray = picture.ray(pixel, focal)
    distance = templates.distance * focal * scale / templates.focal
    return Pose(toward(ray) @ templates.rotations[index], distance * ray, focal)


def toward(ray: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] that takes the optical axis to a ray, without a turn about it."""
    axis = np.cross((0, 0, 1.0), ray)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + ray[2])
