"""An object in a photo: the part of the photo around it, and what of that may change.

The picture is made of a window around the object, not of the whole photo, so that a small object in
a large photo still gets all of the model's pixels. A window of a pinhole picture is a pinhole
picture with another principal point, so its silhouette and point map are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..asset.cameras import NEAR, Camera
from ..asset.model import Asset
from ..asset.render import View, render
from .paste import Paste, Window
from .posed_view import INSIDE, enclosed

MIN_SIDE = 8
"""Pixels of the photo: an object that is smaller along both sides is refused."""


@dataclass(frozen=True, eq=False)
class Placement:
    """An object in a window of a photo.

    Attributes:
        view: the object from the window's camera, at the size of the picture to be made.
        visible: bool [h, w], its silhouette without what other objects hide.
        paste: the window, the mask and the depth.
    """

    view: View
    visible: np.ndarray
    paste: Paste

    @property
    def point_map(self) -> np.ndarray:
        """float32 [h, w, 3] in 0..1, of what is visible; white elsewhere."""
        return np.where(self.visible[..., None], self.view.point_map, np.float32(1.0))

    def over(self, picture: np.ndarray) -> np.ndarray:
        """The object's own colours on a picture [h, w, 3] of the window."""
        return np.where(self.visible[..., None], self.view.color, picture).astype(np.float32)


def place(
    asset: Asset,
    camera: Camera,
    size: tuple[int, int],
    context: float,
    grow: int,
    feather: int,
    scene_size: float = 0.0,
    earlier: Sequence[Paste] = (),
) -> Placement:
    """Place an object into a photo.

    Args:
        asset: the object.
        camera: the photo's camera, with the photo's size in pixels.
        size: width and height of the picture to be made.
        context: width of the window, in widths of the object.
        grow: pixels of the picture around the silhouette that may change (contact shadow).
        feather: of these, the outermost ones that change less and less.
        scene_size: the object's longest side in units of the scene, by which depths compare with
            those of other objects; 0: as in the mesh file.
        earlier: the objects in the photo already.

    Raises:
        ValueError: the camera is inside the object, misses it, or sees nothing else; says why.
    """
    photo_size = (camera.width, camera.height)
    if enclosed(asset, camera.eye):
        raise ValueError(INSIDE)
    box = seen_box(asset, camera)
    window = window_around(box, photo_size, size, context, grow)
    view = render(asset, window_camera(camera, window, *size))
    unit = scene_size / 2 if scene_size > 0 else 1 / asset.scale
    depth = np.where(view.mask, view.depth * unit, np.inf).astype(np.float32)
    others = np.full(depth.shape, np.inf, np.float32)
    for paste in earlier:
        others = np.minimum(others, depth_in(paste, window, size))
    visible = view.mask & (depth < others)
    _check_visible(view.mask, visible)
    mask = change_mask(visible, grow, feather)
    mask[~visible & np.isfinite(others)] = 0.0  # what other objects show stays theirs
    rows, columns = (
        (np.arange(n) + 0.5) * length / n + start
        for n, length, start in (
            (size[1], window.height, window.top),
            (size[0], window.width, window.left),
        )
    )
    within = (rows >= 0)[:, None] & (rows < camera.height)[:, None]
    within = within & (columns >= 0) & (columns < camera.width)
    if window.width >= camera.width and window.height >= camera.height and mask[within].all():
        raise ValueError(
            "the object and the margin around it fill the photo, and nothing of the photo would "
            "be left; raise the distance, or lower grow"
        )
    return Placement(view, visible, Paste(photo_size, window, mask, depth, tuple(earlier)))


def seen_box(asset: Asset, camera: Camera) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the object in the photo, clipped to the photo.

    Raises:
        ValueError: it lies outside of the photo or is too small in it.
    """
    used = np.zeros(len(asset.vertices), bool)
    used[asset.faces] = True
    x, y, back = ((asset.vertices[used] - camera.eye) @ camera.pose[:3, :3]).T
    width, height = camera.width, camera.height
    if (-back).max() <= NEAR:
        raise ValueError(
            "the camera looks away from the object; turn it towards the object, or raise the "
            "distance"
        )
    box = [0.0, 0.0, float(width), float(height)]
    if (-back).min() > NEAR:
        cx, cy = camera.principal_point
        columns, rows = cx + camera.focal * x / -back, cy - camera.focal * y / -back
        box = [columns.min(), rows.min(), columns.max(), rows.max()]
        if box[2] <= 0 or box[3] <= 0 or box[0] >= width or box[1] >= height:
            raise ValueError(
                f"the object lies outside of the photo: it would be at columns {box[0]:.0f} to "
                f"{box[2]:.0f} and rows {box[1]:.0f} to {box[3]:.0f} of {width}x{height} pixels; "
                "lower the shift, or turn the camera towards it"
            )
        if max(box[2] - box[0], box[3] - box[1]) < MIN_SIDE:
            raise ValueError(
                f"the object is {box[2] - box[0]:.0f}x{box[3] - box[1]:.0f} pixels small in the "
                "photo; lower the distance or the field of view"
            )
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    return left, top, min(box[2], float(width)), min(box[3], float(height))


def window_around(
    box: tuple[float, float, float, float],
    photo_size: tuple[int, int],
    size: tuple[int, int],
    context: float,
    grow: int,
) -> Window:
    """The window around a box of the photo, with the very proportions of the picture.

    It holds the box with its margin and lies inside the photo where the proportions allow it.

    Args:
        box: left, top, right, bottom in pixels of the photo.
        photo_size: width and height of the photo.
        size: width and height of the picture, pixels.
        context: width of the window in widths of the box, at least 1.
        grow: pixels of the picture around the box that belong to it.

    Raises:
        ValueError: the margin alone fills the picture.
    """
    width, height = size
    if 2 * grow >= min(size):
        raise ValueError(
            f"grow is {grow}, which fills a picture of {width}x{height} from both sides; lower it "
            f"below {min(size) // 2}"
        )
    steps = math.gcd(width, height)
    unit = (width // steps, height // steps)
    sides = [(max(b - a, 1.0), u) for a, b, u in zip(box[:2], box[2:], unit)]
    roomy = [max(context, 1 / (1 - 2 * grow / n)) for n in size]
    wanted = max(side * factor / u for (side, u), factor in zip(sides, roomy))
    needed = max(side / u for side, u in sides)
    fits = min(length // u for length, u in zip(photo_size, unit))
    count = max(min(math.ceil(wanted), fits), math.ceil(needed), 1)
    out = []
    for axis in (0, 1):
        length = count * unit[axis]
        first = round((box[axis] + box[axis + 2] - length) / 2)
        room = photo_size[axis] - length
        out.append((min(max(first, 0), room) if room >= 0 else room // 2, length))
    return Window(out[0][0], out[1][0], out[0][1], out[1][1])


def window_camera(camera: Camera, window: Window, width: int, height: int) -> Camera:
    """The camera of a photo's window, scaled to width x height pixels of the same proportions."""
    factor = width / window.width
    cx, cy = camera.principal_point
    shift = ((cx - window.left) * factor - width / 2, (cy - window.top) * factor - height / 2)
    fov = float(np.degrees(2 * np.arctan(height / 2 / (camera.focal * factor))))
    return Camera(camera.pose, fov, width, height, shift)


def change_mask(silhouette: np.ndarray, grow: int, feather: int) -> np.ndarray:
    """float32 [h, w] in 0..1: 1 on the silhouette, falling to 0 at `grow` pixels from it.

    Args:
        silhouette: bool [h, w], not empty.
        grow: reach in pixels; nothing farther changes.
        feather: pixels before the end over which it falls; at most grow.
    """
    from scipy import ndimage

    away = ndimage.distance_transform_edt(~silhouette)
    ramp = min(max(feather, 1), grow + 1)
    return np.clip((grow + 1 - away) / ramp, 0, 1).astype(np.float32)


def depth_in(paste: Paste, window: Window, size: tuple[int, int]) -> np.ndarray:
    """float32 [h, w]: an earlier object's depth at the pixels of another window of the photo;
    infinite off the object."""
    places = []
    for axis, count in enumerate(size):
        start, length = (window.left, window.width) if axis == 0 else (window.top, window.height)
        old = paste.window
        first, extent = (old.left, old.width) if axis == 0 else (old.top, old.height)
        at = start + (np.arange(count) + 0.5) * length / count
        places.append(np.floor((at - first) / extent * paste.depth.shape[1 - axis]).astype(int))
    columns, rows = places
    height, width = paste.depth.shape
    known = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    found = paste.depth[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    return np.where(known, found, np.inf).astype(np.float32)


def _check_visible(silhouette: np.ndarray, visible: np.ndarray) -> None:
    if not silhouette.any():
        raise ValueError(
            "the camera sees nothing of the object in the photo; turn the camera towards it"
        )
    if not visible.any():
        raise ValueError(
            "the object is hidden behind the objects placed before it; bring it nearer, or set "
            "scene_size of both to their sizes in the scene"
        )
