"""The dataset templates through the real server: mask and mesh given in place of SAM 3 and of the
3D model, whose weights are not here."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graph import needed, template, to_api
from refany3d_core.asset import Camera, load_asset, look_at, render

pytestmark = pytest.mark.server
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("maker", ["TripoSplat", "Hunyuan3D"])
def test_a_photo_becomes_a_record(server, tmp_path, maker):
    asset = load_asset(ROOT / "assets" / "spot.glb")
    camera = Camera(look_at((2.5, 1.5, 4), (0.2, 0, 0)), 35.0, 160, 160)
    view = render(asset, camera, background=(0.2, 0.3, 0.5))
    for name, picture in (("photo", view.color), ("mask", np.repeat(view.mask[..., None], 3, -1))):
        Image.fromarray((picture * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
        server.upload(tmp_path / f"{name}.png")
    graph = to_api(template(f"SAM 3, {maker}"), server.get("/object_info"))
    given = {
        "RefAny3D_ExamplePhoto": ("LoadImage", {"image": "photo.png"}),
        "SAM3_Detect": ("LoadImageMask", {"image": "mask.png", "channel": "red"}),
        "SplatToMesh": ("RefAny3D_LoadMesh", {"mesh_file": "examples/spot.glb"}),
        "VoxelToMesh": ("RefAny3D_LoadMesh", {"mesh_file": "examples/spot.glb"}),
    }
    for node in graph.values():
        if node["class_type"] in given:
            node["class_type"], node["inputs"] = given[node["class_type"]]
        if node["class_type"] == "RefAny3D_SaveTriplet":
            node["inputs"]["dataset"] = maker
    kinds = {node["class_type"]: key for key, node in graph.items()}
    ends = [kinds[kind] for kind in ("RefAny3D_SaveTriplet", "PreviewImage", "PreviewAny")]
    outputs = server.run(needed(graph, ends))
    words = outputs[kinds["PreviewAny"]]["text"][0]
    assert words.startswith("Pose accepted.")
    dataset = server.base / "output" / "refany3d" / maker
    (record,) = json.loads((dataset / "meta_data.json").read_text())
    text = json.loads((dataset / record["json"]).read_text())
    assert text == {"text": "A cup of coffee on a table", "item": "coffee cup"}
    found = json.loads((dataset / record["json"]).with_name("camera.json").read_text())
    turn = np.array(found["camera_to_world"])[:3, :3].T @ camera.pose[:3, :3]
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 8
    assert found["iou"] > 0.9
