"""The camera of each picture: searched, given, or by FoundationPose's command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..asset import Asset, Camera, render
from ..asset.cameras import from_viewport
from ..pose_search import estimate_pose
from ..pose_search.coarse import ONE_COLOR
from ..pose_search.overlay import overlay
from ..pose_search.picture import Level
from ..pose_search.scores import NO_COLOR, agreement, in_light
from .asset import load_mesh
from .config import Config, settings_of
from .pictures import read_mask, read_rgb
from .stages import Outcome, each_picture
from .store import Record, Refused


def camera_data(camera: Camera) -> dict[str, Any]:
    """A camera as JSON; `camera_of` is its inverse."""
    return {
        "camera_to_world": camera.pose.tolist(),
        "fov": float(camera.fov),
        "size": [camera.width, camera.height],
        "shift": [float(x) for x in camera.shift],
    }


def camera_of(data: Mapping[str, Any]) -> Camera:
    """The camera of a pose stage's result."""
    (width, height), (right, down) = data["size"], data["shift"]
    return Camera(np.asarray(data["camera_to_world"]), data["fov"], width, height, (right, down))


def checked_camera(pose: Any, fov: Any, width: int, height: int) -> Camera:
    """A camera from outside.

    Raises:
        Refused: NaN, no rotation, or no field of view.
    """
    try:
        matrix, fov = np.asarray(pose, np.float64), float(fov)
    except (TypeError, ValueError) as error:
        raise Refused(f"the camera is not made of numbers ({error})") from error
    if matrix.shape != (4, 4):
        raise Refused(f"camera_to_world is {matrix.shape}, expected 4x4")
    if not np.isfinite(matrix).all() or not np.isfinite(fov):
        raise Refused("the camera has NaN or infinite values")
    turn = matrix[:3, :3]
    if np.abs(turn.T @ turn - np.eye(3)).max() > 1e-2 or np.linalg.det(turn) < 0:
        raise Refused("camera_to_world is no rotation and position")
    if not 1 < fov < 170:
        raise Refused(f"the camera's fov is {fov:.4g} degrees")
    return Camera(matrix, fov, width, height)


class PoseStage:
    """A camera for each picture; subclasses find it."""

    name = "pose"

    def __init__(self, config: Config) -> None:
        self.config = config.pose
        self.settings = settings_of(config.pose)

    def find(
        self, record: Record, index: int, asset: Asset, image: np.ndarray, mask: np.ndarray
    ) -> tuple[Camera, dict[str, float]]:
        """The camera, and the scores iou, ambiguity and colour_correlation.

        Args:
            record: with its results so far.
            index: of the picture.
            asset: what it shows.
            image: float32 [H, W, 3] in 0..1.
            mask: bool [H, W].

        Raises:
            Refused: there is none.
        """
        raise NotImplementedError

    def fov(self, record: Record) -> float:
        """The guess: the source's, else the setting."""
        return float(record.data("source").get("fov") or self.config.fov)

    def __call__(self, record: Record, folder: Path) -> Outcome:
        asset = load_mesh(record)

        def pose(index: int) -> dict[str, Any]:
            image = read_rgb(record.file("source", f"{index}.png"))
            mask = read_mask(record.file("masks", f"{index}.png"))
            camera, scores = self.find(record, index, asset, image, mask)
            if not np.isfinite([*camera.pose.ravel(), camera.fov, *scores.values()]).all():
                raise Refused("the pose has NaN or infinite values")
            drawn = overlay(asset, image, mask, camera)
            sheet = Image.fromarray((drawn * 255).astype(np.uint8))
            sheet.thumbnail((256, 256))
            sheet.save(folder / f"overlay_{index}.jpg", quality=85)
            return {**camera_data(camera), **{k: float(v) for k, v in scores.items()}}

        return Outcome(each_picture(record, pose))


class SearchedPose(PoseStage):
    """Our own search."""

    def find(self, record, index, asset, image, mask):
        try:
            found = estimate_pose(asset, image, mask.astype(np.float32), self.fov(record))
        except ValueError as error:
            raise Refused(str(error)) from error
        return found.camera, {
            "iou": found.iou,
            "ambiguity": found.ambiguity,
            "colour_correlation": found.colour_correlation,
        }


class GivenPose(SearchedPose):
    """The source's camera, or that of the asset's graph for the picture that it saw.

    The other picture of a pair has none and is searched.
    """

    def find(self, record, index, asset, image, mask):
        height, width = mask.shape
        made, given = record.data("asset"), record.data("source").get("camera")
        if made.get("camera_info") is not None:
            if made["reconstructed"] != index:
                return super().find(record, index, asset, image, mask)
            camera = window_camera(made["camera_info"], asset, made["window"], width, height)
        elif given is not None:
            if "camera_to_world" not in given or "fov" not in given:
                raise Refused("the source's camera lacks camera_to_world or fov")
            camera = checked_camera(given["camera_to_world"], given["fov"], width, height)
        else:
            raise Refused("neither the source nor the graph gives a camera")
        return camera, scores_of(asset, camera, image, mask)


def window_camera(
    info: Mapping[str, Any], asset: Asset, window: list[float], width: int, height: int
) -> Camera:
    """The camera of the whole picture from that of a square window of it: the same eye and focal
    length in pixels, with the principal point in the window's middle.

    Args:
        info: LOAD3D_CAMERA of the window.
        asset: in its file's frame there.
        window: left, top, side in the picture's pixels.
        width, height: of the picture.

    Raises:
        Refused: no usable camera.
    """
    left, top, side = window
    try:
        seen = from_viewport(info, asset, int(side), int(side))
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"the graph's camera cannot be used: {error}") from error
    seen = checked_camera(seen.pose, seen.fov, int(side), int(side))
    fov = float(np.degrees(2 * np.arctan(height / 2 / seen.focal)))
    shift = (left + side / 2 - width / 2, top + side / 2 - height / 2)
    return Camera(seen.pose, fov, width, height, shift)


def scores_of(
    asset: Asset, camera: Camera, image: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
    """The search's scores of a camera that was not searched; it counts as sure."""
    view = render(asset, camera)
    level = Level(1.0, image * mask[..., None], mask, np.ones_like(mask))
    correlation = NO_COLOR[1]
    if view.mask.any() and view.color[view.mask].std(0).max() > ONE_COLOR:
        _, _, correlation = in_light(view, level)
    return {
        "iou": agreement(view, level),
        "ambiguity": 0.0,
        "colour_correlation": correlation,
    }


def pose_stage(config: Config) -> PoseStage:
    """The stage by its method."""
    if config.pose.method == "foundationpose":
        from .foundationpose import FoundationPose

        return FoundationPose(config)
    return {"search": SearchedPose, "given": GivenPose}[config.pose.method](config)
