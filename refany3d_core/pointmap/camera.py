"""The camera that a generated picture was taken with, out of its point map."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..asset.cameras import Camera
from ..asset.model import Asset
from ..asset.render import render
from .decode import DecodedMap, decode
from .pnp import SAMPLE_SIZE, Pose, solve_pnp

MIN_PIXELS = 100
"""Confident pixels that a pose needs at least."""
MAX_POINTS = 20_000
"""Points that the refinement looks at, at most."""
TOLERANCES = (0.01, 0.02, 0.04)
"""Reprojection error of an inlier, as a part of the picture's longer side: the first at which the
map agrees on a camera counts. Exact maps agree at the first, a model's blurred ones later."""
MIN_INLIERS = 0.5
"""A smaller part of inliers is no pose: the map contradicts itself."""
ON_SURFACE = 0.06
"""Distance between the map's point and the asset's, as a part of the asset's longest side, up to
which the map is said to lie on the asset."""
MIN_ON_SURFACE = 0.5
"""A smaller part of the map on the asset's visible surface: it is another asset's map."""
MIN_SPREAD = 0.02
"""Of the box: a map whose points lie closer together is one colour."""


@dataclass(frozen=True, eq=False)
class RecoveredCamera:
    """A camera out of a point map.

    Attributes:
        camera: in the asset's normalised frame.
        inlier_ratio: part of the confident pixels that it explains within its tolerance.
        rmse: reprojection error of the inliers, root mean square, pixels.
        on_surface: part of the subject whose point is the one that the camera sees there.
        decoded: the map, in the asset's normalised frame.
    """

    camera: Camera
    inlier_ratio: float
    rmse: float
    on_surface: float
    decoded: DecodedMap

    def depth(self) -> np.ndarray:
        """float32 [H, W], along the optical axis, of the map's points; 0 off the subject."""
        behind = (self.decoded.xyz - self.camera.eye) @ self.camera.pose[:3, 2]
        return np.where(self.decoded.mask, -behind, 0.0).astype(np.float32)

    def depth_picture(self) -> np.ndarray:
        """float32 [H, W, 3] in 0..1: nearest 1, farthest 0.2, background 0."""
        depth, on = self.depth(), self.decoded.mask
        near, far = np.quantile(depth[on], (0.01, 0.99))  # a few stray points set no scale
        grey = 1 - 0.8 * np.clip((depth - near) / max(far - near, 1e-9), 0, 1)
        return np.repeat(np.where(on, grey, 0).astype(np.float32)[..., None], 3, axis=-1)


def normalised_box(asset: Asset) -> np.ndarray:
    """float64 [2, 3], corners of the asset's box in its normalised frame."""
    half = asset.extent * asset.scale / 2
    return np.stack([-half, half])


def recover_camera(
    point_map: np.ndarray, asset: Asset, fov: float | None = None
) -> RecoveredCamera:
    """The camera that sees the asset as the point map says.

    Args:
        point_map: float [H, W, 3] in 0..1, white background.
        asset: whose map it is.
        fov: vertical field of view in degrees, or None to search it.

    Raises:
        ValueError: the map cannot carry a pose, or is not of this asset; says why.
    """
    decoded = decode(point_map, normalised_box(asset))
    points, pixels = _confident_points(decoded, asset)
    height, width = decoded.mask.shape
    for tolerance in TOLERANCES:
        pose, inliers, errors = _fit(points, pixels, (height, width), fov, tolerance)
        ratio = float(inliers.mean())
        if pose is not None and ratio >= MIN_INLIERS:
            break
        if _fit(points, pixels * (-1, 1), (height, width), fov, tolerance)[1].mean() > MIN_INLIERS:
            raise ValueError(
                "the point map is mirrored: it fits the asset only after flipping it left to "
                "right; flip the picture and the map back before this node"
            )
    else:
        raise ValueError(
            f"no camera sees the asset as the point map says (the best explains {ratio:.0%} of "
            "its pixels); sample again, or connect the asset that the map was made with"
        )
    camera = to_camera(pose, width, height)
    on_surface = surface_agreement(camera, decoded, asset)
    if on_surface < MIN_ON_SURFACE:
        raise ValueError(
            f"only {on_surface:.0%} of the point map lies on the side of the asset that its camera "
            "sees; it is mirrored, or belongs to another asset: connect the mesh that it was made "
            "with"
        )
    rmse = float(np.sqrt((errors[inliers] ** 2).mean()))
    return RecoveredCamera(camera, ratio, rmse, on_surface, decoded)


def best_camera(decoded: DecodedMap, asset: Asset, fov: float | None = None) -> Camera:
    """The camera that explains the map best, however badly: to measure maps by, not to use.

    Args:
        decoded: the map in the asset's normalised frame.
        asset: whose map it should be.
        fov: vertical field of view in degrees, or None to search it.

    Raises:
        ValueError: the map has too few points, all in one place, or none in front of any camera.
    """
    points, pixels = _confident_points(decoded, asset)
    height, width = decoded.mask.shape
    pose = _fit(points, pixels, (height, width), fov, TOLERANCES[-1])[0]
    if pose is None:
        raise ValueError("no camera has the point map's points in front of it")
    return to_camera(pose, width, height)


def _fit(
    points: np.ndarray,
    pixels: np.ndarray,
    size: tuple[int, int],
    fov: float | None,
    tolerance: float,
) -> tuple[Pose | None, np.ndarray, np.ndarray]:
    """(pose, inliers [N] bool, reprojection errors [N] in pixels); size is (height, width)."""
    focal = None if fov is None else size[0] / 2 / np.tan(np.radians(fov) / 2)
    threshold = tolerance * max(size)
    pose = solve_pnp(points, pixels, float(np.hypot(*size)), threshold, focal)
    errors = pose.errors(points, pixels) if pose else np.full(len(points), np.inf)
    return pose, errors < threshold, errors


def normals(found: RecoveredCamera) -> np.ndarray:
    """float32 [H, W, 3], unit normals of the map's surface in the camera's axes (x right, y up, z
    backward), towards the camera; 0 off the subject."""
    from scipy import ndimage

    # Steps of 8 bits are coarser than a pixel: the slope needs about 3 pixels of smoothing. Points
    # at edges are blurred off the surface, so the sure ones beside them count a thousand times.
    mask = found.decoded.mask
    weight = (mask * (0.001 + found.decoded.confidence)).astype(np.float32)
    points = found.decoded.xyz @ found.camera.pose[:3, :3].astype(np.float32)
    spread = np.maximum(ndimage.gaussian_filter(weight, 2.0), 1e-9)[..., None]
    smooth = ndimage.gaussian_filter(points * weight[..., None], (2.0, 2.0, 0)) / spread
    down, right = np.gradient(smooth, axis=(0, 1))
    out = np.cross(-down, right)
    out = np.where(out[..., 2:] < 0, -out, out)
    length = np.linalg.norm(out, axis=-1, keepdims=True)
    out = out / np.maximum(length, 1e-12) * mask[..., None]
    return out.astype(np.float32)


def _confident_points(decoded: DecodedMap, asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] and their pixels' centres [N, 2] from the picture's middle.

    Raises:
        ValueError: there are not enough, or they are all in one place or on one line.
    """
    if not decoded.mask.any():
        raise ValueError(
            "the point map is white: there is no subject in it; sample again with the asset in "
            "the prompt, or connect Point Map Decode's point_map"
        )
    rows, columns = np.nonzero(decoded.confidence > 0.3)
    if len(rows) < MIN_PIXELS:
        raise ValueError(
            f"the point map has {len(rows)} reliable pixels, a camera needs {MIN_PIXELS}; make "
            "the subject larger in the picture or the picture larger"
        )
    if len(rows) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(rows), MAX_POINTS, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    points = decoded.xyz[rows, columns].astype(np.float64)
    middle = np.median(points, axis=0)
    near = points[np.linalg.norm(points - middle, axis=1) < 2]
    spread = np.sqrt(np.clip(np.linalg.eigvalsh(np.cov(near.T)), 0, None))
    if spread[2] < MIN_SPREAD or spread[1] < MIN_SPREAD / 4:
        shape = "one colour" if spread[2] < MIN_SPREAD else "a line of colours"
        raise ValueError(
            f"the point map is {shape}: its pixels all lie at one place of the asset and tell no "
            "direction; sample again"
        )
    height, width = decoded.mask.shape
    pixels = np.stack([columns + 0.5 - width / 2, rows + 0.5 - height / 2], axis=1)
    assert len(points) >= SAMPLE_SIZE
    return points, pixels


def to_camera(pose: Pose, width: int, height: int) -> Camera:
    """A pose (x right, y down, z forward) as a camera (right, up, backward, eye)."""
    matrix = np.eye(4)
    matrix[:3, :3] = pose.rotation.T * (1, -1, -1)
    matrix[:3, 3] = -pose.rotation.T @ pose.translation
    fov = float(np.degrees(2 * np.arctan(height / 2 / pose.focal)))
    return Camera(matrix, fov, width, height)


def surface_agreement(camera: Camera, decoded: DecodedMap, asset: Asset) -> float:
    """Part of the subject's and the asset's pixels where the map and the camera show one point."""
    seen = render(asset, camera).points
    with np.errstate(invalid="ignore"):
        close = np.linalg.norm(seen - decoded.xyz, axis=-1) < 2 * ON_SURFACE
    return float((close & decoded.mask).sum() / max(decoded.mask.sum(), 1))


def to_viewport(camera: Camera, asset: Asset) -> dict[str, Any]:
    """The camera as core's LOAD3D_CAMERA; `asset.cameras.from_viewport` is its inverse.

    In the mesh file's own units and axes, as models stand in the viewport since frontend 1.44. The
    target is the point of the optical axis nearest to the asset's middle. A shifted principal
    point has no place there.
    """
    forward = -camera.pose[:3, 2]
    reach = max(float(-camera.eye @ forward), 0.1)
    eye = camera.eye / asset.scale + asset.centre
    target = (camera.eye + reach * forward) / asset.scale + asset.centre
    return {
        "position": _named(eye),
        "target": _named(target),
        "zoom": 1,
        "cameraType": "perspective",
        "quaternion": _quaternion(camera.pose[:3, :3]),
        "fov": float(camera.fov),
        "aspect": camera.width / camera.height,
        "near": 0.01,
        "far": 1000.0,
    }


def _named(vector: np.ndarray) -> dict[str, float]:
    return {key: float(value) for key, value in zip("xyz", vector)}


def _quaternion(rotation: np.ndarray) -> dict[str, float]:
    """Unit quaternion of a rotation matrix: the top eigenvector of Bar-Itzhack's matrix (2000)."""
    r = rotation
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    q = np.linalg.eigh(k)[1][:, -1]
    return {key: float(value) for key, value in zip("xyzw", q if q[3] >= 0 else -q)}


def file_matrix(camera: Camera, asset: Asset) -> np.ndarray:
    """float64 [4, 4], camera to world in the asset's own file: its units and origin, Y up."""
    matrix = camera.pose.copy()
    matrix[:3, 3] = camera.eye / asset.scale + asset.centre
    return matrix


def intrinsics_json(camera: Camera) -> str:
    """Width, height, fx, fy, cx, cy in pixels (pixel (0, 0) spans 0..1), and fov_y in degrees."""
    cx, cy = camera.principal_point
    return json.dumps(
        {
            "width": camera.width,
            "height": camera.height,
            "fx": camera.focal,
            "fy": camera.focal,
            "cx": cx,
            "cy": cy,
            "fov_y": camera.fov,
        }
    )
