"""Scenes: a floor, a backdrop, a camera, and the caption that describes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from .solids import Hits

FIELD_OF_VIEW = math.radians(45)
"""The published camera's vertical field of view (METHOD fact 37)."""
VIEW_RADIUS = 4.0
"""The published distance of the reference cameras."""


def _noise(p: Tensor, frequency: float) -> Tensor:
    """Smooth noise in about -1..1 over [..., 2]: a few incommensurate waves."""
    x, y = p[..., 0] * frequency, p[..., 1] * frequency
    return (
        torch.sin(x + 1.7 * torch.sin(1.3 * y)) * torch.sin(1.1 * y + 1.9 * torch.sin(0.7 * x))
        + 0.5 * torch.sin(2.3 * x + 1.9 * y) * torch.sin(2.9 * y - 1.3 * x)
    ) / 1.5


def _mix(a: tuple, b: tuple, share: Tensor) -> Tensor:
    low, high = (torch.tensor(c, dtype=share.dtype, device=share.device) for c in (a, b))
    return low + (high - low) * share.clamp(0, 1)[..., None]


def _lines(x: Tensor, width: float = 0.06) -> Tensor:
    """1 on the integer lines of x, else 0, with soft edges."""
    d = (x - x.round()).abs()
    return ((width - d) * 40 + 0.5).clamp(0, 1)


def _step(x: Tensor) -> Tensor:
    return (12 * x).sigmoid()


# Floors: over ground coordinates [..., 2] in units of half the asset.
def _grass(p: Tensor) -> Tensor:
    return _mix((0.16, 0.42, 0.10), (0.40, 0.68, 0.22), 0.5 + 0.4 * _noise(p, 7))


def _sand(p: Tensor) -> Tensor:
    return _mix(
        (0.78, 0.66, 0.44), (0.93, 0.84, 0.62), 0.5 + 0.5 * torch.sin(6 * p[..., 0] + _noise(p, 2))
    )


def _snow(p: Tensor) -> Tensor:
    return _mix((0.80, 0.86, 0.95), (0.97, 0.98, 1.0), 0.6 + 0.4 * _noise(p, 2))


def _water(p: Tensor) -> Tensor:
    return _mix(
        (0.05, 0.27, 0.52),
        (0.25, 0.58, 0.80),
        0.5 + 0.5 * torch.sin(5 * p[..., 1] + 2 * _noise(p, 2)),
    )


def _planks(p: Tensor) -> Tensor:
    board = torch.sin(p[..., 0].mul(1.6).round() * 12.9)
    wood = _mix((0.42, 0.26, 0.13), (0.68, 0.46, 0.25), 0.5 + 0.4 * board)
    return wood * (1 - 0.6 * _lines(p[..., 0] * 1.6 + 0.5))[..., None]


def _tiles(p: Tensor) -> Tensor:
    checks = torch.sin(math.pi * p[..., 0]) * torch.sin(math.pi * p[..., 1])
    return _mix((0.12, 0.12, 0.14), (0.92, 0.92, 0.90), _step(checks))


def _carpet(p: Tensor) -> Tensor:
    dots = torch.cos(4 * p[..., 0]) + torch.cos(4 * p[..., 1]) - 1.2
    return _mix((0.62, 0.08, 0.12), (0.90, 0.70, 0.30), _step(dots))


def _road(p: Tensor) -> Tensor:
    asphalt = _mix((0.30, 0.30, 0.32), (0.42, 0.42, 0.44), 0.5 + 0.4 * _noise(p, 9))
    return asphalt + (0.95 - asphalt) * _step(0.15 - (p[..., 0] - 1.6).abs())[..., None]


# Backdrops: over (angle to the side, height above the horizon), both about -0.6..0.6.
def _blue_sky(p: Tensor) -> Tensor:
    return _mix((0.72, 0.86, 0.98), (0.22, 0.50, 0.90), p[..., 1] * 2)


def _sunset(p: Tensor) -> Tensor:
    return _mix((1.0, 0.72, 0.30), (0.55, 0.18, 0.42), p[..., 1] * 2.2)


def _night(p: Tensor) -> Tensor:
    stars = torch.sin(41 * p[..., 0] + 3 * torch.sin(17 * p[..., 1])) * torch.sin(
        47 * p[..., 1] + 3 * torch.sin(19 * p[..., 0])
    )
    return _mix((0.03, 0.04, 0.14), (1, 1, 0.9), _step(stars - 0.93) * 0.9)


def _clouds(p: Tensor) -> Tensor:
    return _mix(
        (0.48, 0.58, 0.70), (0.92, 0.93, 0.95), _step(0.3 * _noise(p * p.new_tensor([1, 2.2]), 7))
    )


def _bricks(p: Tensor) -> Tensor:
    row = p[..., 1] * 9
    column = p[..., 0] * 5 + 0.5 * (row.floor() % 2)
    mortar = torch.maximum(_lines(row, 0.08), _lines(column, 0.05))
    return _mix((0.60, 0.25, 0.18), (0.80, 0.75, 0.70), mortar)


def _forest(p: Tensor) -> Tensor:
    trunks = torch.sin(19 * p[..., 0] + 2 * torch.sin(7 * p[..., 0]))
    leaves = _mix((0.05, 0.20, 0.08), (0.22, 0.45, 0.16), 0.5 + 0.5 * _noise(p, 16))
    return leaves * (1 - 0.5 * _step(trunks - 0.8))[..., None]


def _pink_wall(p: Tensor) -> Tensor:
    return _mix((0.93, 0.62, 0.70), (0.97, 0.74, 0.80), p[..., 1] * 2)


def _mountains(p: Tensor) -> Tensor:
    ridge = 0.22 + 0.07 * torch.sin(9 * p[..., 0]) + 0.05 * torch.sin(23 * p[..., 0] + 1)
    rock = _mix((0.30, 0.33, 0.42), (0.92, 0.94, 0.98), (p[..., 1] - ridge) * 8 + 1.2)
    sky = _mix((0.80, 0.88, 0.95), (0.45, 0.65, 0.90), p[..., 1] * 2)
    return rock + (sky - rock) * _step(3 * (p[..., 1] - ridge))[..., None]


Material = tuple[str, Callable[[Tensor], Tensor]]
FLOORS: tuple[Material, ...] = (
    ("grass", _grass),
    ("sand", _sand),
    ("snow", _snow),
    ("water", _water),
    ("wooden planks", _planks),
    ("checkered tiles", _tiles),
    ("a red carpet", _carpet),
    ("a road", _road),
)
BACKDROPS: tuple[Material, ...] = (
    ("a blue sky", _blue_sky),
    ("an orange sunset", _sunset),
    ("a starry night", _night),
    ("a cloudy sky", _clouds),
    ("a brick wall", _bricks),
    ("a green forest", _forest),
    ("a pink wall", _pink_wall),
    ("snowy mountains", _mountains),
)
TEMPLATES = (
    "a {kind} on {floor} in front of {backdrop}",
    "a photo of a {kind} on {floor}, with {backdrop} behind it",
    "{backdrop} behind a {kind} standing on {floor}",
)
MAP_TEMPLATE = "a point map of a {kind}"


@dataclass(frozen=True)
class SceneTable:
    """Parameters of N scenes as arrays, one row a scene, each belonging to one asset.

    Attributes:
        floor: int64 [N], index into FLOORS.
        backdrop: int64 [N], index into BACKDROPS.
        template: int64 [N], index into TEMPLATES.
        azimuth, pitch, roll: float32 [N], radians; azimuth and pitch as METHOD fact 37.
        distance: float32 [N], eye to the point looked at.
        shift: float32 [N, 2], the picture's centre from the asset's centre, in units of half the
            picture: right and up.
        turn: float32 [N], radians, the floor's orientation.
    """

    floor: np.ndarray
    backdrop: np.ndarray
    template: np.ndarray
    azimuth: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    distance: np.ndarray
    shift: np.ndarray
    turn: np.ndarray

    def __len__(self) -> int:
        return len(self.floor)

    def __getitem__(self, rows: slice | np.ndarray) -> SceneTable:
        return SceneTable(*(getattr(self, f.name)[rows] for f in fields(self)))

    def captions(self, kinds: list[str]) -> list[str]:
        """One caption a scene, of the kind of asset in it."""
        return [
            TEMPLATES[t].format(kind=kind, floor=FLOORS[f][0], backdrop=BACKDROPS[b][0])
            for kind, t, f, b in zip(kinds, self.template, self.floor, self.backdrop)
        ]


def random_scenes(rng: np.random.Generator, count: int) -> SceneTable:
    """Random scenes: any side of the asset, seen from slightly below to well above."""
    u = lambda low, high, *shape: rng.uniform(low, high, (count, *shape)).astype(np.float32)
    return SceneTable(
        floor=rng.integers(len(FLOORS), size=count),
        backdrop=rng.integers(len(BACKDROPS), size=count),
        template=rng.integers(len(TEMPLATES), size=count),
        azimuth=u(0, 2 * math.pi),
        pitch=u(math.radians(0), math.radians(32)),
        roll=u(-math.radians(4), math.radians(4)),
        distance=u(2.7, 3.7),
        shift=u(-0.12, 0.12, 2),
        turn=u(-0.5, 0.5),
    )


def orbit(eye_azimuth: Tensor, pitch: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Eye [..., 3] and camera axes [..., 3, 3] (rows: right, up, backward) looking at the origin.

    METHOD fact 37: eye = r (cos p cos a, sin p, cos p sin a), up +Y.
    """
    backward = torch.stack(
        [pitch.cos() * eye_azimuth.cos(), pitch.sin(), pitch.cos() * eye_azimuth.sin()], -1
    )
    up = torch.zeros_like(backward)
    up[..., 1] = 1
    right = torch.nn.functional.normalize(torch.linalg.cross(up, backward, dim=-1), dim=-1)
    return backward * radius[..., None], torch.stack(
        [right, torch.linalg.cross(backward, right, dim=-1), backward], -2
    )


def pixel_rays(axes: Tensor, resolution: int, shift: Tensor | None = None) -> Tensor:
    """Ray directions [N, resolution^2, 3] through the pixels' centres, first row on top.

    Args:
        axes: camera axes [N, 3, 3].
        resolution: pixels of a side.
        shift: [N, 2], how far the asset lies right of and above the picture's centre, half
            pictures.
    """
    ndc = (torch.arange(resolution, device=axes.device) + 0.5) * 2 / resolution - 1
    plane = torch.stack(torch.meshgrid(-ndc, ndc, indexing="ij"), -1).flip(-1).reshape(1, -1, 2)
    if shift is not None:
        plane = plane - shift[:, None]
    plane = plane * math.tan(FIELD_OF_VIEW / 2)
    # sums, not a matrix product: that would be rounded under autocast or TF32
    right, up, backward = axes[:, None].unbind(-2)
    return plane[..., :1] * right + plane[..., 1:] * up - backward


class Camera:
    """The cameras of a scene table on a device.

    Attributes:
        eye: [N, 1, 3].
        axes: [N, 3, 3], rows right, up, backward.
        direction: rays [N, resolution^2, 3].
        forward: [N, 3].
    """

    def __init__(self, scenes: SceneTable, resolution: int, device: torch.device | str) -> None:
        put = lambda x: torch.from_numpy(x).to(device, non_blocking=True)
        eye, axes = orbit(put(scenes.azimuth), put(scenes.pitch), put(scenes.distance))
        roll = put(scenes.roll)[:, None]
        right, up = axes[:, 0], axes[:, 1]
        turned = [roll.cos() * right + roll.sin() * up, roll.cos() * up - roll.sin() * right]
        self.axes = axes = torch.stack([*turned, axes[:, 2]], 1)
        self.eye = eye[:, None]
        self.direction = pixel_rays(axes, resolution, put(scenes.shift))
        self.forward = -axes[:, 2]


def background(scenes: SceneTable, extent: Tensor, camera: Camera) -> Tensor:
    """Floor and backdrop along the camera's rays, RGB in 0..1, [N, R, 3].

    Args:
        scenes: N scenes.
        extent: half the sides of the assets' boxes [N, 3]: they stand on the floor.
        camera: the scenes' cameras.
    """
    device = camera.direction.device
    d = torch.nn.functional.normalize(camera.direction, dim=-1)
    ground = -extent[:, None, 1]
    t = (ground - camera.eye[..., 1]) / torch.where(d[..., 1] < -1e-4, d[..., 1], -1e-4)
    hit = camera.eye + t[..., None] * d
    turn = torch.from_numpy(scenes.turn).to(device)[:, None]
    turn = turn + torch.atan2(camera.forward[:, 2], camera.forward[:, 0])[:, None]
    x, z = hit[..., 0], hit[..., 2]
    flat = torch.stack([x * turn.cos() + z * turn.sin(), z * turn.cos() - x * turn.sin()], -1)
    side = (
        torch.atan2(d[..., 2], d[..., 0])
        - torch.atan2(camera.forward[:, 2], camera.forward[:, 0])[:, None]
    )
    side = torch.remainder(side + math.pi, 2 * math.pi) - math.pi
    wall = torch.stack([side, d[..., 1]], -1)
    floor_colour, wall_colour = torch.zeros_like(d), torch.zeros_like(d)
    for kinds, materials, out, p in (
        (scenes.floor, FLOORS, floor_colour, flat),
        (scenes.backdrop, BACKDROPS, wall_colour, wall),
    ):
        for i, (_, material) in enumerate(materials):
            rows = (kinds == i).nonzero()[0]
            if len(rows):
                rows = torch.from_numpy(rows).to(device)
                out[rows] = material(p[rows])
    reach = ((hit - camera.eye) ** 2).sum(-1).sqrt()
    fade = ((reach - 6) / 14).clamp(0, 1)[
        ..., None
    ]  # far floor turns plain, so that it does not alias
    mean = floor_colour.mean(1, keepdim=True)
    floor_colour = floor_colour + (mean - floor_colour) * fade
    spread = extent[:, None, [0, 2]].clamp_min(0.3)
    near = ((torch.stack([x, z], -1) / spread) ** 2).sum(-1)
    floor_colour = floor_colour * (1 - 0.5 * torch.exp(-1.2 * near))[..., None]
    return torch.where((d[..., 1] < 0)[..., None], floor_colour, wall_colour).clamp(0, 1)


def shade(hits: Hits) -> Tensor:
    """The asset's colours under a soft light from above: 0.8 to 1 times the unlit colour."""
    light = hits.normal[..., 1] * 0.5 + 0.5
    return hits.colour * (0.8 + 0.2 * light)[..., None]
