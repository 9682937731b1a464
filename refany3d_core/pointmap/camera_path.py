"""Many cameras of one asset: from lists, along a path, or out of a transforms.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.views import RenderedViews
from .camera import file_matrix
from .posed_view import orbit_camera, render_pose

MAX_CAMERAS = 512
"""More are refused: their pictures are held in memory together."""

Pose = tuple[float, float, float]
"""Azimuth and pitch in degrees, and distance."""


def numbers(name: str, text: str) -> list[float]:
    """The numbers of a list separated by commas.

    Raises:
        ValueError: none, or something else than finite numbers.
    """
    try:
        found = [float(entry) for entry in text.replace(";", ",").split(",") if entry.strip()]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(value) for value in found):
        raise ValueError(f"{name} is {text[:80]!r}; write numbers separated by commas: 0, 90, 180")
    return found


def key_poses(azimuths: list[float], pitches: list[float], distances: list[float]) -> list[Pose]:
    """One pose for each entry of the longest list; a list of one serves them all.

    Raises:
        ValueError: lists of several lengths.
    """
    lists = {"azimuths": azimuths, "pitches": pitches, "distances": distances}
    count = max(len(values) for values in lists.values())
    for name, values in lists.items():
        if len(values) not in (1, count):
            raise ValueError(
                f"{name} has {len(values)} entries, the longest list {count}; give one for all, or "
                f"{count}"
            )
    a, p, d = (values * count if len(values) == 1 else values for values in lists.values())
    return list(zip(a, p, d))


def along(keys: list[Pose], frames: int) -> list[Pose]:
    """`frames` poses evenly spread over the straight ways from key to key, both ends among them.

    Raises:
        ValueError: there is one key only, or one frame.
    """
    if len(keys) < 2 or frames < 2:
        raise ValueError(
            f"frames is {frames} over {len(keys)} key cameras; a path needs two of each: give "
            "several azimuths, pitches or distances, or set frames to 0"
        )
    at = np.linspace(0, len(keys) - 1, frames)
    columns = (np.interp(at, range(len(keys)), values) for values in zip(*keys))
    return [(float(a), float(p), float(d)) for a, p, d in zip(*columns)]


def orbit_cameras(poses: Sequence[Pose], fov: float, width: int, height: int) -> list[Camera]:
    """The cameras of orbit poses, see `posed_view.orbit_camera`."""
    return [orbit_camera(a, p, d, 0.0, (0.0, 0.0), fov, width, height) for a, p, d in poses]


def render_path(
    asset: Asset,
    cameras: Sequence[Camera],
    progress: Callable[[int, int], None] | None = None,
) -> RenderedViews:
    """The asset from every camera.

    Args:
        asset: what is seen.
        cameras: of one size.
        progress: called as progress(done, total) before each; may raise.

    Raises:
        ValueError: there are too many, or one does not see the asset; says which.
    """
    if len(cameras) > MAX_CAMERAS:
        raise ValueError(f"there are {len(cameras)} cameras, the limit is {MAX_CAMERAS}; take less")
    views = []
    for i, camera in enumerate(cameras):
        if progress:
            progress(i, len(cameras))
        try:
            views.append(render_pose(asset, camera))
        except ValueError as error:
            raise ValueError(f"camera {i} of {len(cameras)}: {error}") from error
    return RenderedViews(
        colors=np.stack([view.color for view in views]),
        point_maps=np.stack([view.point_map for view in views]),
        masks=np.stack([view.mask for view in views]).astype(np.float32),
        depth=np.stack([view.depth for view in views]),
        normals=np.stack([view.normal for view in views]),
        cameras=tuple(cameras),
        azimuths=(),
        backend="",
        warnings=tuple(asset.warnings),
    )


def transforms_json(cameras: Sequence[Camera], asset: Asset) -> str:
    """The cameras as a transforms.json of NeRF tools: width, height, focal lengths and principal
    point in pixels; a frame each, camera to world in the mesh file's units and axes (Y up), the
    camera looking along its -Z with Y up.

    Cameras of one size. The lens is each frame's own.
    """
    frames = []
    for i, camera in enumerate(cameras):
        cx, cy = camera.principal_point
        frames.append(
            {
                "file_path": f"images/{i:04d}.png",
                "fl_x": camera.focal,
                "fl_y": camera.focal,
                "cx": cx,
                "cy": cy,
                "transform_matrix": file_matrix(camera, asset).tolist(),
            }
        )
    size = {"w": cameras[0].width, "h": cameras[0].height}
    return json.dumps({"camera_model": "PINHOLE", **size, "frames": frames}, indent=1)


def cameras_from_transforms(text: str, asset: Asset, width: int, height: int) -> list[Camera]:
    """The cameras of a transforms.json, for pictures of width x height pixels.

    Where its pictures have other proportions, the height keeps its field of view.

    Args:
        text: as `transforms_json` writes it; lenses as fl_y, fl_x or camera_angle_x (radians), in
            the frame or for all.
        asset: in whose file's units and axes the cameras stand.
        width, height: pixels.

    Raises:
        ValueError: it is no such file, or a number is missing or wrong.
    """
    try:
        document = json.loads(text)
        frames = document["frames"]
        return [_camera({**document, **frame}, asset, width, height) for frame in frames]
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(
            f"'cameras' is not a transforms.json with frames, transform_matrix and a lens ({error}"
            "); connect the cameras of Lock Camera Path, or the text of such a file"
        ) from error


def _camera(values: dict[str, Any], asset: Asset, width: int, height: int) -> Camera:
    matrix = np.asarray(values["transform_matrix"], np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError("a transform_matrix is not 4 x 4 finite numbers")
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise ValueError("a transform_matrix is sheared")
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = (matrix[:3, 3] - asset.centre) * asset.scale
    w, h = float(values.get("w", width)), float(values.get("h", height))
    named = [values[key] for key in ("fl_y", "fl_x") if key in values]
    if named:
        focal = float(named[0])
    else:
        focal = w / 2 / math.tan(float(values["camera_angle_x"]) / 2)
    factor = height / h
    shift = (
        (float(values.get("cx", w / 2)) - w / 2) * factor,
        (float(values.get("cy", h / 2)) - h / 2) * factor,
    )
    fov = math.degrees(2 * math.atan(h / 2 / focal))
    if not 0 < fov < 180:
        raise ValueError("a focal length is not above 0")
    return Camera(pose, fov, width, height, shift)
