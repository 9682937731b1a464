"""Lock Pose: the map of the asked camera, and a map that stays as it is while the image is made."""

import inspect

import numpy as np
import pytest
import torch

SIZE = 128
ARMS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@pytest.fixture(scope="module")
def lock(pack, vae, signpost):
    def run(mesh=None, width=SIZE, height=SIZE, **options):
        node = pack.nodes["RefAny3D_LockPose"]
        mesh = signpost if mesh is None else mesh
        out = node.execute(vae=vae, mesh=mesh, width=width, height=height, **options)
        names = [o.id for o in node.define_schema().outputs]
        return dict(zip(names, out.result))

    return run


def centres(view: torch.Tensor) -> dict[str, np.ndarray]:
    """Where each arm's colour is in a picture [H, W, 3]: x right, y up, in 0..1 of the sides."""
    out = {}
    for name, color in ARMS.items():
        on = (view - torch.tensor(color)).abs().amax(-1) < 0.5
        rows, columns = torch.nonzero(on, as_tuple=True)
        if len(rows) > 5:
            out[name] = np.array(
                [(columns.float().mean() + 0.5) / view.shape[1],
                 1 - (rows.float().mean() + 0.5) / view.shape[0]]
            )  # fmt: skip
    return out


def test_orientation_of_the_widgets(lock):
    """From +X: Y up, and Z to the left, because X, Y, Z are right-handed."""
    seen = centres(lock(azimuth=0.0, pitch=20.0)["view"][0])
    assert seen["blue"][0] < seen["green"][0] - 0.1
    assert seen["green"][1] > seen["blue"][1] + 0.1
    seen = centres(lock(azimuth=90.0, pitch=20.0)["view"][0])  # from +Z: X to the right
    assert seen["red"][0] > seen["green"][0] + 0.1 and seen["green"][1] > seen["red"][1] + 0.1
    turned = centres(lock(azimuth=90.0, pitch=20.0, roll=90.0)["view"][0])  # clockwise: Y right
    assert turned["green"][0] > turned["red"][0] and turned["red"][1] < turned["green"][1]


def test_the_map_has_the_pictures_orientation(lock):
    out = lock(azimuth=90.0)
    values, view = out["point_map"][0], out["view"][0]
    red = (view - torch.tensor(ARMS["red"])).abs().amax(-1) < 0.5
    tip = torch.nonzero(red)[:, 1].max()
    assert values[:, tip][red[:, tip]][:, 0].min() > 0.9  # the right end of the red arm is +X
    green = (view - torch.tensor(ARMS["green"])).abs().amax(-1) < 0.5
    assert values[green][0, 1] > 0.9  # the topmost row is +Y


def test_shift_moves_the_asset_right_and_up(lock):
    plain = centres(lock(azimuth=90.0, distance=8.0)["view"][0])
    moved = centres(lock(azimuth=90.0, distance=8.0, shift_x=0.2, shift_y=0.1)["view"][0])
    for arm in ("red", "green"):
        np.testing.assert_allclose(moved[arm] - plain[arm], (0.2, 0.1), atol=0.02)


@pytest.mark.parametrize("roll", [0.0, 30.0])
def test_core_camera_shows_what_core_shows(lock, signpost, roll):
    """Core's own renderer, with splats where the arms are, and the same camera."""
    from comfy_api.latest import Types
    from comfy_extras.nodes_gaussian_splat import CreateCameraInfo, RenderSplat

    points, colors = [], []
    for axis, color in enumerate(ARMS.values()):
        along = np.linspace(0.4, 0.3 + (3.0, 2.0, 1.0)[axis], 40)
        for t in along:
            p = np.zeros(3)
            p[axis] = t
            points.append(p * (1, -1, -1))  # splats have Y down and Z forward
            colors.append((np.array(color) - 0.5) / 0.28209479)
    count = len(points)
    splat = Types.SPLAT(
        torch.tensor(np.array(points), dtype=torch.float32)[None],
        torch.full((1, count, 3), 0.07),
        torch.tensor([1.0, 0, 0, 0]).repeat(1, count, 1),
        torch.ones(1, count, 1),
        torch.tensor(np.array(colors), dtype=torch.float32)[None, :, None],
    )
    mode = {"mode": "look_at", "position_x": 6.0, "position_y": 5.0, "position_z": 7.0}
    (info,) = CreateCameraInfo.execute(mode, 0.5, 1.5, 0.0, roll, 40.0, zoom=0.8).result
    core = RenderSplat.execute(
        splat, 192, SIZE, 1, 1.0, 2.0, 0.0, 0.0, "#000000", "color", camera_info=info
    ).result[0][0]
    ours = lock(width=192, camera_info=info)["view"][0]
    theirs, mine = centres(core), centres(ours)
    assert theirs.keys() == mine.keys() == ARMS.keys()
    for arm in ARMS:
        assert np.abs(theirs[arm] - mine[arm]).max() < 0.03, arm


def test_camera_info_output_gives_the_same_picture(lock):
    first = lock(azimuth=50.0, pitch=25.0, roll=10.0, distance=3.5, fov=50.0)
    again = lock(camera_info=first["camera_info"])
    assert (first["point_map"] - again["point_map"]).abs().mean() < 1e-3


def test_latent_holds_the_encoded_map(lock, vae):
    out = lock(batch_size=2)
    samples, mask = out["latent"]["samples"], out["latent"]["noise_mask"]
    assert samples.shape == (2, 16, SIZE // 8, SIZE // 4)
    assert mask.shape == (2, 1, SIZE // 8, SIZE // 4)
    half = SIZE // 8
    torch.testing.assert_close(samples[:1, ..., half:], vae.encode(out["point_map"]))
    assert (samples[..., :half] == 0).all()
    assert (mask[..., :half] == 1).all() and (mask[..., half:] == 0).all()
    assert (lock(strength=0.75)["latent"]["noise_mask"][..., half:] == 0.25).all()


def run_sampler(golden, latent, steps=4, **changes):
    """RefAny3D Sampler on the golden tiny model."""
    node = golden.nodes["RefAny3D_Sampler"]
    out = node.execute(
        **{
            "model": golden.model, "adapters": golden.adapters, "positive": golden.positive(),
            "reference": golden.golden_reference(), "seed": 3, "width": 512, "height": 512,
            "steps": steps, "image_guidance": 2.0, "sampler_name": "euler",
            "scheduler": "refany3d", "latent": latent, **changes,
        }
    )  # fmt: skip
    return [latent["samples"] for latent in out.result]


def test_locked_map_comes_out_unchanged(golden, lock):
    locked = lock()["latent"]
    image, point_map = run_sampler(golden, locked)
    half = SIZE // 8
    assert image.shape == point_map.shape == (1, 16, half, half)
    assert (point_map - locked["samples"][..., half:]).abs().max() < 1e-5
    free, _ = run_sampler(golden, {"samples": locked["samples"]})
    assert (image - free).abs().max() > 1e-3  # the image heeds the map


@pytest.mark.parametrize("sampler, scheduler", [("euler", "simple"), ("dpmpp_2m", "beta")])
def test_locked_map_through_stock_ksampler(golden, lock, sampler, scheduler):
    import nodes

    locked = lock()["latent"]
    applied = golden.apply()
    (out,) = nodes.KSampler().sample(
        applied.model, 1, 3, 2.0, sampler, scheduler, applied.positive, applied.negative, locked
    )
    half = SIZE // 8
    assert (out["samples"] - locked["samples"])[..., half:].abs().max() < 1e-5
    assert out["samples"][..., :half].abs().max() > 0.1


def test_release_lets_the_map_go(golden, lock):
    held = lock()["latent"]["samples"][..., SIZE // 8 :]
    out = lock(release=0.5, model=golden.model)
    _, freed = run_sampler(golden, out["latent"], model=out["model"])
    assert (freed - held).abs().max() > 1e-3
    out = lock(release=1e-4, model=golden.model)  # below the last level: held to the end
    _, kept = run_sampler(golden, out["latent"], model=out["model"])
    assert (kept - held).abs().max() < 1e-5
    assert "denoise_mask_function" not in golden.model.model_options


def test_less_strength_moves_the_map_more(golden, lock):
    held = lock()["latent"]["samples"][..., SIZE // 8 :]
    moved = []
    for strength in (0.9, 0.5):
        _, point_map = run_sampler(golden, lock(strength=strength)["latent"])
        moved.append((point_map - held).abs().mean())
    assert 1e-4 < moved[0] < moved[1]


BAD = {
    "away": ({"shift_x": 1.0, "distance": 20.0}, "looks away from the asset"),
    "far": ({"distance": 30.0, "fov": 120.0}, "covers only .* pixels"),
    "size": ({"width": 100}, "Lock Pose: width is 100, but has to be a multiple of 16"),
    "no model": ({"release": 0.5}, "release is above 0, which needs the model"),
    "orthographic": (
        {"camera_info": {"cameraType": "orthographic"}}, "Lock Pose: the camera is orthographic",
    ),
    "mesh": ({"mesh": 3}, "Lock Pose: a int is not a mesh"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(lock, name):
    options, sentence = BAD[name]
    with pytest.raises(ValueError, match=sentence):
        lock(**options)


def test_a_camera_in_a_closed_room_is_inside(pack, vae):
    import trimesh

    room = trimesh.creation.box((2, 2, 2))
    with pytest.raises(ValueError, match="the camera is inside the asset"):
        pack.nodes["RefAny3D_LockPose"].execute(
            vae=vae, mesh=room, width=64, height=64, distance=0.7
        )


def test_sampler_refuses_a_plain_latent(golden):
    with pytest.raises(ValueError, match="not a joint latent of 16 channels"):
        run_sampler(golden, {"samples": torch.zeros(1, 4, 16, 16)})


def test_sockets_of_the_contract_are_in_place(pack):
    node = pack.nodes["RefAny3D_LockPose"]
    schema = node.define_schema()
    assert schema.node_id == "RefAny3D_LockPose" and schema.display_name == "Lock Pose"
    known = set(inspect.signature(node.execute).parameters)
    assert {i.id for i in schema.inputs} <= known
    assert all(i.tooltip for i in [*schema.inputs, *schema.outputs])
