"""Pictures of the procedural world: reference views and target triplets, exact by construction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .assets import AssetTable
from .scenes import VIEW_RADIUS, Camera, SceneTable, background, orbit, pixel_rays, shade
from .solids import Solids


@dataclass(frozen=True)
class Pictures:
    """Pictures and their point maps.

    Attributes:
        rgb: uint8 [..., 3, H, W].
        point_map: uint8 [..., 3, H, W], white off the asset.
        mask: bool [..., H, W].
    """

    rgb: Tensor
    point_map: Tensor
    mask: Tensor


def _image(values: Tensor, resolution: int) -> Tensor:
    """[..., R, 3] in 0..1 to uint8 [..., 3, H, W], truncated as published (METHOD fact 40)."""
    image = (values * 255).to(torch.uint8).unflatten(-2, (resolution, resolution))
    return image.movedim(-1, -3)


@torch.no_grad()
def render_views(
    assets: AssetTable, views: int, resolution: int, device: torch.device | str
) -> Pictures:
    """Reference views of N assets: unlit, white background, the published orbit.

    Args:
        assets: N assets.
        views: n, at azimuths of frames i * (60 // n) of 60 (METHOD fact 36), pitch 0, radius 4.
        resolution: pixels of a side.
        device: where to render.

    Returns:
        Pictures [N, n, ...].
    """
    solids = Solids(assets, device)
    azimuth = torch.tensor(
        [i * max(60 // views, 1) / 60 * 2 * math.pi for i in range(views)], device=device
    )
    eye, axes = orbit(azimuth, torch.zeros_like(azimuth), torch.full_like(azimuth, VIEW_RADIUS))
    rays = pixel_rays(axes, resolution)
    out = []
    for i in range(views):
        hits = solids.cast(eye[i].expand(len(assets), 1, 3), rays[i].expand(len(assets), -1, -1))
        rgb = torch.where(hits.mask[..., None], hits.colour, 1.0)
        maps = solids.point_map(hits)
        out.append(
            (
                _image(rgb, resolution),
                _image(maps, resolution),
                hits.mask.unflatten(-1, (resolution, resolution)),
            )
        )
    return Pictures(*(torch.stack(x, 1) for x in zip(*out)))


@torch.no_grad()
def render_targets(
    assets: AssetTable, scenes: SceneTable, resolution: int, device: torch.device | str
) -> Pictures:
    """Asset i in scene i: Pictures [N, ...]."""
    solids = Solids(assets, device)
    camera = Camera(scenes, resolution, device)
    hits = solids.cast(camera.eye, camera.direction)
    behind = background(scenes, solids.extent, camera)
    rgb = torch.where(hits.mask[..., None], shade(hits), behind)
    return Pictures(
        _image(rgb, resolution),
        _image(solids.point_map(hits), resolution),
        hits.mask.unflatten(-1, (resolution, resolution)),
    )
