"""The solver by itself: exact data, flat scenes, outliers, unknown focal length, and OpenCV's."""

import numpy as np
import pytest

from refany3d_core.pointmap.pnp import solve_pnp

SIZE = 512


def scene(seed: int, flat: bool = False, noise: float = 0.0, outliers: float = 0.0):
    """Points, their pixels, rotation, translation and focal length."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    translation = np.array([*rng.uniform(-0.3, 0.3, 2), rng.uniform(3.5, 6)])
    focal = rng.uniform(450, 800)
    points = rng.uniform(-1, 1, (800, 3)) * (1, 1, 0 if flat else 1)
    x = points @ rotation.T + translation
    pixels = focal * x[:, :2] / x[:, 2:] + rng.normal(size=(800, 2)) * noise
    wrong = rng.random(800) < outliers
    pixels[wrong] = rng.uniform(-SIZE / 2, SIZE / 2, (wrong.sum(), 2))
    return points, pixels, rotation, translation, focal


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


@pytest.mark.parametrize("flat", [False, True], ids=["solid", "flat"])
@pytest.mark.parametrize("seed", range(4))
def test_exact_data_give_the_exact_pose(seed, flat):
    points, pixels, rotation, translation, focal = scene(seed, flat)
    pose = solve_pnp(points, pixels, SIZE * 1.4, 5.0, focal)
    assert degrees(pose.rotation, rotation) < 1e-3
    np.testing.assert_allclose(pose.translation, translation, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_third_of_outliers_and_an_unknown_focal_length(seed):
    points, pixels, rotation, translation, focal = scene(seed, noise=0.5, outliers=0.33)
    pose = solve_pnp(points, pixels, SIZE * 1.4, 5.0)
    assert degrees(pose.rotation, rotation) < 0.3
    assert pose.focal == pytest.approx(focal, rel=0.02)
    assert np.linalg.norm(pose.translation - translation) < 0.02 * np.linalg.norm(translation)


@pytest.mark.parametrize("flat", [False, True], ids=["solid", "flat"])
def test_not_worse_than_opencv(flat):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is only an oracle here, not a requirement")
    ours, theirs = [], []
    for seed in range(6):
        points, pixels, rotation, _, focal = scene(seed, flat, noise=0.5, outliers=0.1)
        camera = np.array([[focal, 0, 0], [0, focal, 0], [0, 0, 1.0]])
        good, vector, shift, inliers = cv2.solvePnPRansac(
            points, pixels, camera, None, reprojectionError=5.0, flags=cv2.SOLVEPNP_SQPNP
        )
        assert good
        kept = inliers[:, 0]
        vector, _ = cv2.solvePnPRefineLM(points[kept], pixels[kept], camera, None, vector, shift)
        theirs.append(degrees(cv2.Rodrigues(vector)[0], rotation))
        pose = solve_pnp(points, pixels, SIZE * 1.4, 5.0, focal)
        ours.append(degrees(pose.rotation, rotation))
    assert np.mean(ours) < 1.2 * np.mean(theirs) + 1e-3
