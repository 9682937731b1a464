"""Pictures back on the asset: a round trip over exact renders, blending, holes, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.surface import blank, four_cameras, round_trip, spoil
from refany3d_core.asset import load_asset, render, to_asset
from refany3d_core.asset.cameras import Camera, orbit_pose
from refany3d_core.asset.load import load_bytes
from refany3d_core.pointmap.camera_path import transforms_json
from refany3d_core.pointmap.painting import paint_mesh

SIZE = 256
SPOT = Path(__file__).resolve().parents[2] / "assets" / "spot.glb"


@pytest.fixture(scope="module")
def spot(assets):
    return assets["spot"]


@pytest.fixture(scope="module")
def shots(spot):
    """Four cameras, what they see, and their maps."""
    cameras = four_cameras(SIZE)
    views = [render(spot, camera, supersampling=2) for camera in cameras]
    rng = np.random.default_rng(0)
    return cameras, [v.color for v in views], [spoil(v.point_map, rng) for v in views]


def test_round_trip_over_exact_renders(spot):
    """At the size that FLUX.1 makes: more than 35 dB where all is paint, 90 % of what is seen."""
    out, found = round_trip(spot, four_cameras(512), given=True)
    assert found["psnr"] > 35 > 10 > found["floor"]
    assert found["covered"] > 0.9
    assert out.texture.shape == (1024, 1024, 4)  # its own texture's size and coordinates
    np.testing.assert_array_equal(out.asset.parts[0].uv, spot.parts[0].uv)


def test_cameras_are_found_where_none_are_given(spot, shots):
    cameras, images, maps = shots
    given = paint_mesh(blank(spot), images[:2], maps[:2], cameras[:2], size=512)
    found = paint_mesh(blank(spot), images[:2], maps[:2], size=512)
    both = (given.paint == 1) & (found.paint == 1)
    assert both.sum() > 0.9 * (given.paint == 1).sum()
    assert np.abs(given.texture[both] - found.texture[both].astype(int)).mean() < 3


def test_a_mesh_without_coordinates_is_unwrapped(spot, shots):
    cameras, images, maps = shots
    bare = blank(spot)
    bare = type(bare)([type(p)(p.vertices, p.faces) for p in bare.parts])
    out = paint_mesh(bare, images, maps, cameras, size=512)
    for camera, image in zip(cameras, images):
        again = render(out.asset, camera, supersampling=2)
        inside = again.mask & (np.abs(again.color - 0.4).max(-1) > 0.02)  # not the grey of before
        assert inside.sum() > 0.7 * again.mask.sum()
        assert np.abs(again.color - image)[inside].mean() < 0.03


def test_holes_keep_the_old_texture_byte_for_byte_or_take_the_nearest_paint(spot, shots):
    cameras, images, maps = shots
    red = [np.where(image < 1, np.float32((1, 0, 0)), image) for image in images[:1]]
    old = paint_mesh(spot, red, maps[:1], cameras[:1])
    bare = old.surface & (old.paint == 0)
    assert bare.sum() > 0.3 * old.surface.sum()
    before = spot.parts[0].material.texture.pixels
    np.testing.assert_array_equal(old.texture[bare], before[bare])
    assert np.abs(old.texture[old.paint == 1][:, :3] - (255, 0, 0)).mean() < 4
    full = paint_mesh(spot, red, maps[:1], cameras[:1], size=256, holes="nearest paint")
    assert np.abs(full.texture[full.surface][:, :3] - (255, 0, 0)).mean() < 4


def test_the_picture_that_sees_better_prevails(spot):
    """Two cameras, one red, one blue: each side has its own colour, and it is mixed in between."""
    cameras = [Camera(orbit_pose(a, 10, 3.4), 45, SIZE, SIZE) for a in (60, 120)]
    views = [render(spot, camera) for camera in cameras]
    colors = ((1, 0, 0), (0, 0, 1))
    images = [np.where(v.mask[..., None], np.float32(c), 1) for v, c in zip(views, colors)]
    out = paint_mesh(blank(spot), images, [v.point_map for v in views], cameras, size=512)
    painted = out.texture[out.paint == 1].astype(float)
    red, blue = painted[:, 0] / 255, painted[:, 2] / 255
    assert 0.3 < (red > 0.9).mean() and 0.3 < (blue > 0.9).mean()
    assert 0.02 < ((red > 0.2) & (blue > 0.2)).mean() < 0.4
    for azimuth, channel in ((20, 0), (160, 2)):
        seen = render(out.asset, Camera(orbit_pose(azimuth, 10, 3.4), 45, SIZE, SIZE))
        own = seen.color[seen.mask & (np.abs(seen.color - 0.5).max(-1) > 0.1)]
        assert (own[:, channel] > 0.6).mean() > 0.9


def test_a_picture_that_does_not_belong_is_left_out(spot, shots):
    cameras, images, maps = shots
    white = np.ones_like(maps[0])
    out = paint_mesh(spot, images[:2], [maps[0], white], cameras[:2], size=256)
    assert list(out.refusals) == [1] and "white" in out.refusals[1]
    assert out.views[0] > 0.2 and out.views[1] == 0


def test_bad_input(spot, shots, assets):
    cameras, images, maps = shots

    def bad(asset=spot, images=images[:1], maps=maps[:1], cameras=cameras[:1], **options):
        return paint_mesh(asset, images, maps, cameras, size=256, **options)

    with pytest.raises(ValueError, match="there are 1 images but 2 point maps"):
        bad(maps=maps[:2])
    with pytest.raises(ValueError, match="there are 1 images but 2 cameras"):
        bad(cameras=cameras[:2])
    with pytest.raises(ValueError, match="image is 256x100, but the point map 256x256"):
        bad(images=[images[0][:100]])
    with pytest.raises(ValueError, match="the mask is empty"):
        bad(masks=[np.zeros((SIZE, SIZE), np.float32)])
    with pytest.raises(ValueError, match="no picture can be painted: the point map is white"):
        bad(maps=[np.ones_like(maps[0])])
    with pytest.raises(ValueError, match="no picture can be painted: only .* of the point map"):
        bad(assets["controller"])
    with pytest.raises(ValueError, match="NaN"):
        bad(images=[images[0] * np.nan])
    corner = np.zeros((SIZE, SIZE), np.float32)
    corner[:4, :4] = 1
    with pytest.raises(ValueError, match="show nothing of the mesh"):
        bad(masks=[corner])


def test_the_node_gives_one_mesh_in_three_forms(pack, spot, shots):
    cameras, images, maps = shots
    node = pack.nodes["RefAny3D_PaintMesh"]
    pictures = (torch.from_numpy(np.stack(x).astype(np.float32)) for x in (images, maps))
    asset = load_asset(SPOT)
    out = node.execute(
        str(SPOT), *pictures, cameras=transforms_json(cameras, asset), texture_size=512
    )
    names = [o.id for o in node.define_schema().outputs]
    got = dict(zip(names, out.result))
    glb = got["model_3d"]
    assert names[:2] == ["mesh", "model_3d"] and glb.format == "glb"
    camera = cameras[0]
    inside = render(asset, camera).mask
    for form in (got["mesh"], load_bytes(glb.get_bytes(), "glb"), got["core_mesh"]):
        again = render(to_asset(form), camera, supersampling=2)
        assert np.array_equal(again.mask, inside)
        assert np.abs(again.color - images[0])[inside].mean() < 0.02
    assert got["texture"].shape == (1, 512, 512, 3) and got["painted"].shape == (1, 512, 512)
    assert "picture 3: " in got["info"] and "% of the texture" in got["info"]


def test_the_detail_node(pack, shots):
    cameras, images, maps = shots
    node = pack.nodes["RefAny3D_TransferDetail"]
    image = torch.from_numpy(np.stack(images[:2]))
    point_map = torch.from_numpy(np.stack(maps[:2]))
    out = node.execute(image, point_map, str(SPOT), mask=torch.ones(1, 64, 64))
    picture, weight, report = out.result
    assert picture.shape == image.shape and weight.shape == image.shape[:3]
    first, second = json.loads(report)
    assert first["placed_by"] == second["placed_by"] == "camera" and first["covered"] > 0.1
    with pytest.raises(ValueError, match="Transfer Surface Detail: there are 2 images but 1 point"):
        node.execute(image, point_map[:1], str(SPOT))
    with pytest.raises(ValueError, match="Transfer Surface Detail: mask is 64x32, but the image"):
        node.execute(image, point_map, str(SPOT), mask=torch.ones(1, 32, 64))
    with pytest.raises(ValueError, match="Transfer Surface Detail: a int is not a mesh"):
        node.execute(image, point_map, 3)


@pytest.mark.parametrize("name", ["RefAny3D_TransferDetail", "RefAny3D_PaintMesh"])
def test_every_socket_is_explained(pack, name):
    schema = pack.nodes[name].define_schema()
    assert all(socket.tooltip for socket in [*schema.inputs, *schema.outputs])
