"""Choose Views: the views that look as the asked camera does."""

import json

import pytest
import torch

from refany3d_core.asset.cameras import azimuths


@pytest.fixture(scope="module")
def rendered(pack, mesh_files):
    node = pack.nodes["RefAny3D_RenderViews"]
    names = [o.id for o in node.define_schema().outputs]
    out = node.execute(str(mesh_files["cube"]), views=8, resolution=32)
    return dict(zip(names, out.args))


@pytest.fixture(scope="module")
def reference(pack):
    latents = torch.arange(8.0)[:, None, None, None].expand(8, 16, 4, 4)
    return pack.core("reference").Reference(latents, latents + 100, torch.zeros(1, 16, 4, 4))


def camera(pack, vae, mesh_files, azimuth, pitch=20.0):
    node = pack.nodes["RefAny3D_LockPose"]
    out = node.execute(vae=vae, mesh=str(mesh_files["cube"]), width=64, height=64,
                       azimuth=azimuth, pitch=pitch)  # fmt: skip
    return out.args[5]


@pytest.mark.parametrize("azimuth", [0.0, 100.0, 200.0, 350.0])
def test_the_nearest_views_are_kept(pack, vae, mesh_files, rendered, reference, azimuth):
    info = camera(pack, vae, mesh_files, azimuth)
    away = [abs((a - azimuth + 180) % 360 - 180) for a in azimuths(8)]
    nearest = sorted(sorted(range(8), key=away.__getitem__)[:3])
    for asked in (info, {k: v for k, v in info.items() if k != "quaternion"}):
        chosen, indices = pack.nodes["RefAny3D_ChooseViews"].execute(
            reference=reference, cameras=rendered["cameras"], camera_info=asked, count=3
        ).args  # fmt: skip
        assert indices == ", ".join(map(str, nearest))
        assert chosen.view_latents[:, 0, 0, 0].tolist() == nearest
        assert chosen.point_map_latents[:, 0, 0, 0].tolist() == [i + 100 for i in nearest]
        assert chosen.empty_latent is reference.empty_latent


def test_bad_input(pack, vae, mesh_files, rendered, reference):
    info = camera(pack, vae, mesh_files, 0.0)
    node = pack.nodes["RefAny3D_ChooseViews"]
    few = pack.core("reference").Reference(
        reference.view_latents[:1], reference.point_map_latents[:1], reference.empty_latent
    )
    values = {"reference": reference, "cameras": rendered["cameras"], "camera_info": info}
    for changes, sentence in (
        ({"count": 9}, "count is 9, but there are 8 views"),
        ({"cameras": "{}"}, "'cameras' is not a transforms.json"),
        ({"cameras": json.dumps({"frames": []})}, "'cameras' is not a transforms.json"),
        ({"camera_info": {}}, "the camera lacks a position or a target"),
        ({"reference": few, "count": 8}, "'reference' has 1 views, 'cameras' more"),
    ):
        with pytest.raises(ValueError, match="Choose Views: " + sentence):
            node.execute(**{**values, **changes})
