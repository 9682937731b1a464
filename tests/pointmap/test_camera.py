"""The camera out of spoiled point maps of real meshes, and maps that carry none."""

import json

import numpy as np
import pytest

from refany3d_core.asset import Camera, look_at, render
from refany3d_core.asset.cameras import from_viewport
from refany3d_core.pointmap.camera import (
    file_matrix,
    intrinsics_json,
    recover_camera,
    to_viewport,
)


def pose_error(found: Camera, true: Camera) -> tuple[float, float]:
    turn = found.pose[:3, :3].T @ true.pose[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return angle, np.linalg.norm(found.eye - true.eye) / np.linalg.norm(true.eye)


@pytest.mark.parametrize("searched", [False, True], ids=["fov known", "fov searched"])
@pytest.mark.parametrize("name", ["spot", "controller", "truck", "cube"])
def test_random_poses(assets, spoil, any_camera, name, searched):
    for seed in range(3):
        camera = any_camera(seed)
        picture = spoil(assets[name], camera, seed)
        found = recover_camera(picture, assets[name], None if searched else camera.fov)
        degrees, distance = pose_error(found.camera, camera)
        assert degrees < 0.5 and distance < 0.01
        assert found.inlier_ratio > 0.9 and found.rmse < 1.5 and found.on_surface > 0.8


def test_one_face_of_a_cube_is_enough(assets, spoil):
    camera = Camera(look_at((4, 0, 0)), width=256, height=256)
    found = recover_camera(spoil(assets["cube"], camera), assets["cube"], camera.fov)
    degrees, distance = pose_error(found.camera, camera)
    assert degrees < 0.5 and distance < 0.01


def test_wide_picture(assets, spoil):
    camera = Camera(look_at((2, 1, 3)), 40, 384, 224)
    found = recover_camera(spoil(assets["spot"], camera), assets["spot"])
    degrees, distance = pose_error(found.camera, camera)
    assert degrees < 0.5 and distance < 0.01
    assert (found.camera.width, found.camera.height) == (384, 224)


def test_depth_is_the_renderers(assets):
    camera = Camera(look_at((2, 1, 3)), 40, 256, 256)
    true = render(assets["spot"], camera)
    found = recover_camera(true.point_map, assets["spot"], 40)
    both = true.mask & found.decoded.mask
    assert np.abs(found.depth() - true.depth)[both].max() < 0.01


def test_viewport_camera_goes_there_and_back(assets):
    camera = Camera(look_at((2, 1, 3), (0.1, 0, 0), (0.3, 1, 0)), 40, 384, 224)
    info = to_viewport(camera, assets["truck"])
    again = from_viewport(info, assets["truck"], 384, 224)
    np.testing.assert_allclose(again.pose, camera.pose, atol=1e-9)
    assert again.fov == pytest.approx(camera.fov)
    json.dumps(info)


def test_matrix_and_intrinsics_project_the_files_own_vertices(assets):
    asset, camera = assets["truck"], Camera(look_at((2, 1, 3)), 40, 384, 224)
    lens = json.loads(intrinsics_json(camera))
    vertices = asset.vertices[:50] / asset.scale + asset.centre
    view = np.linalg.inv(file_matrix(camera, asset))
    x, y, z = view[:3, :3] @ vertices.T + view[:3, 3:]
    u = lens["cx"] + lens["fx"] * x / -z
    right, up, back = camera.pose[:3, :3].T @ (asset.vertices[:50] - camera.eye).T
    np.testing.assert_allclose(u, 192 + camera.focal * right / -back, atol=1e-8)


BAD = {
    "full of one colour": (lambda m: 0 * m + 0.4, "is one colour"),
    "white": (lambda m: np.ones_like(m), "is white: there is no subject"),
    "NaN": (lambda m: np.where(np.arange(256)[:, None, None] == 9, np.nan, m), "NaN or infinite"),
    "one colour": (lambda m: np.where(_subject(m), 0 * m + 0.4, 1.0), "is one colour"),
    "mirrored": (lambda m: m[:, ::-1], "mirrored"),
    "noise": (lambda m: np.random.default_rng(0).random(m.shape), "reliable pixels|no camera sees"),
    "tiny": (lambda m: np.where(_frame(m), m, 1.0), "reliable pixels, a camera needs 100"),
}


def _subject(m):
    return m.min(-1, keepdims=True) < 1


def _frame(m):
    keep = np.zeros((*m.shape[:2], 1), bool)
    keep[120:132, 120:132] = True
    return keep


@pytest.mark.parametrize("name", BAD)
def test_maps_that_carry_no_camera(assets, name):
    spoil, sentence = BAD[name]
    true = render(assets["spot"], Camera(look_at((3, 1, 3)), 45, 256, 256))
    with pytest.raises(ValueError, match=sentence):
        recover_camera(spoil(true.point_map), assets["spot"], 45)


def test_map_of_another_asset(assets):
    picture = render(assets["spot"], Camera(look_at((3, 1, 3)), 45, 256, 256)).point_map
    for other in ("controller", "truck"):
        with pytest.raises(ValueError, match="the asset that the map was made with|another asset"):
            recover_camera(picture, assets[other], 45)
