"""Many cameras at once, and the folder that other programs read."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from refany3d_core.asset.render import render
from refany3d_core.pointmap.camera_path import (
    along,
    cameras_from_transforms,
    key_poses,
    orbit_cameras,
    transforms_json,
)

SIZE = 64


@pytest.fixture(scope="module")
def run(pack, vae, mesh_files):
    def lock(**changes):
        node = pack.nodes["RefAny3D_LockCameraPath"]
        mesh = str(mesh_files["truck"])
        out = node.execute(**{"vae": vae, "mesh": mesh, "width": SIZE, "height": SIZE, **changes})
        return dict(zip([o.id for o in node.define_schema().outputs], out.result))

    return lock


def test_each_camera_is_what_lock_pose_gives(run, pack, vae, mesh_files):
    out = run(azimuths="0, 120, 200", pitches="10; 20; -5", distances="3.5")
    node = pack.nodes["RefAny3D_LockPose"]
    for i, (azimuth, pitch) in enumerate(((0.0, 10.0), (120.0, 20.0), (200.0, -5.0))):
        one = node.execute(
            vae=vae, mesh=str(mesh_files["truck"]), width=SIZE, height=SIZE, azimuth=azimuth,
            pitch=pitch, distance=3.5,
        ).result  # fmt: skip
        torch.testing.assert_close(
            out["latent"]["samples"][i], one[0]["samples"][0], rtol=1e-4, atol=1e-4
        )
        assert torch.equal(out["point_maps"][i], one[2][0])
        assert torch.equal(out["masks"][i], one[3][0])
    mask = out["latent"]["noise_mask"]
    assert mask.shape == (3, 1, 8, 16)
    assert (mask[..., :8] == 1).all() and (mask[..., 8:] == 0).all()
    assert out["latent"]["batch_index"] == [0, 0, 0]
    assert "batch_index" not in run(same_noise=False)["latent"]
    assert out["depth"].shape == out["views"].shape == (3, SIZE, SIZE, 3)
    assert out["contact_sheet"].shape[0] == 1


def test_a_path_goes_from_key_to_key():
    keys = key_poses([0.0, 90.0, 360.0], [10.0], [4.0, 3.0, 4.0])
    path = along(keys, 5)
    assert path == [(0, 10, 4), (45, 10, 3.5), (90, 10, 3), (225, 10, 3.5), (360, 10, 4)]


def test_cameras_go_through_transforms_json(assets):
    asset = assets["truck"]
    cameras = orbit_cameras([(30.0, 20.0, 4.0), (200.0, 5.0, 6.0)], 40.0, 96, SIZE)
    again = cameras_from_transforms(transforms_json(cameras, asset), asset, 96, SIZE)
    for first, second in zip(cameras, again):
        np.testing.assert_allclose(first.pose, second.pose, atol=1e-9)
        assert math.isclose(first.fov, second.fov)
    larger = cameras_from_transforms(transforms_json(cameras, asset), asset, 192, 2 * SIZE)
    small, large = render(asset, cameras[0]), render(asset, larger[0])
    assert abs(large.mask.mean() - small.mask.mean()) < 0.01


def test_blenders_lens_and_any_frame_order(assets):
    """camera_angle_x for all, as NeRF's synthetic sets have it."""
    asset = assets["spot"]
    (camera,) = orbit_cameras([(10.0, 0.0, 4.0)], 50.0, 128, SIZE)
    frame = json.loads(transforms_json([camera], asset))["frames"][0]
    angle = 2 * math.atan(128 / 2 / camera.focal)
    text = json.dumps(
        {"camera_angle_x": angle, "frames": [{"transform_matrix": frame["transform_matrix"]}]}
    )
    (found,) = cameras_from_transforms(text, asset, 128, SIZE)
    assert math.isclose(found.fov, 50.0)


def test_batch_through_the_sampler(golden, run):
    """Every row keeps its own map; with the same noise equal cameras give equal pictures."""
    latent = run(azimuths="0, 0, 90")["latent"]
    node = golden.nodes["RefAny3D_Sampler"]
    out = node.execute(
        model=golden.model, adapters=golden.adapters, positive=golden.positive(),
        reference=golden.golden_reference(), seed=3, steps=2, latent=latent,
    ).result  # fmt: skip
    image, point_map = (x["samples"] for x in out)
    assert (point_map - latent["samples"][..., 8:]).abs().max() < 1e-5
    torch.testing.assert_close(image[0], image[1], rtol=1e-4, atol=1e-4)
    assert (image[0] - image[2]).abs().max() > 1e-3


def save(pack, out, **more):
    node = pack.nodes["RefAny3D_SaveCameraPath"]
    values = {"cameras": out["cameras"], "point_maps": out["point_maps"], **more}
    return node.execute(**values).result[0]


def test_the_folder(run, pack, host_base):
    from pathlib import Path

    out = run(azimuths="0, 90, 180")
    refs = {"views": torch.rand(4, 32, 32, 3), "view_point_maps": torch.rand(4, 32, 32, 3)}
    images = torch.rand(3, SIZE, SIZE, 3)
    more = {"masks": out["masks"], "depth": out["depth"], "caption": "a red truck", **refs}
    folder = Path(save(pack, out, images=images, **more))
    assert folder.is_relative_to(host_base / "output")
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    for i, frame in enumerate(frames):
        saved = np.asarray(Image.open(folder / frame["file_path"]))
        assert np.array_equal(saved, (images[i].numpy() * 255).round())
        point_map = np.asarray(Image.open(folder / "point_maps" / f"{i:04d}.png"))
        assert (point_map[out["masks"][i] == 0] == 255).all()  # white where there is no object
    (entry,) = json.loads((folder / "metadata.json").read_text())
    assert {"text", "ref", "ref_coordmap", "fg_coordmap"} <= set(entry)
    counts = {name: len(list((folder / entry[name]).glob("*.png")))
              for name in ("ref", "ref_coordmap", "fg_coordmap")}  # fmt: skip
    assert counts == {"ref": 4, "ref_coordmap": 4, "fg_coordmap": 3}
    again = Path(save(pack, out))
    assert again != folder and not (again / "metadata.json").exists()


BAD = {
    "words": ({"azimuths": "front, left"}, "azimuths is 'front, left'; write numbers"),
    "empty": ({"pitches": ""}, "pitches is ''; write numbers"),
    "infinite": ({"distances": "inf"}, "distances is 'inf'; write numbers"),
    "lengths": ({"azimuths": "0, 1, 2", "pitches": "1, 2"}, "pitches has 2 entries, the longest"),
    "one key": ({"azimuths": "0", "frames": 8}, "frames is 8 over 1 key cameras"),
    "inside": ({"distances": "4, 4, 0.1, 4"}, "camera 2 of 4: the camera is inside the asset"),
    "too many": ({"azimuths": ",".join(["1"] * 513)}, "there are 513 cameras, the limit is 512"),
    "no json": ({"cameras": "hello"}, "'cameras' is not a transforms.json"),
    "no lens": (
        {"cameras": json.dumps({"frames": [{"transform_matrix": np.eye(4).tolist()}]})},
        "'cameras' is not a transforms.json .*camera_angle_x",
    ),
    "away": (
        {"cameras": json.dumps({"camera_angle_x": 0.7, "frames": [
            {"transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -90], [0, 0, 0, 1]]}]})},
        "camera 0 of 1: the camera looks away from the asset",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(run, name):
    changes, sentence = BAD[name]
    with pytest.raises(ValueError, match="Lock Camera Path: .*" + sentence):
        run(**changes)


def test_saving_what_does_not_belong_together(run, pack):
    out = run(azimuths="0, 90")
    with pytest.raises(ValueError, match="Save Camera Path: 'images' holds 5 pictures for 2"):
        save(pack, out, images=torch.zeros(5, SIZE, SIZE, 3))
    with pytest.raises(ValueError, match="reference views and their point maps are not equally"):
        save(pack, out, views=torch.zeros(5, SIZE, SIZE, 3))
    with pytest.raises(ValueError, match="'cameras' is not a transforms.json"):
        save(pack, {**out, "cameras": "[]"})


def test_folders_that_refuse(run, pack, host_base):
    out = run(azimuths="0, 90")
    with pytest.raises(
        ValueError, match="^Save Camera Path: filename_prefix is '../../x'; it has to"
    ):
        save(pack, out, filename_prefix="../../x")
    (host_base / "output" / "a file").write_text("")
    with pytest.raises(ValueError, match="^Save Camera Path: a file is where a folder should be"):
        save(pack, out, filename_prefix="a file/path")
