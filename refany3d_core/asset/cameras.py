"""Cameras: the published orbit, any explicit pose, and the viewport camera of ComfyUI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .model import Asset

FRAMES = 60
"""Frames of the published orbit, of which n are taken as views (METHOD fact 36)."""
FOV = 45.0
"""Vertical field of view of the published renderer, degrees (METHOD fact 37)."""
RADIUS = 4.0
"""Distance of the published camera from the origin (METHOD fact 37)."""
NEAR = 0.1
"""Near plane of the published camera (METHOD fact 37)."""
STAGE_SIZE = 5.0
"""ComfyUI's 3D viewport of before frontend 1.44 scaled a model so that its longest side had this
length, and stood it on the floor at the origin; since then a model stands there as in its file."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with square pixels.

    Attributes:
        pose: float64 [4, 4], camera to world; columns right, up, backward, eye (looks along -Z).
        fov: vertical field of view, degrees.
        width, height: picture size in pixels.
        shift: offset of the principal point from the picture's centre, pixels right and down.
    """

    pose: np.ndarray
    fov: float = FOV
    width: int = 512
    height: int = 512
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def eye(self) -> np.ndarray:
        """float64 [3], where the camera stands."""
        return self.pose[:3, 3]

    @property
    def view(self) -> np.ndarray:
        """float64 [4, 4], world to camera."""
        rotation = self.pose[:3, :3].T
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = rotation, -rotation @ self.eye
        return view

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.height / 2 / np.tan(np.radians(self.fov) / 2)

    @property
    def principal_point(self) -> tuple[float, float]:
        """Pixel coordinates (x, y) of the optical axis; pixel (0, 0) spans 0..1."""
        return self.width / 2 + self.shift[0], self.height / 2 + self.shift[1]

    def directions(self, pixel: np.ndarray | None = None) -> np.ndarray:
        """World-space rays through pixels' centres, with length 1 along the optical axis, so that
        eye + t * direction has depth t.

        Args:
            pixel: int [P], flat pixel indices, row 0 at the top; None for the whole picture.

        Returns:
            float64 [P, 3], or [H, W, 3] for the whole picture.
        """
        if pixel is None:
            every = np.arange(self.width * self.height)
            return self.directions(every).reshape(self.height, self.width, 3)
        cx, cy = self.principal_point
        right, up, back = self.pose[:3, :3].T
        across = (np.arange(self.width) + 0.5 - cx)[:, None] / self.focal * right - back
        down = (cy - np.arange(self.height) - 0.5)[:, None] / self.focal * up
        row, column = np.divmod(pixel, self.width)
        return across[column] + down[row]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixel coordinates x and y [N] of points [N, 3], pixel (0, 0) spanning 0..1, and their
        depth [N]; where that is not above 0, x and y mean nothing."""
        x, y, back = ((points - self.eye) @ self.pose[:3, :3]).T
        safe = np.where(back < 0, -back, 1.0)
        cx, cy = self.principal_point
        return cx + self.focal * x / safe, cy - self.focal * y / safe, -back

    def frame_of(self, points: np.ndarray) -> np.ndarray:
        """Flat indices of the pixels in the rectangle around the points' projections [N, 3], and
        of the whole picture when a point is not in front of the camera."""
        x, y, depth = self.project(points)
        columns, rows = (0, self.width), (0, self.height)
        if depth.min() > NEAR:
            columns, rows = _reach(x, self.width), _reach(y, self.height)
        return (np.arange(*rows)[:, None] * self.width + np.arange(*columns)).reshape(-1)

    def scaled(self, factor: int) -> "Camera":
        """The same view with `factor` times as many pixels along each side."""
        return self.resized(self.width * factor, self.height * factor)

    def resized(self, width: int, height: int) -> "Camera":
        """The same view in a picture of another size and the same proportions."""
        factor = height / self.height
        shift = (self.shift[0] * factor, self.shift[1] * factor)
        return Camera(self.pose, self.fov, width, height, shift)

    def cropped(self, left: int, top: int, width: int, height: int) -> "Camera":
        """What the same lens shows in a rectangle of the picture, in pixels from its top left."""
        x, y = self.principal_point
        fov = float(np.degrees(2 * np.arctan(height / 2 / self.focal)))
        shift = (x - left - width / 2, y - top - height / 2)
        return Camera(self.pose, fov, width, height, shift)


def _reach(x: np.ndarray, size: int) -> tuple[int, int]:
    """First pixel and the one after the last that coordinates reach, with one to spare."""
    first = np.clip(np.floor(x.min()) - 1, 0, size)
    last = np.clip(np.ceil(x.max()) + 1, first, size)
    return int(first), int(last)


def look_at(eye: ArrayLike, target: ArrayLike = (0, 0, 0), up: ArrayLike = (0, 1, 0)) -> np.ndarray:
    """Pose [4, 4] of a camera at `eye` that looks at `target`.

    Raises:
        ValueError: eye and target coincide.
    """
    eye = np.asarray(eye, np.float64)
    back = eye - np.asarray(target, np.float64)
    if not np.linalg.norm(back) > 0:
        raise ValueError("the camera stands on the point that it looks at; move it away")
    back = back / np.linalg.norm(back)
    right = np.cross(np.asarray(up, np.float64), back)
    if np.linalg.norm(right) < 1e-9:  # straight up or down: keep +Z at the picture's bottom
        right = np.array([1.0, 0.0, 0.0])
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :4] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def orbit_pose(azimuth: float, pitch: float = 0.0, radius: float = RADIUS) -> np.ndarray:
    """Pose [4, 4] on the orbit: degrees, azimuth 0 on +X, 90 on +Z (METHOD fact 37)."""
    a, p = np.radians(azimuth), np.radians(pitch)
    eye = radius * np.array([np.cos(p) * np.cos(a), np.sin(p), np.cos(p) * np.sin(a)])
    return look_at(eye)


def azimuths(views: int, even: bool = False) -> list[float]:
    """Degrees of the views: frames i * (60 // n) of 60, 42 degrees apart at n = 8 (METHOD fact 36),
    or evenly spread.

    Raises:
        ValueError: no view, or more than the 60 frames of the published orbit.
    """
    if views < 1 or (views > FRAMES and not even):
        raise ValueError(
            f"views is {views}; the published orbit has 1 to {FRAMES} (even spacing takes more)"
        )
    step = 360 / views if even else FRAMES // views * (360 / FRAMES)
    return [i * step for i in range(views)]


def orbit(
    views: int = 8,
    resolution: int = 512,
    radius: float = RADIUS,
    pitch: float | Sequence[float] = 0.0,
    fov: float = FOV,
    even: bool = False,
) -> list[Camera]:
    """The reference views' cameras. `pitch`: degrees, one for all or one for each view.

    Raises:
        ValueError: a bad count, size, field of view, or a pitch list of another length.
    """
    angles = azimuths(views, even)
    each = np.atleast_1d(np.asarray(pitch, np.float64)).tolist()
    pitches = each * views if np.ndim(pitch) == 0 else each
    if len(pitches) != views:
        raise ValueError(
            f"there are {len(pitches)} pitches for {views} views; give one, or one for each view"
        )
    if not 1 <= resolution <= 4096:
        raise ValueError(f"resolution is {resolution}; take 1 to 4096 pixels")
    if not radius > 0:
        raise ValueError(f"radius is {radius}; it must be above 0")
    if not 0 < fov < 180:
        raise ValueError(f"fov is {fov}; it must lie between 0 and 180 degrees")
    return [
        Camera(orbit_pose(angle, p, radius), fov, resolution, resolution)
        for angle, p in zip(angles, pitches, strict=True)
    ]


def fitting_radius(vertices: np.ndarray, cameras: Sequence[Camera], margin: float = 1.05) -> float:
    """Smallest distance from the origin at which all vertices stay inside all pictures.

    Args:
        vertices: float [V, 3], normalised frame.
        cameras: cameras that look at the origin; only their rotation and lens count.
        margin: how much larger than the mesh the picture is.
    """
    radius = 0.0
    for camera in cameras:
        x, y, z = (vertices @ camera.pose[:3, :3]).T
        slope_y = np.tan(np.radians(camera.fov) / 2) / margin
        slope_x = slope_y * camera.width / camera.height
        needed = z + np.maximum(np.abs(x) / slope_x, np.abs(y) / slope_y)
        radius = max(radius, float(needed.max()))
    return radius


def from_viewport(
    info: Mapping,
    asset: Asset,
    width: int,
    height: int,
    placement: Sequence[Mapping] | None = None,
) -> Camera:
    """The camera of ComfyUI's 3D viewport (LOAD3D_CAMERA), moved to the normalised frame.

    The viewport's world is Y up and the mesh file's own frame, but for what the user did to the
    model there. Cameras without a quaternion come from pages that put every model on a stage
    instead (see STAGE_SIZE).

    Args:
        info: position and target (x, y, z), cameraType, and optionally quaternion (world rotation
            of the camera), fov (vertical, degrees) and zoom.
        asset: what stands in the viewport.
        width, height: of the picture, pixels.
        placement: LOAD3D_MODEL_INFO: the position, quaternion and scale of the model there, if it
            was moved.

    Raises:
        ValueError: an orthographic camera, an incomplete one, or a model scaled unevenly.
    """
    if str(info.get("cameraType", "perspective")).lower().startswith("ortho"):
        raise ValueError("the camera is orthographic; switch the viewport to perspective")
    try:
        position, target = _vector(info["position"]), _vector(info["target"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "the camera lacks a position or a target; move the viewport's camera and run again"
        ) from error
    quaternion = info.get("quaternion")
    if quaternion:
        moved, turned, scale = _placement(placement)
        position, target = (((p - moved) @ turned / scale) for p in (position, target))
        position, target = (((p - asset.centre) * asset.scale) for p in (position, target))
        pose = look_at(position, target)
        pose[:3, :3] = turned.T @ _rotation(*(float(quaternion[k]) for k in "wxyz"))
    else:
        to_ours = 2 / STAGE_SIZE
        middle = np.array([0.0, asset.extent[1] * asset.scale / 2, 0.0])
        pose = look_at(position * to_ours - middle, target * to_ours - middle)
    zoom = float(info.get("zoom") or 1.0)
    fov = float(info.get("fov") or 35.0)
    fov = float(np.degrees(2 * np.arctan(np.tan(np.radians(fov) / 2) / zoom)))
    return Camera(pose, fov, width, height)


def viewport_rotation(info: Mapping) -> np.ndarray:
    """Rotation [3, 3] of a LOAD3D_CAMERA in the viewport: columns right, up, backward.

    Raises:
        ValueError: it has neither a quaternion nor a position and a target.
    """
    quaternion = info.get("quaternion")
    if quaternion:
        return _rotation(*(float(quaternion[k]) for k in "wxyz"))
    try:
        return look_at(_vector(info["position"]), _vector(info["target"]))[:3, :3]
    except (KeyError, TypeError) as error:
        raise ValueError(
            "the camera lacks a position or a target; move the viewport's camera and run again"
        ) from error


def _vector(named: Mapping) -> np.ndarray:
    return np.array([float(named[k]) for k in "xyz"])


def _placement(placement: Sequence[Mapping] | None) -> tuple[np.ndarray, np.ndarray, float]:
    """(position [3], rotation [3, 3], scale) of a LOAD3D_MODEL_INFO; as loaded without one."""
    if not placement:
        return np.zeros(3), np.eye(3), 1.0
    model = placement[0]
    scale = _vector(model["scale"])
    if np.ptp(scale) > 1e-3 * abs(scale[0]) or scale[0] <= 0:
        raise ValueError(
            "the model is scaled unevenly in the viewport; reset its scale there, or scale the "
            "mesh itself"
        )
    turned = _rotation(*(float(model["quaternion"][k]) for k in "wxyz"))
    return _vector(model["position"]), turned, float(scale[0])


def _rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    """Rotation matrix [3, 3] of a quaternion."""
    norm = (w * w + x * x + y * y + z * z) ** 0.5
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
