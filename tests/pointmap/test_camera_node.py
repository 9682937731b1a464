"""Camera from Point Map and Point Map Decode, as nodes."""

import json

import numpy as np
import pytest
import torch

from refany3d_core.asset import Camera, look_at, render
from refany3d_core.asset.cameras import from_viewport


@pytest.fixture(scope="module")
def spot(pack, mesh_files):
    """Spot as the pack's own TRIMESH."""
    asset = pack.core("asset").load_asset(mesh_files["spot"])
    return pack.core("asset.from_trimesh").to_trimesh(asset)


@pytest.fixture(scope="module")
def solve(pack, spot):
    def run(maps, **options):
        node = pack.nodes["RefAny3D_CameraFromPointMap"]
        out = node.execute(point_map=torch.from_numpy(np.stack(maps)).float(), mesh=spot, **options)
        return dict(zip([o.id for o in node.define_schema().outputs], out.result))

    return run


CAMERA = Camera(look_at((2, 1, 3), (0, 0, 0), (0.2, 1, 0)), 40.0, 256, 192)


def test_all_outputs_tell_the_same_camera(assets, solve, spoil):
    asset = assets["spot"]
    white = np.ones((192, 256, 3))
    out = solve([white, spoil(asset, CAMERA)], batch_index=1)
    again = from_viewport(out["camera_info"], asset, 256, 192)
    assert np.linalg.norm(again.eye - CAMERA.eye) < 0.01 * np.linalg.norm(CAMERA.eye)
    matrix, lens = np.array(json.loads(out["matrix"])), json.loads(out["intrinsics"])
    np.testing.assert_allclose(matrix[:3, :3], CAMERA.pose[:3, :3], atol=0.005)
    eye = CAMERA.eye / asset.scale + asset.centre  # in the file's units
    np.testing.assert_allclose(matrix[:3, 3], eye, atol=0.03 / asset.scale)
    assert lens["fov_y"] == pytest.approx(40, abs=0.5) and lens["cx"] == 128
    assert out["inlier_ratio"] > 0.95 and out["rmse"] < 1.5


def test_gltf_holds_the_camera_and_loads(solve, assets):
    import trimesh

    out = solve([render(assets["spot"], CAMERA).point_map])
    document = json.loads(out["camera_gltf"].get_bytes())
    assert out["camera_gltf"].format == "gltf"
    node, lens = document["nodes"][0], document["cameras"][0]["perspective"]
    np.testing.assert_allclose(
        np.array(node["matrix"]).reshape(4, 4).T, np.array(json.loads(out["matrix"]))
    )
    assert np.degrees(lens["yfov"]) == pytest.approx(40, abs=0.5)
    assert lens["aspectRatio"] == pytest.approx(256 / 192)
    scene = trimesh.load(
        out["camera_gltf"].get_data(), file_type="gltf", force="scene", process=False
    )
    assert not scene.geometry


def test_depth_and_normals(solve, assets):
    true = render(assets["spot"], CAMERA)
    out = solve([true.point_map])
    assert out["depth"].shape == out["normals"].shape == (1, 192, 256, 3)
    inside = true.mask & (out["normals"][0].numpy().max(-1) > 0)
    found = out["normals"][0].numpy()[inside] * 2 - 1
    expected = true.normal[inside] @ CAMERA.pose[:3, :3]
    angle = np.degrees(np.arccos(np.clip((found * expected).sum(-1), -1, 1)))
    assert np.median(angle) < 12
    depth = out["depth"][0, ..., 0].numpy()[inside]
    assert np.corrcoef(depth, true.depth[inside])[0, 1] < -0.99


def test_sentences_name_the_node(solve, assets):
    white = np.ones((64, 64, 3))
    with pytest.raises(ValueError, match="^Camera from Point Map: the point map is white"):
        solve([white])
    with pytest.raises(ValueError, match="batch_index is 3, but there are 1 point maps"):
        solve([white], batch_index=3)


def test_decode_node_gives_the_files_units(pack, spot, vae, assets):
    true = render(assets["spot"], Camera(look_at((2, 1, 3)), 40, 128, 128))
    latent = {"samples": vae.encode(torch.from_numpy(true.point_map)[None])}
    node = pack.nodes["RefAny3D_DecodePointMap"]
    ids = [o.id for o in node.define_schema().outputs]
    assert ids[:2] == ["point_map", "mask"]
    plain = dict(zip(ids, node.execute(vae=vae, point_map=latent).result))
    own = dict(zip(ids, node.execute(vae=vae, point_map=latent, mesh=spot).result))
    torch.testing.assert_close(plain["point_map"], own["point_map"])
    assert {plain[k].shape for k in ("mask", "confidence")} == {(1, 128, 128)}
    on = plain["mask"][0] > 0
    low, high = torch.from_numpy(assets["spot"].bounds).float()
    torch.testing.assert_close(
        own["xyz"][0][on], (plain["xyz"][0][on] + 1) / 2 * (high - low) + low
    )
    torch.testing.assert_close(plain["xyz"][0][on], plain["point_map"][0][on] * 2 - 1)


def test_decode_node_names_a_broken_latent(pack, vae):
    latent = {"samples": torch.full((1, 16, 16, 16), torch.nan)}
    with pytest.raises(ValueError, match="^Point Map Decode: the point map has .* NaN"):
        pack.nodes["RefAny3D_DecodePointMap"].execute(vae=vae, point_map=latent)
