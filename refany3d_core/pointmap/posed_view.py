"""The point map of a chosen camera, and cameras that see nothing of use."""

from __future__ import annotations

import numpy as np

from ..asset.cameras import NEAR, Camera, orbit_pose
from ..asset.model import Asset
from ..asset.render import View, render

PROBE_PIXELS = 24
"""Pixels a side of each of the six pictures that look around from the camera's place."""
ENCLOSED = 0.95
"""A camera that sees the asset in more than this part of all directions is inside it."""
MIN_SUBJECT = 0.001
"""Of the picture: the point map of a smaller subject says nothing to the model."""


INSIDE = (
    "the camera is inside the asset, or touches it; raise the distance (the asset's longest side "
    "is 2)"
)


def orbit_camera(
    azimuth: float,
    pitch: float,
    distance: float,
    roll: float,
    shift: tuple[float, float],
    fov: float,
    width: int,
    height: int,
) -> Camera:
    """A camera on an orbit around the asset's middle.

    Args:
        azimuth: degrees, 0 on +X, 90 on +Z (METHOD fact 37).
        pitch: degrees above the horizon.
        distance: from the asset's middle; its longest side is 2.
        roll: degrees by which the asset turns clockwise in the picture.
        shift: by how much the asset moves right and up, as parts of the picture's width and height;
            the perspective stays, as with a shift lens.
        fov: vertical field of view, degrees.
        width, height: pixels.
    """
    pose = orbit_pose(azimuth, pitch, distance)
    a = np.radians(roll)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    pose[:3, :3] = pose[:3, :3] @ turn
    return Camera(pose, fov, width, height, (shift[0] * width, -shift[1] * height))


def render_pose(asset: Asset, camera: Camera) -> View:
    """The asset from a camera that sees it.

    Raises:
        ValueError: the camera is inside the asset, or sees nothing or next to nothing of it.
    """
    if enclosed(asset, camera.eye):
        raise ValueError(INSIDE)
    view = render(asset, camera)
    seen = view.mask.mean()
    if not seen:
        raise ValueError(
            "the camera looks away from the asset and sees nothing of it; turn it towards the "
            "asset, or lower the shift"
        )
    if seen < MIN_SUBJECT:
        raise ValueError(
            f"the asset covers only {view.mask.sum()} pixels of the picture; lower the distance or "
            "the field of view"
        )
    return view


def enclosed(asset: Asset, eye: np.ndarray) -> bool:
    """Whether a place is inside the asset: it is seen in nearly all directions, or is as near as
    the camera's near plane."""
    if (np.abs(eye) > asset.extent / 2 * asset.scale + NEAR).any():
        return False
    hit, nearest = [], np.inf
    for azimuth, pitch in ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)):
        pose = orbit_pose(azimuth, pitch)
        pose[:3, 3] = eye
        camera = Camera(pose, 90.0, PROBE_PIXELS, PROBE_PIXELS)
        view = render(asset, camera)
        hit.append(view.mask.mean())
        if view.mask.any():
            nearest = min(nearest, float(view.depth[view.mask].min()))
    return bool(np.mean(hit) > ENCLOSED or nearest < NEAR / 2)
