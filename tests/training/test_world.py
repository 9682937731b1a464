"""The procedural world's closed forms against the pack's own renderer, and the measures of
fidelity."""

import dataclasses

import numpy as np
import pytest
import torch

from refany3d_core.asset import Camera, look_at, render
from refany3d_core.asset.load import load_bytes
from refany3d_core.asset.views import render_reference_views
from refany3d_core.pointmap.consistency import SurfaceColors
from refany3d_core.training.config import WorldConfig
from refany3d_core.training.evaluation.estimated import measure_by_estimate, whole_subject
from refany3d_core.training.evaluation.fidelity import image_subject, iou, measure
from refany3d_core.training.small.world.assets import make_assets
from refany3d_core.training.small.world.mesh import asset_glb
from refany3d_core.training.small.world.render import render_targets, render_views
from refany3d_core.training.small.world.scenes import random_scenes
from refany3d_core.training.small.world.triplets import world_source

COUNT, SIZE = 12, 96


@pytest.fixture(scope="module")
def held_out():
    return make_assets(0, "held_out", COUNT)


@pytest.fixture(scope="module")
def targets(held_out):
    pictures = render_targets(held_out, random_scenes(np.random.default_rng(0), COUNT), SIZE, "cpu")
    floats = (x.permute(0, 2, 3, 1).numpy() / 255 for x in (pictures.rgb, pictures.point_map))
    return *floats, pictures.mask.numpy()


@pytest.mark.parametrize("row", range(0, COUNT, 2))
def test_reference_views_are_those_of_the_mesh(held_out, row):
    exact = render_views(held_out[slice(row, row + 1)], 4, SIZE, "cpu")
    views = render_reference_views(load_bytes(asset_glb(held_out, row), "glb"), 4, SIZE)
    mask = exact.mask[0].numpy()
    assert (mask != (views.masks > 0)).mean() < 0.002
    both = mask & (views.masks > 0)
    for ours, theirs in ((exact.rgb, views.colors), (exact.point_map, views.point_maps)):
        picture = ours[0].permute(0, 2, 3, 1).numpy() / 255
        assert np.abs(picture - theirs)[both].mean() < 0.01


@pytest.mark.parametrize("row", range(0, COUNT, 3))
def test_a_true_picture_measures_as_true(held_out, targets, row):
    image, point_map, mask = (x[row] for x in targets)
    asset = load_bytes(asset_glb(held_out, row), "glb")
    found = measure(image, point_map, asset, SurfaceColors(asset), 45.0).values
    assert found["posed"] == 1
    assert found["subject_iou"] > 0.95 and found["silhouette_iou"] > 0.95
    assert found["colour_error"] < 0.04 and found["map_error"] < 0.02
    assert found["coverage"] == pytest.approx(mask.mean(), abs=0.01)


@pytest.mark.parametrize("row", range(0, COUNT, 3))
def test_a_bent_map_is_measured_from_about_its_true_camera(held_out, row):
    """Points that a smooth bend moves by up to a tenth of the box, seen from a known camera."""
    asset = load_bytes(asset_glb(held_out, row), "glb")
    true = Camera(look_at((2.2, 1.4, 2.6), (0.1, 0.0, 0.0)), 45.0, SIZE, SIZE)
    view = render(asset, true)
    bend = 0.1 * np.sin(4 * view.point_map[..., ::-1] + (0.0, 1.0, 2.0))
    bent = np.where(view.mask[..., None], view.point_map + bend, 1.0).clip(0, 1)
    error = np.linalg.norm((bent - view.point_map)[view.mask], axis=-1).mean()
    found = measure(bent, bent, asset, SurfaceColors(asset), 45.0).values
    assert 0.03 < found["map_error"] < 1.1 * error and found["silhouette_iou"] > 0.85


def test_another_assets_colours_measure_as_wrong(held_out, targets):
    image, point_map, _ = (x[3] for x in targets)
    asset, other = (load_bytes(asset_glb(held_out, row), "glb") for row in (3, 4))
    right, wrong = (
        measure(image, point_map, a, SurfaceColors(a), 45.0).values for a in (asset, other)
    )
    assert wrong["colour_error"] > 4 * right["colour_error"]


@pytest.mark.parametrize("shift", [3, -3])
def test_the_images_own_subject_is_found_beside_a_shifted_map(targets, shift):
    image, _, masks = targets
    for row in range(COUNT):
        shifted = np.roll(masks[row], shift, axis=1)
        found = image_subject(image[row], shifted)
        assert iou(found, masks[row]) > iou(shifted, masks[row])


def test_an_empty_map_measures_as_nothing(held_out):
    asset = load_bytes(asset_glb(held_out, 0), "glb")
    white = np.ones((32, 32, 3), np.float32)
    found = measure(white, white, asset, SurfaceColors(asset), None).values
    assert found["coverage"] == 0 and found["posed"] == 0 and np.isnan(found["map_error"])


def test_a_subjects_set_is_its_views_and_other_sets_keep_their_names():
    world = WorldConfig(resolution=64, views=3, subject=4)
    source = world_source(world, "train")
    chunk = source.make(0)
    assert source.chunks == 1 and chunk.targets.shape == (1, 3, 2, 3, 64, 64)
    assert torch.equal(chunk.targets[0].transpose(0, 1), chunk.views[0])
    assert chunk.captions == [[f"a {make_assets(0, 'held_out', 1, 4).name(0)}"] * 3]
    other = world_source(dataclasses.replace(world, subject=5), "train")
    assert other.made_of != source.made_of
    # encodings and shards of scenes are looked up by this name
    assert "subject" not in world_source(WorldConfig(), "train").made_of
    with pytest.raises(ValueError, match="holds nothing out"):
        world_source(world, "held_out")


def test_the_subject_of_a_picture_alone_is_found(targets):
    images, _, masks = targets
    found = [iou(whole_subject(image), mask > 0) for image, mask in zip(images, masks)]
    assert np.median(found) > 0.9


def test_a_camera_found_in_the_picture_tells_right_from_wrong(held_out, targets):
    right, wrong = (
        measure_by_estimate(targets[0][4], load_bytes(asset_glb(held_out, i), "glb"), 45.0)
        for i in (4, 5)
    )
    assert right["estimate_posed"] == 1 and right["estimate_iou"] > 0.8
    assert wrong["estimate_posed"] == 0
    assert wrong["estimate_colour_error"] > 4 * right["estimate_colour_error"]
