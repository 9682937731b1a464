"""Point maps decoded: where on the asset, which pixels, and how sure."""

import numpy as np
import pytest

from refany3d_core.asset import Camera, look_at, render
from refany3d_core.pointmap.camera import normalised_box
from refany3d_core.pointmap.decode import decode


@pytest.mark.parametrize("name", ["spot", "controller", "truck", "cube"])
def test_spoiled_map_gives_points_and_mask(assets, spoil, any_camera, name):
    camera = any_camera(3, 512)
    true = render(assets[name], camera)
    got = decode(spoil(assets[name], camera), normalised_box(assets[name]))
    assert (got.mask & true.mask).sum() / (got.mask | true.mask).sum() > 0.98
    sure = (got.confidence > 0.5) & true.mask
    assert sure.sum() > 0.5 * true.mask.sum()
    error = np.linalg.norm(got.xyz - true.points, axis=-1)[sure]
    assert np.median(error) < 0.005  # half a step of 8 bits is 0.004 along an axis
    assert np.quantile(error, 0.99) < 0.05


def test_white_corner_of_the_box_stays_in_the_mask(assets):
    """The cube's corner at (1, 1, 1) is as white as the background."""
    camera = Camera(look_at((2.4, 2.4, 2.4)))
    true = render(assets["cube"], camera)
    assert (true.point_map[true.mask].min(-1) > 0.97).any()
    mask = decode(true.point_map, normalised_box(assets["cube"])).mask
    assert (mask == true.mask).mean() > 0.999
    assert mask[240:272, 240:272].all()


def test_hole_stays_a_hole():
    rows, columns = np.mgrid[:128, :128] / 128
    picture = np.stack([rows, columns, 0 * rows + 0.5], -1)
    distance = np.hypot(rows - 0.5, columns - 0.5)
    ring = (distance < 0.4) & (distance > 0.15)
    picture[~ring] = 1.0
    mask = decode(picture, np.array([[-1.0] * 3, [1.0] * 3])).mask
    assert (mask == ring).mean() > 0.999


def test_units_are_those_of_the_box():
    picture = np.ones((64, 64, 3), np.float32)
    picture[16:48, 16:48] = (0.0, 0.5, 0.25)
    box = np.array([[10.0, 20.0, 30.0], [14.0, 40.0, 31.0]])
    got = decode(picture, box)
    np.testing.assert_allclose(got.xyz[32, 32], (10.0, 30.0, 30.25), atol=1e-5)
    assert (got.xyz[~got.mask] == 0).all()


def test_edges_and_stray_pixels_are_not_trusted():
    picture = np.ones((64, 64, 3), np.float32)
    picture[16:48, 16:48] = 0.4
    picture[30, 30] = (0.9, 0.1, 0.2)
    confidence = decode(picture, np.array([[-1.0] * 3, [1.0] * 3])).confidence
    assert confidence[30, 30] == 0 and confidence[16, 32] == 0
    assert confidence[38, 38] == 1
