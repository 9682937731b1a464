"""The bundled templates through the real server, with only file names and sizes swapped."""

import re
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graph import WORKFLOWS, template

pytestmark = pytest.mark.server

FILE = re.compile(r".*[.](safetensors|sft|pth|gguf)")
TEMPLATES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def pictures(server, graph: dict) -> dict[str, np.ndarray]:
    """The saved pictures of a run by their name, `image` and `point_map`."""
    files = server.files(server.run(graph))
    return {file.name.split("_0")[0]: picture(file) for file in files}


@pytest.mark.parametrize("name", ["with its point map", "any stock sampler"])
def test_a_template_makes_an_image_and_a_point_map(server, template_graph, name):
    made = pictures(server, template_graph(name))
    assert set(made) == {"image", "point_map"}
    for array in made.values():
        assert array.shape == (128, 128, 3)
        assert array.std() > 2
    assert np.abs(made["image"] - made["point_map"]).mean() > 1


def test_both_templates_make_the_same_pictures(server, template_graph):
    """RefAny3D Sampler = Apply RefAny3D + stock KSampler on the published schedule."""
    sampler = pictures(server, template_graph("with its point map"))
    stock = pictures(server, template_graph("any stock sampler"))
    for name in ("image", "point_map"):
        # Rounding to 8 bits may fall to either side; the sampled latents agree to about 1e-4.
        assert np.abs(sampler[name] - stock[name]).max() <= 2


def test_the_same_prompt_gives_the_same_bytes_and_another_seed_does_not(server, template_graph):
    first = pictures(server, template_graph("with its point map"))
    other = pictures(
        server, template_graph("with its point map", {"RefAny3D_Sampler": {"seed": 2}})
    )
    again = pictures(
        server, template_graph("with its point map", {"RefAny3D_Sampler": {"seed": 1}})
    )
    for name in ("image", "point_map"):
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_changing_the_prompt_does_not_render_again(server, template_graph):
    graph = template_graph("with its point map", {"CLIPTextEncode": {"text": "a cow in the rain"}})
    server.run(graph)
    graph = template_graph("with its point map", {"CLIPTextEncode": {"text": "a cow in the snow"}})
    entry = server.wait(server.queue(graph))
    cached = next(data["nodes"] for kind, data in entry["status"]["messages"]
                  if kind == "execution_cached")  # fmt: skip
    kinds = {graph[node]["class_type"] for node in cached}
    assert {"RefAny3D_LoadMesh", "RefAny3D_RenderViews", "RefAny3D_EncodeReferences"} <= kinds


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_server_lists_and_serves_a_template(server, name):
    assert name in server.get("/workflow_templates")["refany3d"]
    address = f"/api/workflow_templates/refany3d/{urllib.parse.quote(name)}"
    assert server.get(f"{address}.json") == template(name)
    assert server.get_bytes(f"{address}.jpg")[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_small_and_its_name_says_what_it_is_for(name):
    """4 to 8 nodes in sight, a note among them, and words that people search for."""
    workflow = template(name)
    assert 4 <= len(workflow["nodes"]) <= 8
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    assert re.search("mesh|3D|camera|photo", name) and len(name.split()) >= 5
    assert not set(name) & set('/:*?"<>|\\')


def all_nodes(workflow: dict) -> list[dict]:
    inner = workflow.get("definitions", {}).get("subgraphs", [])
    return [*workflow["nodes"], *(node for subgraph in inner for node in subgraph["nodes"])]


@pytest.mark.parametrize("name", TEMPLATES)
def test_model_links_name_the_files_that_the_widgets_ask_for(name):
    """Every file of a loader has its address, in the loader's models and in the note."""
    nodes = all_nodes(template(name))
    notes = " ".join(str(n["widgets_values"]) for n in nodes if n["type"] == "MarkdownNote")
    boxes = {s["id"] for s in template(name).get("definitions", {}).get("subgraphs", [])}
    for node in (node for node in nodes if node["type"] not in boxes):
        linked = {model["name"]: model for model in node["properties"].get("models", [])}
        files = [v for v in node.get("widgets_values") or [] if FILE.fullmatch(str(v))]
        assert set(linked) == set(files), node["type"]
        for file, model in linked.items():
            assert model["url"].startswith("https://") and model["url"].endswith("/" + file)
            known = f"[{file}]({model['url']}) in `models/{model['directory']}`" in notes
            assert known or "as a new 3D model" in name  # its note names the other templates
