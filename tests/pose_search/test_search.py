"""The camera out of a picture of a known mesh."""

from pathlib import Path

import numpy as np
import pytest

from refany3d_core.asset import Camera, load_asset, look_at, render
from refany3d_core.pose_search import estimate_pose

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def spot():
    return load_asset(ROOT / "assets" / "spot.glb")


def turned(found: Camera, true: Camera) -> float:
    """Degrees between the two cameras."""
    trace = np.trace(found.pose[:3, :3].T @ true.pose[:3, :3])
    return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


@pytest.mark.parametrize("fov", [37.0, 0.0])
def test_a_clean_picture_gives_its_camera(spot, fov):
    camera = Camera(look_at((2.5, 1.5, 4), (0.3, 0.2, 0), (0.1, 1, 0)), 42.0, 200, 160)
    view = render(spot, camera)
    found = estimate_pose(spot, view.color, view.mask.astype(np.float32), fov)
    assert turned(found.camera, camera) < 3
    assert (found.camera.width, found.camera.height) == (200, 160)
    assert found.iou > 0.9 and found.ambiguity < 0.2 and found.colour_correlation > 0.9


def test_a_mask_that_carries_no_pose_is_refused(spot):
    image = np.random.default_rng(0).random((64, 64, 3))
    with pytest.raises(ValueError, match="of one colour"):
        estimate_pose(spot, np.full((64, 64, 3), 0.5), np.tri(64))
    for mask, message in (
        (np.zeros((64, 64)), "mask is empty"),
        (np.ones((64, 64)), "covers the whole picture"),
        (np.eye(64) * (np.arange(64) < 6), "only 6 x 6 pixels"),
        (np.full((64, 64), np.nan), "NaN"),
        (np.ones((32, 32)), "the same size"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate_pose(spot, image, mask)
