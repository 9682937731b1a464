"""How faithful one generated picture and its point map are to the asset, measured directly.

Nothing here knows how the picture was made: image, map and mesh are enough. Truth is the asset
itself, looked up at the points that the map names and rendered from the camera that it implies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...asset.model import Asset
from ...asset.render import View, render
from ...pointmap.camera import normalised_box, recover_camera
from ...pointmap.consistency import SurfaceColors
from ...pointmap.decode import decode
from .best_pose import best_pose

SHADES = (0.7, 1.1)
"""Brightness against the unlit asset that light may account for."""
BAND = 0.06
"""Half the width of the uncertain band around the map's outline, of the picture's side."""


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Measures of one picture, and the asset from the camera that its map comes nearest to.

    Attributes:
        values: by name; those that do not exist for the picture are NaN.
        view: None where there is no such camera.
    """

    values: dict[str, float]
    view: View | None


def measure(
    image: np.ndarray,
    point_map: np.ndarray,
    asset: Asset,
    surface: SurfaceColors,
    fov: float | None,
) -> Fidelity:
    """Measures of one picture.

    Args:
        image: float [H, W, 3] in 0..1, sRGB.
        point_map: float [H, W, 3] in 0..1, white background.
        asset: the asset that was asked for.
        surface: its colours.
        fov: vertical field of view in degrees, None where it is not known.

    The values are
        coverage: share of the picture that is subject by the map.
        subject_iou: of the map's subject and the image's own (see `image_subject`).
        colour_error: mean absolute difference of the image from the asset's colour at the points
            that the map names, 0..1, after one brightness for the picture.
        surface_distance: mean distance of the map's points to the asset's surface, in units of the
            box's longest side.
        posed: 1 where Camera from Point Map gives a camera, 0 where it refuses.
        map_error: mean distance of the map from the asset's own map at the camera where it is
            smallest (`best_pose`), inside both, in units of the box (per axis, METHOD fact 38).
        silhouette_iou: of the map's subject and the asset's outline from that camera.
        posed_colour_error, psnr: of the image against the render from that camera, inside both.
    """
    decoded = decode(point_map, normalised_box(asset))
    mask = decoded.mask
    names = ("subject_iou", "colour_error", "surface_distance", "map_error", "silhouette_iou",
             "posed_colour_error", "psnr")  # fmt: skip
    out = {"coverage": float(mask.mean()), "posed": 0.0, **dict.fromkeys(names, float("nan"))}
    if not mask.any():
        return Fidelity(out, None)
    colours, distance = surface.at(decoded.xyz[mask])
    out["subject_iou"] = iou(mask, image_subject(image, mask))
    out["colour_error"] = colour_error(image[mask], colours)
    out["surface_distance"] = float(distance.mean() / 2)  # the normalised frame is 2 long
    try:
        recover_camera(point_map, asset, fov)
        out["posed"] = 1.0
    except ValueError:
        pass
    try:
        camera = best_pose(point_map, decoded, asset, fov)
    except ValueError:
        return Fidelity(out, None)
    view = render(asset, camera)
    both = mask & view.mask
    out["silhouette_iou"] = iou(mask, view.mask)
    if both.any():
        off = np.linalg.norm(point_map[both] - view.point_map[both], axis=-1)
        error = image[both] - view.color[both] * shade(image[both], view.color[both])
        out["map_error"] = float(off.mean())
        out["posed_colour_error"] = float(np.abs(error).mean())
        out["psnr"] = float(-10 * np.log10(max(float((error**2).mean()), 1e-10)))
    return Fidelity(out, view)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 0 when both are empty."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def shade(seen: np.ndarray, colours: np.ndarray) -> float:
    """The brightness within SHADES that brings an asset's unlit colours nearest to those seen."""
    return float(np.clip((seen * colours).sum() / max((colours**2).sum(), 1e-9), *SHADES))


def colour_error(seen: np.ndarray, colours: np.ndarray) -> float:
    """Mean absolute difference of colours [N, 3] after one brightness."""
    return float(np.abs(seen - colours * shade(seen, colours)).mean())


def image_subject(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The image's subject by its own colours, [H, W] bool.

    GrabCut (Rother et al. 2004, OpenCV): what lies well inside `near` is subject, what lies well
    outside is background, and in a band around its outline the image decides. On exact pictures of
    the procedural world it meets the true mask with an IoU that `evaluate` reports as its ceiling.

    Args:
        image: float [H, W, 3] in 0..1.
        near: bool [H, W], about where the subject is.

    Raises:
        ValueError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as e:
        raise ValueError("evaluation needs OpenCV: pip install opencv-python-headless") from e
    from scipy import ndimage

    width = max(1.5, BAND * max(near.shape))
    inside = ndimage.distance_transform_edt(np.pad(near, 1))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~near)
    sure = inside > min(width, 0.6 * inside.max())
    labels = np.where(near, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[sure] = cv2.GC_FGD
    labels[outside > width] = cv2.GC_BGD
    if not (labels == cv2.GC_BGD).any():
        return near
    cv2.setRNGSeed(0)
    picture = np.ascontiguousarray((np.clip(image, 0, 1)[..., ::-1] * 255).round().astype(np.uint8))
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, labels, None, *model, 4, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
