"""Place in Photo and Paste Back: exact where the photo is cut, the photo's own bytes elsewhere."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from refany3d_core.asset.render import render
from refany3d_core.pointmap.paste import Paste, Window, cut_out, paste_back
from refany3d_core.pointmap.placement import (
    change_mask,
    depth_in,
    place,
    window_around,
    window_camera,
)
from refany3d_core.pointmap.posed_view import orbit_camera

PHOTO = (480, 320)
SIZE = 128


def camera(azimuth=30.0, distance=8.0, shift=(0.0, 0.0), photo=PHOTO):
    return orbit_camera(azimuth, 20.0, distance, 0.0, shift, 40.0, *photo)


def photo(width=PHOTO[0], height=PHOTO[1]):
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 256, (1, height, width, 3), generator=generator)
    return values.float() / 255


def test_a_window_shows_the_very_pixels_of_the_photo(assets):
    whole = render(assets["truck"], camera())
    window = Window(150, 60, 192, 176)
    part = render(assets["truck"], window_camera(camera(), window, 192, 176))
    rows, columns = slice(60, 60 + 176), slice(150, 150 + 192)
    assert np.array_equal(part.mask, whole.mask[rows, columns]) and part.mask.any()
    np.testing.assert_allclose(part.point_map, whole.point_map[rows, columns], atol=1e-5)
    np.testing.assert_allclose(part.depth, whole.depth[rows, columns], atol=1e-5)


def test_windows_hold_their_box_and_keep_the_pictures_proportions():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = tuple(int(16 * n) for n in rng.integers(4, 65, 2))
        full = tuple(int(n) for n in rng.integers(64, 4000, 2))
        left, top = (rng.uniform(0, n - 9) for n in full)
        right, bottom = rng.uniform(left + 8, full[0]), rng.uniform(top + 8, full[1])
        window = window_around((left, top, right, bottom), full, size, rng.uniform(1, 4), 8)
        assert window.width * size[1] == window.height * size[0]
        for first, length, a, b, n in (
            (window.left, window.width, left, right, full[0]),
            (window.top, window.height, top, bottom, full[1]),
        ):
            assert first - 0.51 <= a and b <= first + length + 0.51
            if length <= n:
                assert 0 <= first and first + length <= n  # nothing invented beyond the border


def test_what_may_change_ends_at_the_margin():
    silhouette = np.zeros((64, 64), bool)
    silhouette[28:36, 28:36] = True
    mask = change_mask(silhouette, 10, 5)
    assert (mask[silhouette] == 1).all() and mask[32, 17] == 0 and 0 < mask[32, 19] < 1
    assert mask[32, 23] == 1 and np.all(np.diff(mask[32, :28]) >= 0)
    assert np.array_equal(change_mask(silhouette, 0, 9) > 0, silhouette)


def test_outside_of_the_margin_the_photo_is_untouched(assets):
    source = photo(4000, 1000)
    placement = place(
        assets["truck"], camera(distance=12.0, photo=(4000, 1000)), (SIZE, SIZE), 2.0, 12, 6
    )
    assert max(placement.paste.window.width, placement.paste.window.height) < 1200
    image = torch.zeros(2, 4 * SIZE, 4 * SIZE, 3)  # upscaled in between
    out, mask = paste_back(source, image, placement.paste)
    assert out.shape == (2, 1000, 4000, 3)
    outside = mask == 0
    assert 0.9 < outside.float().mean() < 1
    for picture in out:
        assert torch.equal(picture[outside], source[0][outside])
    assert (out[0][mask == 1] == 0).all() and (mask == 1).any()
    whole = torch.from_numpy(
        render(assets["truck"], camera(distance=12.0, photo=(4000, 1000))).mask
    )
    assert (mask[whole] > 0.99).float().mean() > 0.999  # the object lies inside, where it should


def test_a_window_beyond_the_border_goes_on_and_comes_back():
    source = photo(100, 60)
    window = Window(-20, -10, 128, 128)
    part = cut_out(source, window, 128, 128)
    assert torch.equal(part[0, 10:70, 20:120], source[0])
    assert torch.equal(part[0, 10:70, 0], source[0, :, 0]) and part.shape == (1, 128, 128, 3)
    paste = Paste((100, 60), window, np.ones((128, 128), np.float32), np.zeros((128, 128)))
    out, mask = paste_back(source, part, paste)
    torch.testing.assert_close(out, source)
    assert (mask == 1).all()


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_object_is_in_front(assets, near_first):
    """Two objects that cover one another, placed in either order, show the same."""
    near, far = camera(distance=7.0, shift=(0.1, 0)), camera(distance=12.0, shift=(-0.02, 0.0))
    order = [("truck", near), ("spot", far)] if near_first else [("spot", far), ("truck", near)]
    done = []
    for name, view in order:
        earlier = [d.paste for d in done]
        done.append(place(assets[name], view, (SIZE, SIZE), 2.0, 6, 3, 2.0, earlier))
    front, back = done if near_first else done[::-1]
    hidden = depth_in(front.paste, back.paste.window, (SIZE, SIZE)) < np.inf
    covered = hidden & back.view.mask
    assert covered.sum() > 50
    assert front.visible.sum() == front.view.mask.sum()
    first, second = done
    others = np.isfinite(depth_in(first.paste, second.paste.window, (SIZE, SIZE)))
    if near_first:
        assert not (back.visible & hidden).any() and (back.visible | hidden)[back.view.mask].all()
        assert (back.point_map[covered] == 1).all()
        assert (second.paste.mask[others] == 0).all()
    else:
        assert (second.paste.mask[second.view.mask] == 1).all()
        assert (second.paste.mask[others & ~second.visible] == 0).all()


def test_scene_size_says_which_object_is_nearer(assets):
    """The far camera of a toy is nearer than the near camera of a house."""
    toy = place(assets["spot"], camera(distance=8.0), (SIZE, SIZE), 2.0, 4, 2, 0.2)
    house = place(assets["truck"], camera(distance=6.0), (SIZE, SIZE), 2.0, 4, 2, 20.0, [toy.paste])
    assert toy.paste.depth.min() < 2 < house.paste.depth.min()
    assert (house.view.mask & ~house.visible).any()


@pytest.fixture(scope="module")
def placed(pack, vae, mesh_files):
    def run(**changes):
        node = pack.nodes["RefAny3D_PlaceInPhoto"]
        values = {
            "photo": photo(), "mesh": str(mesh_files["truck"]), "vae": vae, "width": SIZE,
            "height": SIZE, "grow": 10, "feather": 6, "distance": 8.0, "fov": 40.0, **changes,
        }  # fmt: skip
        out = node.execute(**values)
        return dict(zip([o.id for o in node.define_schema().outputs], out.result))

    return run


def sample(golden, latent, **changes):
    node = golden.nodes["RefAny3D_Sampler"]
    out = node.execute(
        model=golden.model, adapters=golden.adapters, positive=golden.positive(),
        reference=golden.golden_reference(), seed=3, steps=3, latent=latent, **changes,
    )  # fmt: skip
    return [latent["samples"] for latent in out.result]


def test_sampling_changes_the_object_and_holds_photo_and_map(golden, placed, vae):
    out = placed()
    start, mask = out["latent"]["samples"], out["latent"]["noise_mask"]
    half = SIZE // 8
    free = mask[0, 0, :, :half]
    assert start.shape == (1, 16, half, 2 * half) and (mask[..., half:] == 0).all()
    assert (free == 1).any() and (free == 0).any()
    pixels = out["mask"][0].reshape(half, 8, half, 8).amax((1, 3))
    assert torch.equal(free > 0, pixels > 0)
    image, point_map = sample(golden, out["latent"])
    assert (point_map - start[..., half:]).abs().max() < 1e-5
    changed = (image - start[..., :half]).abs().amax(1)[0]
    assert changed[free == 0].max() < 1e-5 and changed[free == 1].min() > 1e-3


def test_denoise_starts_from_the_picture(golden, placed):
    """The less noise, the nearer to the start; and the levels are the host's own."""
    latent = placed()["latent"]
    half = SIZE // 8
    changes = []
    for denoise in (0.1, 0.5, 1.0):
        image, _ = sample(golden, latent, denoise=denoise)
        changes.append((image - latent["samples"][..., :half]).abs().mean())
    assert changes[0] < 0.5 * changes[1] < changes[2]
    with pytest.raises(ValueError, match="denoise is 0.5, which starts from a picture"):
        sample(golden, None, denoise=0.5)


def test_denoise_counts_steps_as_ksampler_does(golden, pack):
    import comfy.samplers

    sampling = pack.core("host.sampling")
    for scheduler in ("simple", "beta"):
        ours = sampling.sigmas(golden.model, scheduler, 7, 512, 512, 0.4)
        host = comfy.samplers.KSampler(
            golden.model, 7, "cpu", "euler", scheduler, 0.4, golden.model.model_options
        )
        torch.testing.assert_close(ours, host.sigmas.cpu())
    full = sampling.sigmas(golden.model, "refany3d", 10, 512, 512)
    part = sampling.sigmas(golden.model, "refany3d", 5, 512, 512, 0.5)
    torch.testing.assert_close(part, full[-6:])


def test_both_nodes_together_give_the_photo_back_where_nothing_was_asked(placed, pack):
    out = placed(azimuth=40.0, shift_x=0.3)
    paste_back_node = pack.nodes["RefAny3D_PasteBack"]
    source = photo()
    image, mask = paste_back_node.execute(
        photo=source, image=torch.rand(1, SIZE, SIZE, 3), paste=out["paste"]
    ).result
    assert torch.equal(image[0][mask[0] == 0], source[0][mask[0] == 0])
    assert not torch.equal(image, source)


BAD = {
    "past": ({"shift_x": 1.0, "shift_y": -1.0}, "the object lies outside of the photo: it would"),
    "away": (
        {"camera_info": {"position": {"x": 0, "y": 0, "z": 50}, "target": {"x": 0, "y": 0, "z": 99},
                         "quaternion": {"x": 0, "y": 1, "z": 0, "w": 0}}},
        "Place in Photo: the camera looks away from the object",
    ),
    "fills": ({"distance": 2.2, "fov": 12.0}, "fill the photo, and nothing of the photo would be"),
    "tiny": ({"distance": 100.0, "fov": 120.0}, "pixels small in the photo; lower the distance"),
    "alpha": ({"photo": torch.zeros(1, 64, 64, 4)}, "'photo' has 4 channels, an RGB picture has 3"),
    "several": ({"photo": torch.zeros(2, 64, 64, 3)}, "'photo' holds 2 pictures, but one is taken"),
    "60,000 px": (
        {"photo": torch.zeros(1, 1, 1, 3).expand(1, 40_000, 60_000, 3)},
        "'photo' is 60000x40000, the longest side may have 32768 pixels",
    ),
    "grow": ({"grow": 64}, "grow is 64, which fills a picture of 128x128 from both sides"),
    "size": ({"width": 100}, "Place in Photo: width is 100"),
    "inside": ({"distance": 0.1}, "Place in Photo: the camera is inside the asset"),
    "mesh": ({"mesh": 3}, "Place in Photo: a int is not a mesh"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(placed, name):
    changes, sentence = BAD[name]
    with pytest.raises(ValueError, match=sentence):
        placed(**changes)


def test_hidden_and_foreign_placements_are_refused(placed):
    far = placed(distance=8.0, scene_size=2.0)
    with pytest.raises(ValueError, match="hidden behind the objects placed before it"):
        placed(distance=8.0, scene_size=2.0, placed=far["paste"])
    with pytest.raises(ValueError, match="but 'placed' belongs to a photo of 480x320"):
        placed(photo=photo(240, 160), placed=far["paste"])


def test_paste_back_refuses_another_photo_and_another_picture(placed, pack):
    node, paste = pack.nodes["RefAny3D_PasteBack"], placed()["paste"]
    with pytest.raises(ValueError, match="Paste Back: 'photo' is 240x160, but the object was"):
        node.execute(photo=photo(240, 160), image=torch.zeros(1, SIZE, SIZE, 3), paste=paste)
    with pytest.raises(ValueError, match="Paste Back: 'image' is 128x64, but its place"):
        node.execute(photo=photo(), image=torch.zeros(1, 64, 128, 3), paste=paste)


def panel(value, mask=None, size=8, count=1):
    latent = {"samples": torch.full((count, 16, size, size), value)}
    return latent if mask is None else {**latent, "noise_mask": mask}


def test_join_is_the_inverse_of_split(pack):
    join = pack.nodes["RefAny3D_JoinLatent"].execute
    split = pack.nodes["RefAny3D_SplitLatent"].execute
    (joint,) = join(image=panel(1.0, count=2), point_map=panel(2.0)).result
    assert set(joint) == {"samples"} and joint["samples"].shape == (2, 16, 8, 16)
    image, point_map = (latent["samples"] for latent in split(latent=joint).result)
    assert (image == 1).all() and (point_map == 2).all()


def test_join_joins_masks_of_any_size(pack):
    """Set Latent Noise Mask gives masks in pixels, other nodes in latents."""
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:, :] = 1
    join = pack.nodes["RefAny3D_JoinLatent"].execute
    (joint,) = join(image=panel(0.0, mask), point_map=panel(0.0, torch.zeros(1, 8, 8))).result
    found = joint["noise_mask"]
    assert found.shape == (1, 1, 8, 16)
    assert (found[..., :4, :8] == 0).all() and (found[..., 4:, :8] == 1).all()
    assert (found[..., 8:] == 0).all()
    (half,) = join(image=panel(0.0), point_map=panel(0.0, torch.zeros(1, 8, 8))).result
    assert (half["noise_mask"][..., :8] == 1).all()


@pytest.mark.parametrize(
    "image, point_map, sentence",
    [
        (panel(0.0), panel(0.0, size=16), "'image' is 64x64 pixels, 'point_map' 128x128"),
        (panel(0.0, count=2), panel(0.0, count=3), "'image' holds 2 latents, 'point_map' 3"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, panel(0.0), "'image' is .1, 4, 8, 8., FLUX's"),
        (panel(0.0, torch.zeros(1, 8, 8)), panel(0.0, torch.zeros(1, 8, 8)), "masks .* are empty"),
    ],
)  # fmt: skip
def test_join_refuses_what_does_not_fit(pack, image, point_map, sentence):
    with pytest.raises(ValueError, match="Join Joint Latent: .*" + sentence):
        pack.nodes["RefAny3D_JoinLatent"].execute(image=image, point_map=point_map)


@pytest.mark.parametrize("name", ["PlaceInPhoto", "PasteBack", "JoinLatent"])
def test_every_socket_is_taken_and_explained(pack, name):
    node = pack.nodes[f"RefAny3D_{name}"]
    schema = node.define_schema()
    parameters = inspect.signature(node.execute).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert takes_all or {i.id for i in schema.inputs} <= set(parameters)
    assert all(i.tooltip for i in [*schema.inputs, *schema.outputs])


def test_the_help_pages_pictures_are_there():
    docs = Path(__file__).resolve().parents[2] / "web" / "docs"
    named = [
        (page.name, name)
        for page in docs.glob("*.md")
        for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert named and all((docs / name).is_file() for _, name in named)


def test_example_photos_load(pack):
    node = pack.nodes["RefAny3D_ExamplePhoto"]
    for name in node.define_schema().inputs[0].options:
        (image,) = node.execute(photo=name).result
        assert image.shape[0] == 1 and image.shape[3] == 3 and 0.05 < image.std() < 0.5
    for name in ("../README.md", "none.jpg"):
        with pytest.raises(ValueError, match="Load Example Photo: photo .* is missing from"):
            node.execute(photo=name)
