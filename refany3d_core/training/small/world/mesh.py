"""Procedural assets as triangle meshes, so that they can be loaded like any other asset."""

from __future__ import annotations

import numpy as np
import torch

from . import textures
from .assets import BOX, ELLIPSOID, EMPTY, FRUSTUM, TORUS, AssetTable

_GRID = 28
"""Cells of a side of every patch: the texture is sampled at their corners."""


def _grid(u_range: tuple[float, float], v_range: tuple[float, float]) -> tuple:
    u, v = np.meshgrid(
        np.linspace(*u_range, _GRID + 1), np.linspace(*v_range, _GRID + 1), indexing="ij"
    )
    return u.ravel(), v.ravel()


def _patches(solid: int, shape: float) -> list[np.ndarray]:
    """Vertices [(_GRID + 1)^2, 3] of the patches of a unit shape in its local frame (see
    `solids`)."""
    turn = (0.0, 2 * np.pi)
    if solid == ELLIPSOID:
        a, b = _grid(turn, (-np.pi / 2, np.pi / 2))
        return [np.stack([np.cos(b) * np.sin(a), np.sin(b), np.cos(b) * np.cos(a)], 1)]
    if solid == BOX:
        u, v = _grid((-1, 1), (-1, 1))
        one = np.ones_like(u)
        faces = []
        for axis in range(3):
            for sign in (1, -1):
                face = np.empty((len(u), 3))
                face[:, axis], face[:, (axis + 1) % 3], face[:, (axis + 2) % 3] = sign * one, u, v
                faces.append(face)
        return faces
    if solid == FRUSTUM:
        a, y = _grid(turn, (-1, 1))
        radius = (1 + shape) / 2 - (1 - shape) / 2 * y
        side = np.stack([radius * np.sin(a), y, radius * np.cos(a)], 1)
        a, r = _grid(turn, (0, 1))
        caps = [
            np.stack([s * r * np.sin(a), np.full_like(a, h), s * r * np.cos(a)], 1)
            for h, s in ((-1.0, 1.0), (1.0, shape))
        ]
        return [side, *caps]
    ring, tube = 1 / (1 + shape), shape / (1 + shape)
    a, b = _grid(turn, turn)
    radius = ring + tube * np.cos(b)
    return [np.stack([radius * np.sin(a), tube * np.sin(b), radius * np.cos(a)], 1)]


def asset_mesh(assets: AssetTable, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One asset as (vertices float32 [V, 3], faces int64 [F, 3], colours uint8 [V, 3]).

    Vertices are in the canonical frame; solids overlap as they do in the ray caster. Faces have no
    consistent side: draw both.
    """
    corner = np.arange(_GRID * (_GRID + 1)).reshape(_GRID, _GRID + 1)[:, :-1].ravel()
    quads = np.stack([corner, corner + _GRID + 1, corner + _GRID + 2, corner + 1], 1)
    triangles = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
    vertices, faces, colours, count = [], [], [], 0
    for slot in np.flatnonzero(assets.solid[row] != EMPTY):
        solid, half = int(assets.solid[row, slot]), assets.half[row, slot]
        size = np.full(3, half.max()) if solid == TORUS else half
        order = (assets.axis[row, slot] + np.array([2, 0, 1])) % 3
        texture = torch.from_numpy(assets.texture[row, slot])
        for local in _patches(solid, float(assets.shape[row, slot])):
            world = np.empty_like(local)
            world[:, order] = local
            world = (world * size + assets.centre[row, slot]).astype(np.float32)
            colour = textures.colour(texture, torch.from_numpy(world))
            vertices.append(world)
            faces.append(triangles + count)
            colours.append((colour * 255).round().to(torch.uint8).numpy())
            count += len(world)
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(colours)


def asset_glb(assets: AssetTable, row: int) -> bytes:
    """One asset as a GLB file with vertex colours."""
    import trimesh

    vertices, faces, colours = asset_mesh(assets, row)
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False)
    return mesh.export(file_type="glb")
