"""Photos through the real server: uploaded, placed into, pasted back, saved; the same bytes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfy_server import ServerError
from graph import needed, set_widgets, template, to_api
from standins import SWAPS

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
SIZE, PHOTO = 96, (320, 200)


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def models(photo: str) -> dict:
    return {
        "models": node("RefAny3D_LoadDemoModels"),
        "photo": node("LoadImage", image=photo),
    }


def placed(n: str, mesh: str, photo: list, **camera) -> dict:
    """The graph of one object in a photo; node ids end in n."""
    size = {"width": SIZE, "height": SIZE}
    sampling = {"seed": 0, "steps": 2, "image_guidance": 2.0, "sampler_name": "euler",
                "scheduler": "refany3d", "isolated_references": True, **size}  # fmt: skip
    return {
        f"mesh{n}": node("RefAny3D_LoadMesh", mesh_file=f"examples/{mesh}.glb", up_axis="auto"),
        f"views{n}": node("RefAny3D_RenderViews", mesh=[f"mesh{n}", 0], views=2, resolution=SIZE,
                          radius=4.0, pitch=0.0, y_rotation=0.0),
        f"encode{n}": node("RefAny3D_EncodeReferences", vae=["models", 2],
                           views=[f"views{n}", 0], point_maps=[f"views{n}", 1]),
        f"prompt{n}": node("CLIPTextEncode", clip=["models", 1], text=f"a {mesh} on grass"),
        f"place{n}": node("RefAny3D_PlaceInPhoto", photo=photo, mesh=[f"mesh{n}", 0],
                          vae=["models", 2], **{
                              "grow": 8, "azimuth": 60.0, "pitch": 9.0, "distance": 9.0,
                              "roll": 0.0, "shift_x": 0.0, "shift_y": 0.0, "fov": 31.0,
                              "context": 2.0, **size, **camera}),
        f"sampler{n}": node("RefAny3D_Sampler", model=["models", 0], adapters=["models", 3],
                            reference=[f"encode{n}", 0], positive=[f"prompt{n}", 0],
                            latent=[f"place{n}", 0], **sampling),
        f"decode{n}": node("VAEDecode", samples=[f"sampler{n}", 0], vae=["models", 2]),
        f"paste{n}": node("RefAny3D_PasteBack", photo=photo, image=[f"decode{n}", 0],
                          paste=[f"place{n}", 1]),
        f"image{n}": node("SaveImage", images=[f"paste{n}", 0], filename_prefix=f"photo{n}"),
        f"mask{n}": node("MaskToImage", mask=[f"paste{n}", 1]),
        f"saved_mask{n}": node("SaveImage", images=[f"mask{n}", 0], filename_prefix=f"mask{n}"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def photo(server, tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (PHOTO[1], PHOTO[0], 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("photo") / "noise.png"
    Image.fromarray(pixels).save(file)
    server.upload(file)
    return file.name, pixels


def saved(server, graph: dict) -> dict[str, np.ndarray]:
    files = server.files(server.run(graph))
    return {file.name.split("_0")[0]: np.asarray(Image.open(file).convert("RGB")) for file in files}


def test_two_objects_in_a_photo_and_the_rest_of_it_unchanged(server, photo):
    name, pixels = photo
    graph = models(name) | placed("1", "mushroom", ["photo", 0], shift_x=-0.1)
    graph |= placed("2", "snowman", ["paste1", 0], shift_x=0.1, distance=7.0, scene_size=2.0)
    graph["place1"]["inputs"]["scene_size"] = 2.0
    graph["place2"]["inputs"]["placed"] = ["place1", 1]
    found = saved(server, graph)
    before = pixels
    for n in "12":
        after, mask = found[f"photo{n}"], found[f"mask{n}"].max(-1)
        assert after.shape == pixels.shape
        assert 0.02 < (mask > 0).mean() < 0.6
        # 8 bits of the mask: below half a step it reads 0, and a pixel may move by one step
        moved = np.abs(after.astype(int) - before).max(-1)
        assert moved[mask == 0].max() <= 1
        far = mask[:, np.flatnonzero((mask > 0).any(0)).max() + 2 :]
        assert (after[:, -far.shape[1] :] == before[:, -far.shape[1] :]).all()
        assert moved[mask == 255].mean() > 20
        before = after


def test_a_camera_past_the_photo_is_told_on_the_node(server, photo):
    graph = models(photo[0]) | placed("1", "mushroom", ["photo", 0], shift_x=1.0)
    with pytest.raises(ServerError, match="Place in Photo: the object lies outside of the photo"):
        server.run(graph)


def test_many_cameras_in_one_run(server):
    graph = models("none") | placed("1", "mushroom", ["photo", 0])
    graph["place1"] = node(
        "RefAny3D_LockCameraPath", vae=["models", 2], mesh=["mesh1", 0], width=SIZE, height=SIZE,
        azimuths="0, 90, 180", pitches="10", distances="4", frames=0, fov=45.0, same_noise=True,
    )  # fmt: skip
    graph["image1"]["inputs"]["images"] = ["decode1", 0]
    for gone in ("photo", "paste1", "mask1", "saved_mask1"):
        del graph[gone]
    graph["save"] = node(
        "RefAny3D_SaveCameraPath", cameras=["place1", 6], point_maps=["place1", 1],
        images=["decode1", 0], masks=["place1", 2], filename_prefix="paths/turn", caption="",
    )  # fmt: skip
    files = server.files(server.run(graph))
    assert len(files) == 3
    folder = server.output_folder() / "paths" / "turn_00001"
    assert (folder / "transforms.json").is_file()
    pictures = [np.asarray(Image.open(file)) for file in sorted(folder.glob("images/*.png"))]
    direct = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(files)]
    for ours, core in zip(pictures, direct, strict=True):
        assert np.abs(ours.astype(int) - core).max() <= 1  # core's Save Image rounds down


def of_template(server, name: str, changes: dict) -> dict:
    """The part of a template's graph that its saved pictures need."""
    graph = to_api(template(name), server.get("/object_info"))
    kinds = {n["class_type"] for n in graph.values()}
    graph = set_widgets(graph, {kind: v for kind, v in changes.items() if kind in kinds})
    return needed(graph, [k for k, n in graph.items() if n["class_type"] == "SaveImage"])


@pytest.mark.parametrize(
    "name, prefix", [("place, paste back", "photo"), ("Put two 3D meshes", "two")]
)
def test_a_template_puts_meshes_into_the_meadow(server, name, prefix):
    meadow = np.asarray(Image.open(ROOT / "assets" / "meadow.jpg"))
    found = saved(server, of_template(server, name, {"RefAny3D_Sampler": {"steps": 4}}))[prefix]
    moved = np.abs(found.astype(int) - meadow).max(-1)
    assert found.shape == meadow.shape
    assert 0.03 < (moved > 8).mean() < 0.5 and (moved[:, :40] == 0).all()


def test_the_template_for_flux_puts_the_mesh_into_the_coffee(server):
    """With stand-ins in place of FLUX.1-dev."""
    small = {"width": 128, "height": 128}
    changes = {
        **SWAPS, "RefAny3D_RenderViews": {"views": 2, "resolution": 128},
        "RefAny3D_PlaceInPhoto": small, "RefAny3D_Sampler": {**small, "steps": 2},
    }  # fmt: skip
    coffee = np.asarray(Image.open(ROOT / "assets" / "coffee.jpg"))
    found = saved(server, of_template(server, "my product into my photo", changes))["photo"]
    moved = np.abs(found.astype(int) - coffee).max(-1)
    assert 0.01 < (moved > 8).mean() < 0.3 and (moved[:, 300:] == 0).all()


def test_the_template_with_many_cameras(server):
    changes = {"RefAny3D_Sampler": {"steps": 2}, "RefAny3D_LockCameraPath": {"frames": 3}}
    files = server.files(server.run(of_template(server, "many locked cameras", changes)))
    assert len(files) == 3
