"""Estimate Pose and Save Triplet, as nodes."""

import json
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch

from refany3d_core.asset import Camera, load_asset, look_at, render
from refany3d_core.asset.cameras import from_viewport
from refany3d_core.pointmap.camera import to_viewport

ROOT = Path(__file__).resolve().parents[2]
CAMERA = Camera(look_at((2.5, 1.5, 4), (0.2, 0, 0)), 35.0, 160, 160)


@pytest.fixture(scope="module")
def asset():
    return load_asset(ROOT / "assets" / "spot.glb")


@pytest.fixture(scope="module")
def mesh(pack):
    asset = pack.core("asset").load_asset(ROOT / "assets" / "spot.glb")
    return pack.core("asset.from_trimesh").to_trimesh(asset)


@pytest.fixture(scope="module")
def picture(asset):
    """(image [1, H, W, 3], mask [1, H, W])."""
    view = render(asset, CAMERA, background=(0.2, 0.3, 0.5))
    return torch.from_numpy(view.color)[None], torch.from_numpy(view.mask)[None].float()


def run(pack, node: str, **inputs) -> dict:
    cls = pack.nodes[node]
    out = cls.execute(**inputs)
    return dict(zip([o.id for o in cls.define_schema().outputs], out.result, strict=True))


def test_the_pose_of_a_picture_and_its_overlay(pack, mesh, asset, picture):
    image, mask = picture
    out = run(pack, "RefAny3D_EstimatePose", mesh=mesh, image=image, mask=mask, fov=30.0)
    found = from_viewport(out["camera_info"], asset, 160, 160)
    trace = np.trace(found.pose[:3, :3].T @ CAMERA.pose[:3, :3])
    assert np.degrees(np.arccos(min((trace - 1) / 2, 1))) < 4
    assert out["iou"] > 0.9 and out["ambiguity"] < 0.2
    assert out["info"].startswith("Pose accepted.")
    assert out["overlay"].shape == image.shape
    green = (out["overlay"][0] - torch.tensor([0.1, 1.0, 0.2])).abs().amax(-1) < 1e-3
    assert green.any() and (mask[0][green] > 0).float().mean() > 0.8


def test_bad_pictures_are_refused_in_a_sentence(pack, mesh, picture):
    image, mask = picture
    for change, message in (
        ({"mask": mask * 0}, "Estimate Pose: the mask is empty"),
        ({"image": image * 0 + 0.5}, "Estimate Pose: the picture is of one colour"),
        ({"batch_index": 3}, "batch_index is 3, but there are 1 pictures"),
    ):
        inputs = {"mesh": mesh, "image": image, "mask": mask} | change
        with pytest.raises(ValueError, match=message):
            run(pack, "RefAny3D_EstimatePose", **inputs)


def test_a_triplet_is_saved_once_and_a_refused_pose_not(pack, mesh, asset, picture):
    image, mask = picture
    triplet = {
        "image": image, "mask": mask, "mesh": mesh, "camera_info": to_viewport(CAMERA, asset),
        "caption": "A cow in the blue", "item": "cow", "dataset": "cows",
    }  # fmt: skip
    record = Path(run(pack, "RefAny3D_SaveTriplet", **triplet)["record"])
    assert run(pack, "RefAny3D_SaveTriplet", **triplet)["record"] == str(record)
    root = Path(folder_paths.get_output_directory(), "refany3d", "cows")
    assert record.parent == root
    assert len(json.loads((root / "meta_data.json").read_text())) == 1
    for refused in ({"iou": 0.8}, {"ambiguity": 0.6}):
        again = triplet | {"caption": "Another"} | refused
        assert run(pack, "RefAny3D_SaveTriplet", **again)["record"] == ""
    for change, message in (
        ({"caption": " "}, "Save Triplet: caption is empty"),
        ({"mask": mask * 0}, "Save Triplet: the mask is empty"),
        ({"image": image.repeat(2, 1, 1, 1)}, "holds 2 pictures"),
    ):
        with pytest.raises(ValueError, match=message):
            run(pack, "RefAny3D_SaveTriplet", **triplet | change)
    for name in ("", "../elsewhere", "/tmp", "."):
        assert "dataset is" in str(pack.nodes["RefAny3D_SaveTriplet"].validate_inputs(dataset=name))
