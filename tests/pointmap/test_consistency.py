"""Check Consistency: right references before wrong ones, the best of a batch, bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from refany3d_core.asset import Asset, Camera, look_at, render
from refany3d_core.asset.material import Texture
from refany3d_core.pointmap.consistency import (
    SurfaceColors,
    check_consistency,
    color_agreement,
    to_lab,
)

SIZE = 192


def retextured(asset: Asset, change) -> Asset:
    """The same shape with another texture: the hardest wrong reference."""
    parts = []
    for part in asset.parts:
        texture = part.material.texture
        if texture is not None:
            part = replace(
                part, material=replace(part.material, texture=Texture(change(texture.pixels)))
            )
        parts.append(part)
    return Asset(parts)


@pytest.fixture(scope="module")
def variants(assets):
    spot, truck = assets["spot"], assets["truck"]
    other = next(p.material.texture.pixels for p in truck.parts if p.material.texture)
    shapes = {
        "spot": spot,
        "other hue": retextured(spot, lambda p: p[..., [2, 0, 1, 3]]),
        "other texture": retextured(spot, lambda p: other),
        "mirrored texture": retextured(spot, lambda p: p[:, ::-1]),
        "truck": truck,
    }
    return {name: (asset, SurfaceColors(asset)) for name, asset in shapes.items()}


def painted(asset: Asset, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture as a model might paint it: other light, noise, a background; and a spoiled map."""
    direction = rng.normal(size=3) * (1, 0.4, 1)
    eye = direction / np.linalg.norm(direction) * rng.uniform(3.5, 5)
    view = render(asset, Camera(look_at(eye), 45, SIZE, SIZE), shading="headlight")
    lit = view.color * rng.uniform(0.6, 1.1) + rng.normal(size=3) * 0.03
    lit = ndimage.gaussian_filter(lit, (0.8, 0.8, 0)) + rng.normal(size=lit.shape) * 0.03
    background = ndimage.gaussian_filter(rng.random(lit.shape), (8, 8, 0)) * 2 - 0.5
    image = np.where(view.mask[..., None], lit, background).clip(0, 1).astype(np.float32)
    point_map = ndimage.gaussian_filter(view.point_map, (1.2, 1.2, 0))
    return image, np.round(point_map * 255) / 255


def test_right_references_rank_above_wrong_ones(variants):
    rng = np.random.default_rng(0)
    ranked, right_scores = [], []
    for right, (asset, _) in variants.items():
        image, point_map = painted(asset, rng)
        scores = {
            name: check_consistency(image, point_map, *one, 45).score
            for name, one in variants.items()
        }
        ranked += [scores[right] > s for name, s in scores.items() if name != right]
        right_scores.append(scores[right])
    assert np.mean(ranked) >= 0.95
    assert min(right_scores) > 0.6


def test_heat_shows_where_the_picture_is_wrong(variants):
    image, point_map = painted(variants["spot"][0], np.random.default_rng(1))
    good = check_consistency(image, point_map, *variants["spot"], 45)
    spoiled = image.copy()
    spoiled[:, : SIZE // 2] = (0.0, 0.8, 0.1)  # paint the left half green
    bad = check_consistency(spoiled, point_map, *variants["spot"], 45)
    left, right = (np.indices(bad.mask.shape)[1] < SIZE // 2), bad.mask
    assert bad.heat[left & right].mean() < 0.4 < bad.heat[~left & right].mean()
    assert bad.score < good.score and (good.heat[~good.mask] == 1).all()
    assert np.abs(good.overlay - image).mean() > 0.01


def test_lab_of_known_colours():
    colors = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1.0]])
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(to_lab(colors), known, atol=0.05)


def test_light_does_not_count_but_hue_does():
    rng = np.random.default_rng(0)
    asset = ndimage.gaussian_filter(rng.random((64, 64, 3)), (4, 4, 0))
    asset = (asset - asset.min()) / np.ptp(asset)
    mask = np.ones((64, 64), bool)
    same = color_agreement(asset, asset, mask).mean()
    darker = color_agreement(asset * 0.8, asset, mask).mean()
    hue = color_agreement(asset[..., [1, 2, 0]], asset, mask).mean()
    assert same == pytest.approx(1, abs=1e-3)
    assert darker > 0.95 and hue < 0.5


@pytest.fixture(scope="module")
def check(pack, mesh_files):
    def run(image, point_map, **options):
        node = pack.nodes["RefAny3D_CheckConsistency"]
        asset = pack.core("asset").load_asset(mesh_files["spot"])
        tensors = [torch.from_numpy(np.stack(x)).float() for x in (image, point_map)]
        out = node.execute(*tensors, asset, **options)
        return dict(zip([o.id for o in node.define_schema().outputs], out.result))

    return run


def test_node_picks_the_best_of_a_batch(check, variants):
    good, good_map = painted(variants["spot"][0], np.random.default_rng(2))
    wrong, wrong_map = painted(variants["other texture"][0], np.random.default_rng(3))
    white = np.ones_like(good)
    out = check([wrong, white, good], [wrong_map, white, good_map], fov=45.0)
    report = json.loads(out["report"])
    assert out["best_index"] == 2 and out["score"] == pytest.approx(report[2]["score"], abs=1e-3)
    assert report[1]["score"] == 0 and "white" in report[1]["no_camera"]
    weights = [float(weight) for weight in out["weights"].split(",")]
    assert weights == pytest.approx([r["score"] / out["score"] for r in report], abs=1e-3)
    assert out["heat_map"].shape == out["overlay"].shape == (3, SIZE, SIZE, 3)
    torch.testing.assert_close(out["best_image"][0], torch.from_numpy(good))
    torch.testing.assert_close(out["best_point_map"][0], torch.from_numpy(good_map).float())


def test_bad_input(check):
    white, grey = np.ones((64, 64, 3)), np.full((64, 64, 3), 0.5)
    with pytest.raises(ValueError, match="Check Consistency: the point map is white"):
        check([grey], [white])
    with pytest.raises(ValueError, match="there are 2 images but 1 point maps"):
        check([grey, grey], [white])
    with pytest.raises(ValueError, match="picture 0: image is 32x32, but the point map 64x64"):
        check([grey[:32, :32]], [white])
    with pytest.raises(ValueError, match="picture 0: the image has NaN"):
        check([grey * np.nan], [grey])
    with pytest.raises(ValueError, match="picture 0: the point map has .* NaN"):
        check([grey], [grey * np.nan])
