"""Between core's nodes in the real server: Load 3D and voxels in, previews and saved files out."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"views": 2, "resolution": 64, "radius": 4.0, "pitch": 0.0, "y_rotation": 0.0}


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs}


def mapped_gl(server) -> set[str]:
    """OpenGL libraries in the server's memory."""
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.is_file():
        pytest.skip("the process map is read from /proc")
    return set(re.findall(r"\S*lib(?:E?GL|GLES|OSMesa|glfw)\S*", maps.read_text()))


def test_load_3d_to_ours(server) -> None:
    """Core's Load 3D gives a FILE_3D; its viewport pictures are stand-ins, as the page uploads."""
    picture = server.base / "input" / "blank.png"
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(picture)
    viewport = {
        "image": "blank.png",
        "mask": "blank.png",
        "normal": "blank.png",
        "recording": "",
        "camera_info": {
            "position": {"x": 0, "y": 2.5, "z": 10},
            "zoom": 1,
            "target": {"x": 0, "y": 2.5, "z": 0},
            "cameraType": "perspective",
        },
    }
    graph = {
        "1": node("Load3D", model_file="3d/spot.glb", image=viewport, width=64, height=64),
        "2": node("RefAny3D_RenderViews", mesh=["1", 6], **SIZES),
        "3": node("PreviewImage", images=["2", 0]),
        "4": node("RefAny3D_RenderViews", mesh=["1", 6], camera_info=["1", 4], **SIZES),
        "5": node("PreviewImage", images=["4", 1]),
    }
    outputs = server.run(graph)
    assert len(outputs["3"]["images"]) == 2
    assert len(outputs["5"]["images"]) == 1  # the viewport's one camera
    name = outputs["5"]["images"][0]["filename"]
    seen = np.asarray(Image.open(server.base / "temp" / name).convert("RGB"))
    covered = (seen.min(-1) < 255).mean()
    assert 0.05 < covered < 0.9


def test_a_posed_mesh(server) -> None:
    """Load Mesh's animation and time, at rest, posed, and with a name that is not there."""
    from made_gltf import animated, make

    from comfy_server import ServerError

    make(animated, server.base / "input" / "3d")

    def picture(**pose: object) -> np.ndarray:
        graph = {
            "1": node("RefAny3D_LoadMesh", mesh_file="3d/animated.glb", **pose),
            "2": node("RefAny3D_RenderViews", mesh=["1", 0], **SIZES),
            "3": node("PreviewImage", images=["2", 1]),
        }
        name = server.run(graph)["3"]["images"][0]["filename"]
        return np.asarray(Image.open(server.base / "temp" / name).convert("RGB"), np.float64)

    rest, posed = picture(), picture(animation="wave", time=1.0)
    assert np.abs(rest - posed).mean() > 2
    assert np.array_equal(posed, picture(animation="0", time=1.0))
    with pytest.raises(ServerError, match="Load Mesh: animated.glb: .*no animation 'run'.*0: wave"):
        picture(animation="run")


def test_ours_to_preview_3d(server) -> None:
    graph = {
        "1": node("RefAny3D_LoadMesh", mesh_file="3d/spot.glb"),
        "2": node("Preview3D", model_file=["1", 1]),
        "3": node("RefAny3D_RenderViews", mesh=["1", 1], **SIZES),
        "4": node("PreviewImage", images=["3", 0]),
        "5": node("SaveGLB", mesh=["1", 1], filename_prefix="3d/ours"),
    }
    outputs = server.run(graph)
    assert outputs["2"] and len(outputs["4"]["images"]) == 2
    saved = list((server.base / "output" / "3d").glob("ours*.glb"))
    assert saved and saved[0].read_bytes() == (ROOT / "assets" / "spot.glb").read_bytes()


def test_changing_nothing_renders_nothing_again(server) -> None:
    def graph(pitch: float, prefix: str) -> dict:
        return {
            "1": node("RefAny3D_LoadMesh", mesh_file="3d/spot.glb"),
            "2": node("RefAny3D_RenderViews", mesh=["1", 0], **SIZES | {"pitch": pitch}),
            "3": node("SaveImage", images=["2", 0], filename_prefix=prefix),
        }

    def cached(prompt: dict) -> list[str]:
        entry = server.wait(server.queue(prompt))
        assert entry["status"]["status_str"] == "success"
        return next(
            data["nodes"] for kind, data in entry["status"]["messages"]
            if kind == "execution_cached"
        )  # fmt: skip

    server.run(graph(3.0, "a"))
    assert {"1", "2"} <= set(cached(graph(3.0, "b")))
    again = cached(graph(4.0, "b"))
    assert "1" in again and "2" not in again


def test_the_contact_sheet_and_the_warnings_show_on_the_node(server) -> None:
    (server.base / "input" / "3d" / "plane.obj").write_text(
        "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nf 1 2 3\nf 1 3 4\n"
    )
    graph = {
        "1": node("RefAny3D_LoadMesh", mesh_file="3d/plane.obj"),
        "2": node("RefAny3D_RenderViews", mesh=["1", 0], **SIZES),  # runs alone: an output node
    }
    first = server.run(graph)
    sheet = first["2"]["images"][0]
    width, height = Image.open(server.base / "temp" / sheet["filename"]).size
    assert width > 2 * 64 and height > 2 * 64
    for outputs in (first, server.run(graph)):  # the second comes from the cache
        assert "flat along Z" in outputs["1"]["notes"][0]
        assert "flat along Z" in outputs["2"]["notes"][0]
        assert outputs["2"]["images"] == [sheet]
    assert "Load Mesh: the mesh is flat along Z" in server.log()


def test_no_gl_library_is_loaded_by_the_pack(server) -> None:
    before = mapped_gl(server)
    graph = {
        "1": node("RefAny3D_LoadMesh", mesh_file="3d/spot.glb"),
        "2": node("RefAny3D_RenderViews", mesh=["1", 0], **SIZES | {"pitch": 11.0}),
        "3": node("RefAny3D_RenderViews", mesh=["1", 0], backend="numpy", **SIZES),
        "4": node("PreviewImage", images=["2", 0]),
        "5": node("PreviewImage", images=["3", 0]),
    }
    server.run(graph)
    assert mapped_gl(server) == before
    assert not any("OSMesa" in name or "glfw" in name for name in before)
