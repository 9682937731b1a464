"""Ray casting of procedural assets in batched torch: closed forms, and sphere tracing for the
torus.

Every solid is cast in a local frame in which it is a unit shape: the unit ball, the cube [-1, 1]^3,
a frustum around y with bottom radius 1 at y = -1, a torus around y with outer radius 1. The ray
parameter t is the same in both frames, so distances compare across solids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import textures
from .assets import BOX, ELLIPSOID, FRUSTUM, MAX_PARTS, TORUS, AssetTable

_FAR = 1e9
_TORUS_STEPS = 48
_TORUS_HIT = 4e-3


@dataclass(frozen=True)
class Hits:
    """What rays meet first.

    Attributes:
        mask: bool [B, R], the ray meets the asset.
        position: float32 [B, R, 3], canonical frame; undefined off the mask.
        colour: float32 [B, R, 3], unlit, 0..1.
        normal: float32 [B, R, 3], unit, outward.
    """

    mask: Tensor
    position: Tensor
    colour: Tensor
    normal: Tensor


def _safe(x: Tensor) -> Tensor:
    """x without zeros, for division."""
    return torch.where(x.abs() < 1e-9, torch.full_like(x, 1e-9), x)


def _nearest(ts: list[Tensor], valid: list[Tensor]) -> Tensor:
    far = torch.full_like(ts[0], _FAR)
    out = far
    for t, ok in zip(ts, valid):
        out = torch.minimum(out, torch.where(ok & (t > 0), t, far))
    return out


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Real roots of a t^2 + 2 b t + c, smaller first for a > 0, and where they exist."""
    disc = b * b - a * c
    root = disc.clamp_min(0).sqrt()
    a = _safe(a)
    return (-b - root) / a, (-b + root) / a, disc > 0


def _ball(o: Tensor, d: Tensor, shape: Tensor) -> Tensor:
    near, far, ok = _roots((d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1)
    return _nearest([near], [ok])


def _cube(o: Tensor, d: Tensor, shape: Tensor) -> Tensor:
    d = _safe(d)
    a, b = (-1 - o) / d, (1 - o) / d
    near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
    return _nearest([near], [near <= far])


def _cone(o: Tensor, d: Tensor, shape: Tensor) -> Tensor:
    """Frustum: x^2 + z^2 = (m - k y)^2 with m = (1 + top) / 2, k = (1 - top) / 2, and two caps."""
    m, k = (1 + shape) / 2, (1 - shape) / 2
    ox, oy, oz = o.unbind(-1)
    dx, dy, dz = d.unbind(-1)
    radius, slope = m - k * oy, -k * dy
    t1, t2, ok = _roots(
        dx * dx + dz * dz - slope * slope,
        ox * dx + oz * dz - radius * slope,
        ox * ox + oz * oz - radius * radius,
    )
    sides = [(t, ok & ((oy + t * dy).abs() <= 1)) for t in (t1, t2)]
    caps = []
    for y, r in ((-1.0, torch.ones_like(shape)), (1.0, shape)):
        t = (y - oy) / _safe(dy)
        x, z = ox + t * dx, oz + t * dz
        caps.append((t, x * x + z * z <= r * r))
    ts, valid = zip(*sides, *caps)
    return _nearest(list(ts), list(valid))


def _torus(o: Tensor, d: Tensor, shape: Tensor) -> Tensor:
    """Sphere tracing of the exact distance, from where the ray enters the bounding ball."""
    speed = _safe((d * d).sum(-1).sqrt())
    near, far, ok = _roots((d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.02)
    t, ring, tube = near, 1 / (1 + shape), shape / (1 + shape)
    distance = torch.ones_like(t)
    for _ in range(_TORUS_STEPS):
        p = o + t[..., None] * d
        distance = torch.hypot(torch.hypot(p[..., 0], p[..., 2]) - ring, p[..., 1]) - tube
        t = torch.minimum(t + distance / speed, far)
    return _nearest([t], [ok & (distance < _TORUS_HIT)])


def _local_normal(solid: int, p: Tensor, shape: Tensor) -> Tensor:
    """Gradient direction of the unit shape at a surface point, not normalised."""
    if solid == ELLIPSOID:
        return p
    if solid == BOX:
        return torch.where(p.abs() == p.abs().amax(-1, keepdim=True), p.sign(), 0)
    if solid == TORUS:
        ring = 1 / (1 + shape)
        radial = torch.hypot(p[..., 0], p[..., 2]).clamp_min(1e-6)
        scale = 1 - ring / radial
        return torch.stack([p[..., 0] * scale, p[..., 1], p[..., 2] * scale], -1)
    k = (1 - shape) / 2
    radius = torch.hypot(p[..., 0], p[..., 2])
    side = torch.stack([p[..., 0], k * radius, p[..., 2]], -1)
    cap = torch.zeros_like(p)
    cap[..., 1] = p[..., 1].sign()
    return torch.where((p[..., 1].abs() > 0.999)[..., None], cap, side)


_CASTS = {ELLIPSOID: _ball, BOX: _cube, FRUSTUM: _cone, TORUS: _torus}


class Solids:
    """A batch of assets on a device, ready to be cast.

    Args:
        table: the assets.
        device: where the tensors live.
    """

    def __init__(self, table: AssetTable, device: torch.device | str = "cpu") -> None:
        self.table = table
        self.count = len(table)
        put = lambda x: torch.from_numpy(x).to(device, non_blocking=True)
        self.centre, self.half = put(table.centre), put(table.half)
        self.shape, self.texture = put(table.shape), put(table.texture)
        self.extent = put(table.extent)
        # Which slots hold which solid is known on the host: no device synchronisation in `cast`.
        self._groups = {
            s: torch.from_numpy((table.solid == s).nonzero()[0]).to(device) for s in _CASTS
        }
        self._slots = {
            s: torch.from_numpy((table.solid == s).nonzero()[1]).to(device) for s in _CASTS
        }
        # local axis j is world axis (axis + j - 1) mod 3: y of the local frame is `axis`
        order = (table.axis[..., None] + [2, 0, 1]) % 3
        self._order = put(order)

    def _to_local(self, solid: int, x: Tensor, point: bool) -> Tensor:
        """World points or directions [B, R, 3] to the local frames of all slots of a kind, [M, R,
        3]."""
        asset, slot = self._groups[solid], self._slots[solid]
        x = x[asset]
        if point:
            x = x - self.centre[asset, slot][:, None]
        x = (
            x / self.half[asset, slot][:, None]
            if solid != TORUS
            else x / self._ring_size(asset, slot)
        )
        order = self._order[asset, slot][:, None].expand(-1, x.shape[1], -1)
        return x.gather(-1, order)

    def _ring_size(self, asset: Tensor, slot: Tensor) -> Tensor:
        return self.half[asset, slot].amax(-1)[:, None, None]

    def _normal(self, solid: int, p: Tensor) -> Tensor:
        """World normals [M, R, 3] at local surface points of all slots of a kind."""
        asset, slot = self._groups[solid], self._slots[solid]
        local = _local_normal(solid, p, self.shape[asset, slot][:, None])
        order = self._order[asset, slot][:, None].expand(-1, p.shape[1], -1)
        world = torch.zeros_like(local).scatter(-1, order, local)
        size = self._ring_size(asset, slot) if solid == TORUS else self.half[asset, slot][:, None]
        return torch.nn.functional.normalize(world / size, dim=-1)

    def cast(self, origin: Tensor, direction: Tensor) -> Hits:
        """Cast rays.

        Args:
            origin: [B, R, 3], or [B, 1, 3] for one eye an asset.
            direction: [B, R, 3], any length.
        """
        origin = origin.expand_as(direction)
        rays = direction.shape[1]
        t = direction.new_full((self.count, MAX_PARTS, rays), _FAR)
        local = {}
        for solid, cast in _CASTS.items():
            asset, slot = self._groups[solid], self._slots[solid]
            if not len(asset):
                continue
            o, d = self._to_local(solid, origin, True), self._to_local(solid, direction, False)
            hit = cast(o, d, self.shape[asset, slot][:, None])
            t[asset, slot] = hit
            local[solid] = o + hit.clamp_max(_FAR)[..., None] * d
        nearest, slot = t.min(1)
        mask = nearest < _FAR
        position = origin + torch.where(mask, nearest, 0)[..., None] * direction
        normals = direction.new_zeros(self.count, MAX_PARTS, rays, 3)
        for solid, p in local.items():
            normals[self._groups[solid], self._slots[solid]] = self._normal(solid, p)
        pick = slot[:, None, :, None].expand(-1, 1, -1, 3)
        normal = normals.gather(1, pick)[:, 0]
        return Hits(mask, position, self._colour(slot, position), normal)

    def _colour(self, slot: Tensor, position: Tensor) -> Tensor:
        size = self.texture.shape[-1]
        texture = self.texture.gather(1, slot[..., None].expand(-1, -1, size))
        return textures.colour(texture, position)

    def nearest_surface(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """About the distance to the surface, and the colour of the nearest solid's texture there.

        Args:
            position: any positions [B, R, 3] in the canonical frame, such as a predicted map's.

        Returns:
            float32 [B, R] in units of half the longest side, and RGB [B, R, 3].
        """
        distance = position.new_full((self.count, MAX_PARTS, position.shape[1]), _FAR)
        for solid in _CASTS:
            asset, slot = self._groups[solid], self._slots[solid]
            if len(asset):
                p = self._to_local(solid, position, True)
                size = self.half[asset, slot].amin(-1)[:, None]
                shape = self.shape[asset, slot][:, None]
                distance[asset, slot] = (_implicit(solid, p, shape) * size).abs()
        nearest, slot = distance.min(1)
        return nearest, self._colour(slot, position)

    def point_map(self, hits: Hits) -> Tensor:
        """Per-axis normalised positions (METHOD fact 38), white off the asset: [B, R, 3] in
        0..1."""
        extent = self.extent[:, None]
        value = (hits.position + extent) / (2 * extent)
        return torch.where(hits.mask[..., None], value.clamp(0, 1), 1.0)

    def to_position(self, point_map: Tensor) -> Tensor:
        """Point-map values [B, R, 3] back to positions in the canonical frame."""
        extent = self.extent[:, None]
        return point_map * 2 * extent - extent


def _implicit(solid: int, p: Tensor, shape: Tensor) -> Tensor:
    """About the distance to the unit shape, zero on its surface."""
    if solid == ELLIPSOID:
        return p.norm(dim=-1) - 1
    if solid == BOX:
        return p.abs().amax(-1) - 1
    radial = torch.hypot(p[..., 0], p[..., 2])
    if solid == TORUS:
        return torch.hypot(radial - 1 / (1 + shape), p[..., 1]) - shape / (1 + shape)
    side = radial - ((1 + shape) / 2 - (1 - shape) / 2 * p[..., 1])
    return torch.maximum(side, p[..., 1].abs() - 1)
