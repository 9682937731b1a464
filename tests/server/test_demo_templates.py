"""The templates on the bundled model through the real server, as they are but for fewer steps."""

import numpy as np
import pytest
from PIL import Image

from graph import needed, set_widgets, template, to_api
from standins import SWAPS

pytestmark = pytest.mark.server

FEW = {"RefAny3D_Sampler": {"steps": 8}, "KSampler": {"steps": 8}}


def graph_of(server, name: str, changes: dict) -> dict:
    graph = to_api(template(name), server.get("/object_info"))
    kinds = {node["class_type"] for node in graph.values()}
    return set_widgets(graph, {kind: v for kind, v in changes.items() if kind in kinds})


def made(server, graph: dict) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for file in sorted(server.files(server.run(graph))):
        if file.suffix == ".png":
            picture = np.asarray(Image.open(file).convert("RGB")) / 255
            found.setdefault(file.name.split("_0")[0], []).append(picture)
    return found


def test_demo(server):
    pictures = made(server, graph_of(server, "without a download", FEW))
    (image,), (point_map,) = pictures["image"], pictures["point_map"]
    assert image.shape == point_map.shape == (96, 96, 3)
    # a picture of something: an object on a white map, a scene without white around
    assert 0.05 < (point_map.min(-1) < 0.9).mean() < 0.9
    assert point_map[:4].min(-1).mean() > 0.9 and image.std() > 0.1


def test_locked_pose_is_the_asked_one(server):
    """The map that comes out is the map that was held: the mushroom from the asked camera."""
    graph = graph_of(server, "locked point map", FEW)
    key = next(k for k, n in graph.items() if n["class_type"] == "RefAny3D_LockPose")
    graph["asked"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [key, 2], "filename_prefix": "RefAny3D/asked"},
    }
    pictures = made(server, graph)
    found, asked = pictures["point_map"][0], pictures["asked"][0]
    # encoded and decoded once, so its outline and its colours are blurred, not moved
    assert np.abs(found - asked).mean() < 0.05


def test_camera_and_check(server):
    """As it is: with fewer steps no map is good enough for a camera."""
    pictures = made(server, graph_of(server, "Find the camera", {}))
    assert pictures["best"][0].shape == (96, 96, 3)


def test_a_saved_reference_is_used_without_the_mesh(server):
    """First Run: saved, and a picture. Next session: the same picture by Load Reference."""
    graph = graph_of(server, "save its reference", FEW)
    file = server.base / "models" / "refany3d" / "references" / "mushroom.safetensors"
    file.unlink(missing_ok=True)
    first = made(server, graph)["image"][0]
    assert file.is_file()
    graph["load"] = {"class_type": "RefAny3D_LoadReference", "inputs": {"name": "mushroom"}}
    sampler = next(n for n in graph.values() if n["class_type"] == "RefAny3D_Sampler")
    sampler["inputs"]["reference"] = ["load", 0]
    later = needed(graph, [k for k, n in graph.items() if n["class_type"] == "SaveImage"])
    assert "RefAny3D_LoadMesh" not in {n["class_type"] for n in later.values()}
    assert np.abs(made(server, later)["image"][0] - first).max() < 0.01


def test_four_sides_for_a_3d_model(server):
    """The part before Hunyuan3D, with stand-ins in place of FLUX.1-dev."""
    small = {"width": 128, "height": 128}
    changes = {
        **SWAPS, "RefAny3D_RenderViews": {"views": 2, "resolution": 128},
        "RefAny3D_LockPose": small, "EmptyImage": small, "RefAny3D_Sampler": {"steps": 2},
    }  # fmt: skip
    graph = graph_of(server, "as a new 3D model", changes)
    graph = needed(graph, [k for k, n in graph.items() if n["class_type"] == "SaveImage"])
    pictures = made(server, graph)
    assert {"front", "left", "back", "right"} <= set(pictures)
    for side in ("front", "left", "back", "right"):
        picture = pictures[side][0]
        assert (picture[0] == 1).all() and (picture < 1).any(-1).mean() > 0.1
