"""The asset's own detail in a picture: on exact renders, relit and blurred as a VAE blurs."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.labelled_can import can, label
from benchmarks.surface import printed, relit, similarity, spoil
from refany3d_core.asset import Camera, render
from refany3d_core.asset.cameras import orbit_pose
from refany3d_core.pointmap.alignment import align
from refany3d_core.pointmap.detail import transfer_detail
from refany3d_core.pointmap.registration import register

SIZE = 256


@pytest.fixture(scope="module")
def shot():
    """A can, a camera, the unlit view, its colours lit, and those and its map as a VAE has them."""
    asset = can(label(1024, 8))
    camera = Camera(orbit_pose(90, 10, 4.0), 45, SIZE, SIZE)
    view = render(asset, camera, supersampling=2)
    lit = relit(view)
    rng = np.random.default_rng(0)
    return asset, camera, view, lit, spoil(lit, rng), spoil(view.point_map, rng)


def test_the_label_comes_back(shot):
    asset, camera, view, lit, image, point_map = shot
    out = transfer_detail(image, point_map, asset)
    assert out.camera is not None
    where = printed(view)
    before, after = (similarity(x, view.color)[where].mean() for x in (image, out.image))
    assert after > 2 * before and after > 0.9
    # lit as the picture, not as the texture
    inside = ndimage.binary_erosion(view.mask, iterations=6)
    assert np.abs(out.image - lit)[inside].mean() < 0.02
    assert np.abs(view.color - lit)[inside].mean() > 0.05


def test_there_is_no_seam_at_the_silhouette(shot):
    """Ring by ring from the outline inwards the picture is no farther from the truth than it was,
    and outside it is the same, bit for bit."""
    asset, camera, view, lit, image, point_map = shot
    out = transfer_detail(image, point_map, asset, camera).image
    assert np.array_equal(out[~view.mask], image[~view.mask])
    depth = ndimage.distance_transform_edt(view.mask)
    for low, high in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 10)):
        ring = (depth > low) & (depth <= high)
        before, after = (np.abs(x - lit)[ring].mean() for x in (image, out))
        assert after < before + 0.002


def test_after_an_upscaler_and_with_the_locked_camera(shot):
    asset, camera, view, lit, image, point_map = shot
    large = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None], scale_factor=2, mode="bicubic"
    )[0].permute(1, 2, 0).clamp(0, 1).numpy()  # fmt: skip
    out = transfer_detail(large, point_map, asset, camera)
    truth = render(asset, camera.scaled(2), supersampling=2)
    assert out.image.shape == truth.color.shape
    where = printed(truth)
    before, after = (similarity(x, truth.color)[where].mean() for x in (large, out.image))
    assert after > 2 * before and after > 0.9


def test_a_noisy_map_is_brought_to_the_picture(shot):
    """Noise of a map moves the camera by parts of a pixel; the picture's own pattern moves it
    back."""
    asset, camera, view, lit, image, point_map = shot
    rng = np.random.default_rng(1)
    slow = ndimage.gaussian_filter(rng.normal(0, 0.3, point_map.shape), (4, 4, 0))
    found = align(np.clip(point_map + slow, 0, 1).astype(np.float32), asset)
    trust = found.trust(render(asset, found.camera).points)
    better = register(found.camera, asset, image, trust)

    def off(guess: Camera) -> float:
        points = view.points[printed(view)]
        x, y, _ = guess.project(points)
        wanted_x, wanted_y, _ = camera.project(points)
        return float(np.median(np.hypot(x - wanted_x, y - wanted_y)))

    assert off(found.camera) > 0.15 and off(better) < 0.5 * off(found.camera)
    plain = register(found.camera, asset, np.full_like(image, 0.5), trust)
    assert plain is found.camera  # nothing to go by


def test_strength_and_mask(shot):
    asset, camera, view, lit, image, point_map = shot
    nothing = transfer_detail(image, point_map, asset, camera, strength=0.0)
    assert np.array_equal(nothing.image, image)
    left = np.zeros((SIZE, SIZE), np.float32)
    left[:, : SIZE // 2] = 1
    out = transfer_detail(image, point_map, asset, camera, mask=left).image
    assert np.array_equal(out[:, SIZE // 2 :], image[:, SIZE // 2 :])
    full = transfer_detail(image, point_map, asset, camera)
    half = transfer_detail(image, point_map, asset, camera, strength=0.5)
    np.testing.assert_allclose(half.image, (image + full.image) / 2, atol=0.02)


def test_a_map_that_no_camera_explains_places_each_pixel(shot):
    """The picture and the map bent by a wave, which no pinhole camera does."""
    asset, camera, view, lit, image, point_map = shot
    rows, columns = np.indices((SIZE, SIZE)).astype(float)
    rows += 14 * np.sin(columns / 16)

    def bent(x):
        return np.stack(
            [ndimage.map_coordinates(x[..., k], (rows, columns), order=1, mode="nearest")
             for k in range(3)], axis=-1
        ).astype(np.float32)  # fmt: skip

    out = transfer_detail(bent(image), bent(point_map), asset)
    assert out.camera is None and out.refusal
    print_there = bent(np.repeat(printed(view)[..., None], 3, axis=2) * 1.0)[..., 0] > 0.9
    sure = (out.weight > 0.9) & print_there
    assert sure.sum() > 500
    truth = bent(view.color)
    before, after = (similarity(x, truth)[sure].mean() for x in (bent(image), out.image))
    assert after > before + 0.15


def test_what_hides_the_asset_stays(shot):
    """A hand in front: the map is white there, and the picture is left alone."""
    asset, camera, view, lit, image, point_map = (np.copy(x) if isinstance(x, np.ndarray) else x
                                                  for x in shot)  # fmt: skip
    image[100:160, 100:150] = 0.3
    point_map[100:160, 100:150] = 1.0
    out = transfer_detail(image, point_map, asset, camera)
    assert np.array_equal(out.image[100:160, 100:150], image[100:160, 100:150])
    assert out.weight[120, 170] > 0.9


def bad(shot, **changes):
    asset, camera, view, lit, image, point_map = shot
    given = {"image": image, "point_map": point_map, "asset": asset, "camera": camera, **changes}
    return transfer_detail(**given)


def test_bad_input(shot, assets):
    asset, camera, view, lit, image, point_map = shot
    with pytest.raises(ValueError, match="image is 256x200, but the point map 256x256"):
        bad(shot, image=image[:200])
    with pytest.raises(ValueError, match="smaller than its point map"):
        bad(shot, image=image[::2, ::2])
    with pytest.raises(ValueError, match="the mask is empty"):
        bad(shot, mask=np.zeros((SIZE, SIZE), np.float32))
    with pytest.raises(ValueError, match="white"):
        bad(shot, point_map=np.ones_like(point_map))
    with pytest.raises(ValueError, match="does not lie on the asset|another asset"):
        bad(shot, asset=assets["spot"], camera=None)
    with pytest.raises(ValueError, match="what the given camera sees"):
        bad(shot, camera=Camera(orbit_pose(90, 80, 4.0), 45, SIZE, SIZE))
    with pytest.raises(ValueError, match="the given camera are .* pixels apart"):
        bad(shot, camera=Camera(camera.pose, 45, SIZE, SIZE, (7.0, 0.0)))
    with pytest.raises(ValueError, match="NaN"):
        bad(shot, image=np.where(image > 0.9, np.nan, image))
