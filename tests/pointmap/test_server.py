"""Lock a pose, sample, recover the camera, check and export: one graph through the real server."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"width": 128, "height": 128}


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def graph(server):
    """The bundled template with stand-in models and a locked pose; `graph.at(kind)`: node ids."""
    from graph import set_widgets, template, to_api
    from standins import SWAPS

    api = to_api(template("with its point map"), server.get("/object_info"))
    kinds = {n["class_type"] for n in api.values()}
    small = SWAPS | {
        "RefAny3D_RenderViews": {"views": 2, "resolution": 128},
        "RefAny3D_Sampler": {"width": 512, "height": 512, "steps": 2},
    }
    api = set_widgets(api, {kind: values for kind, values in small.items() if kind in kinds})
    at = {n["class_type"]: key for key, n in api.items() if n["class_type"] != "SaveImage"}
    vae, mesh = [at["VAELoader"], 0], [at["RefAny3D_LoadMesh"], 0]
    api["pose"] = node(
        "RefAny3D_LockPose", vae=vae, mesh=mesh, **SIZE, azimuth=60.0, pitch=20.0, distance=3.5,
        roll=5.0, shift_x=0.0, shift_y=0.0, fov=45.0, strength=1.0, release=0.0, batch_size=1,
    )  # fmt: skip
    api[at["RefAny3D_Sampler"]]["inputs"]["latent"] = ["pose", 0]
    sampled = [at["RefAny3D_Sampler"], 1]
    held, view = ["pose", 2], ["pose", 4]
    api |= {
        "map": node("RefAny3D_DecodePointMap", vae=vae, point_map=sampled, mesh=mesh),
        "map out": node("SaveImage", images=["map", 0], filename_prefix="locked_map"),
        "asked latent": node("VAEEncode", vae=vae, pixels=held),
        "asked": node("VAEDecode", vae=vae, samples=["asked latent", 0]),
        "asked out": node("SaveImage", images=["asked", 0], filename_prefix="asked_map"),
        "camera": node(
            "RefAny3D_CameraFromPointMap", point_map=held, mesh=mesh, fov=45.0, batch_index=0
        ),
        "found": node(
            "RefAny3D_RenderViews", mesh=mesh, views=1, resolution=128, radius=4.0, pitch=0.0,
            y_rotation=0.0, camera_info=["camera", 0],
        ),
        "found out": node("SaveImage", images=["found", 0], filename_prefix="found"),
        "view out": node("SaveImage", images=view, filename_prefix="asked_view"),
        "depth out": node("SaveImage", images=["camera", 5], filename_prefix="depth"),
        "preview": node(
            "Preview3D", model_file=[at["RefAny3D_LoadMesh"], 1], camera_info=["camera", 0]
        ),
        "gltf": node("SaveGLB", mesh=["camera", 7], filename_prefix="3d/camera"),
        "check": node(
            "RefAny3D_CheckConsistency", image=view, point_map=held, mesh=mesh, fov=45.0
        ),
        "heat": node("SaveImage", images=["check", 1], filename_prefix="heat"),
        "report": node("PreviewAny", source=["check", 6]),
        "cloud": node(
            "RefAny3D_PointCloud", image=view, point_map=held, mesh=mesh, min_confidence=0.3,
            batch_index=0,
        ),
        "ply": node("SaveGLB", mesh=["cloud", 0], filename_prefix="3d/cloud"),
        "save": node(
            "RefAny3D_SaveReference", reference=[at["RefAny3D_EncodeReferences"], 0], name="spot"
        ),
    }  # fmt: skip
    return api


@pytest.fixture(scope="module")
def outputs(server, graph):
    return server.run(graph)


def saved(server, outputs, key: str) -> np.ndarray:
    entry = outputs[key]["images"][0]
    path = server.base / "output" / entry["subfolder"] / entry["filename"]
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_sampled_map_is_the_asked_one(server, outputs):
    """Its panel has the size of Lock Pose, and decodes to the very same picture."""
    sampled, asked = saved(server, outputs, "map out"), saved(server, outputs, "asked out")
    assert sampled.shape == (128, 128, 3)
    assert np.abs(sampled - asked).max() <= 1


def test_the_recovered_camera_shows_what_was_asked(server, outputs):
    found, asked = saved(server, outputs, "found out"), saved(server, outputs, "view out")
    same = np.abs(found - asked).max(-1) < 40
    assert same.mean() > 0.98 and (asked.min(-1) < 250).mean() > 0.1
    assert outputs["preview"]


def test_files_and_report(server, outputs):
    folder = server.base / "output" / "3d"
    camera = json.loads(next(folder.glob("camera*.gltf")).read_bytes())
    assert camera["cameras"][0]["type"] == "perspective"
    assert next(folder.glob("cloud*.ply")).read_bytes().startswith(b"ply")
    (report,) = json.loads(outputs["report"]["text"][0])
    assert report["score"] > 0.9 and report["no_camera"] == ""


def test_a_saved_reference_serves_the_sampler(server, graph, outputs):
    assert (server.base / "models" / "refany3d" / "references" / "spot.safetensors").is_file()
    graph = json.loads(json.dumps(graph))
    graph["load"] = node("RefAny3D_LoadReference", name="spot")
    for entry in graph.values():
        if entry["class_type"] == "RefAny3D_Sampler":
            entry["inputs"]["reference"] = ["load", 0]
    again = server.run(graph)
    assert np.array_equal(saved(server, again, "map out"), saved(server, outputs, "map out"))


def test_every_node_has_a_help_page(server):
    info = server.get("/object_info")
    for name in info:
        if name.startswith("RefAny3D_"):
            assert (ROOT / "web" / "docs" / f"{name}.md").is_file(), name
