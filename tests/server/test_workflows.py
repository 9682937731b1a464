"""The bundled templates through the real server, with only file names and sizes swapped."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.server

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def pictures(server, graph: dict) -> dict[str, np.ndarray]:
    """The saved pictures of a run by their name, `image` and `point_map`."""
    files = server.files(server.run(graph))
    return {file.name.split("_0")[0]: picture(file) for file in files}


def test_there_are_templates():
    assert {"refany3d_flux_dev", "refany3d_advanced"} <= set(TEMPLATES)


@pytest.mark.parametrize("name", ["refany3d_flux_dev", "refany3d_advanced"])
def test_a_template_makes_an_image_and_a_point_map(server, template_graph, name):
    made = pictures(server, template_graph(name))
    assert set(made) == {"image", "point_map"}
    for array in made.values():
        assert array.shape == (128, 128, 3)
        assert array.std() > 2
    assert np.abs(made["image"] - made["point_map"]).mean() > 1


def test_both_templates_make_the_same_pictures(server, template_graph):
    """RefAny3D Sampler = Apply RefAny3D + stock KSampler on the published schedule."""
    sampler = pictures(server, template_graph("refany3d_flux_dev"))
    stock = pictures(server, template_graph("refany3d_advanced"))
    for name in ("image", "point_map"):
        # Rounding to 8 bits may fall to either side; the sampled latents agree to about 1e-4.
        assert np.abs(sampler[name] - stock[name]).max() <= 2


def test_the_same_prompt_gives_the_same_bytes_and_another_seed_does_not(server, template_graph):
    first = pictures(server, template_graph("refany3d_flux_dev"))
    other = pictures(server, template_graph("refany3d_flux_dev", {"RefAny3D_Sampler": {"seed": 2}}))
    again = pictures(server, template_graph("refany3d_flux_dev", {"RefAny3D_Sampler": {"seed": 1}}))
    for name in ("image", "point_map"):
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_changing_the_prompt_does_not_render_again(server, template_graph):
    graph = template_graph("refany3d_flux_dev", {"CLIPTextEncode": {"text": "a cow in the rain"}})
    server.run(graph)
    graph = template_graph("refany3d_flux_dev", {"CLIPTextEncode": {"text": "a cow in the snow"}})
    entry = server.wait(server.queue(graph))
    cached = next(data["nodes"] for kind, data in entry["status"]["messages"]
                  if kind == "execution_cached")  # fmt: skip
    kinds = {graph[node]["class_type"] for node in cached}
    assert {"RefAny3D_LoadMesh", "RefAny3D_RenderViews", "RefAny3D_EncodeReferences"} <= kinds


def test_the_server_lists_and_serves_the_templates(server):
    assert set(TEMPLATES) <= set(server.get("/workflow_templates")["refany3d"])
    for name in TEMPLATES:
        served = server.get(f"/api/workflow_templates/refany3d/{name}.json")
        assert served == json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
        jpeg = server.get_bytes(f"/api/workflow_templates/refany3d/{name}.jpg")
        assert jpeg[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("name", ["refany3d_flux_dev", "refany3d_advanced"])
def test_model_links_name_the_files_that_the_widgets_ask_for(name):
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    linked = {}
    for node in workflow["nodes"]:
        for model in node["properties"].get("models", []):
            assert model["name"] in node["widgets_values"]
            assert model["url"].startswith("https://")
            assert model["url"].endswith("/" + model["name"])
            linked[model["name"]] = model["directory"]
    assert linked == {
        "flux1-dev.safetensors": "diffusion_models",
        "t5xxl_fp16.safetensors": "text_encoders",
        "clip_l.safetensors": "text_encoders",
        "ae.safetensors": "vae",
        "default.safetensors": "refany3d",
        "coord.safetensors": "refany3d",
        "domain_embedder.pth": "refany3d",
    }
    notes = " ".join(str(node["widgets_values"]) for node in workflow["nodes"]
                     if node["type"] == "MarkdownNote")  # fmt: skip
    assert all(f"models/{folder}" in notes and file in notes for file, folder in linked.items())
