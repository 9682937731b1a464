"""The templates in ComfyUI's real page, in a headless Chromium."""

import json
import os
from pathlib import Path

import pytest

from graph import to_api
from page import Page, missing_browser, quiet_first_run
from standins import SWAPS

pytestmark = [pytest.mark.server, pytest.mark.browser]

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = ["refany3d_flux_dev", "refany3d_advanced"]
DEMOS = ["refany3d_demo", "refany3d_lock_pose", "refany3d_camera_and_check",
         "refany3d_saved_reference"]  # fmt: skip
ALL = [*NAMES, *DEMOS, "refany3d_to_3d"]
SMALL = {
    "RefAny3D_RenderViews": {"views": 2, "resolution": 128},
    "RefAny3D_Sampler": {"width": 128, "height": 128, "steps": 2},
    "RefAny3D_Apply": {"width": 128, "height": 128},
    "ModelSamplingFlux": {"width": 128, "height": 128},
    "KSampler": {"steps": 2},
}

# Node types that the page does not know, and links whose two ends do not fit or are gone.
FAULTS = """
const faults = [];
for (const node of app.graph.nodes) {
  if (!LiteGraph.registered_node_types[node.type] || node.has_errors)
    faults.push('missing node: ' + node.type);
}
for (const link of app.graph.links.values()) {
  const from = app.graph.getNodeById(link.origin_id)?.outputs?.[link.origin_slot];
  const to = app.graph.getNodeById(link.target_id)?.inputs?.[link.target_slot];
  if (!from || !to || !LiteGraph.isValidConnection(from.type, to.type))
    faults.push(`bad link ${link.origin_id}.${link.origin_slot} -> ${link.target_id}`);
}
return faults;
"""
# What the page shows of each of our nodes.
SHOWN = """
return Object.fromEntries(app.graph.nodes.filter(n => n.type.startsWith('RefAny3D_')).map(n => [
  n.type, {
    inputs: (n.inputs ?? []).filter(i => !i.widget).map(i => i.name),
    outputs: (n.outputs ?? []).map(o => o.name),
    widgets: (n.widgets ?? []).map(w => w.name),
  }]));
"""
SET_WIDGETS = """
for (const node of app.graph.nodes)
  for (const [name, value] of Object.entries(args[0][node.type] ?? {}))
    node.widgets.find(w => w.name === name).value = value;
"""
# The Run button: found by what it does, since its look changes between versions of the page.
PRESS_RUN = "await app.extensionManager.command.execute('Comfy.QueuePrompt'); return true;"
QUEUE_EMPTY = """
const queue = await (await fetch('/queue')).json();
return queue.queue_running.length + queue.queue_pending.length === 0;
"""
DEMO_PICTURES_SHOWN = """
const saved = app.graph.nodes.filter(n => n.type === 'SaveImage');
return saved.length > 0 && saved.every(
  n => n.imgs?.length && n.imgs.every(i => i.complete && i.naturalWidth === 96));
"""
PICTURES_SHOWN = """
const saved = app.graph.nodes.filter(n => n.type === 'SaveImage');
return saved.length === 2 && saved.every(
  n => n.imgs?.length && n.imgs.every(i => i.complete && i.naturalWidth === 128));
"""


@pytest.fixture(scope="module")
def page(server):
    lacking = missing_browser()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"the browser tests must run here: {lacking}")
    if lacking:
        pytest.skip(lacking)
    quiet_first_run(server)
    pretend_models(server.base / "models")
    with Page(server.url, (2600, 1600)) as opened:
        yield opened


def pretend_models(folder: Path) -> None:
    """Empty files with the real names, so that the page marks no node for a missing model."""
    for name in ALL:
        for node in saved(name)["nodes"]:
            for model in node["properties"].get("models", []):
                file = folder / model["directory"] / model["name"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()


@pytest.fixture(params=NAMES)
def template(request, page):
    page.open_template(request.param, "refany3d")
    return request.param


@pytest.fixture(params=ALL)
def any_template(request, page):
    page.open_template(request.param, "refany3d")
    return request.param


def saved(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def test_a_template_opens_whole(page, any_template):
    assert page.run(FAULTS) == []
    workflow = saved(any_template)
    counts = page.run("return [app.graph.nodes.length, [...app.graph.links.values()].length];")
    assert counts == [len(workflow["nodes"]), len(workflow["links"])]


def test_widgets_and_sockets_show(page, template):
    shown = page.run(SHOWN)
    assert shown["RefAny3D_LoadMesh"]["outputs"][0] == "mesh"
    assert "mesh_file" in shown["RefAny3D_LoadMesh"]["widgets"]
    views = shown["RefAny3D_RenderViews"]
    assert views["inputs"][0] == "mesh"
    assert views["outputs"][:3] == ["views", "point_maps", "masks"]
    assert {"views", "resolution", "radius", "pitch", "y_rotation"} <= set(views["widgets"])
    lora_files = ["reference_lora", "domain_lora", "domain_embedder"]
    assert shown["RefAny3D_LoadAdapters"]["widgets"][:3] == lora_files
    assert shown["RefAny3D_EncodeReferences"]["inputs"] == ["vae", "views", "point_maps"]
    four = ["model", "adapters", "reference", "positive"]
    if template == "refany3d_flux_dev":
        sampler = shown["RefAny3D_Sampler"]
        assert sampler["inputs"][:4] == four
        assert sampler["outputs"][:2] == ["image", "point_map"]
        assert {"seed", "steps", "image_guidance", "scheduler"} <= set(sampler["widgets"])
    else:
        apply = shown["RefAny3D_Apply"]
        assert apply["inputs"][:4] == four
        assert apply["outputs"][:4] == ["model", "positive", "negative", "latent"]


def test_a_template_runs_from_the_page(page, server, template, artifacts):
    page.run(SET_WIDGETS, {**SWAPS, **SMALL})
    page.errors()
    page.run(PRESS_RUN)
    try:
        page.wait_until(PICTURES_SHOWN)
    finally:
        page.fit()
        page.screenshot(artifacts / f"{template}.png")
    severe = [text for text in page.errors() if "refany3d" in text.lower()]
    assert severe == []


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_template_runs_from_the_page(page, name, artifacts):
    """As it is but for fewer steps: the bundled model, the bundled mesh, no file of the user."""
    page.open_template(name, "refany3d")
    few = {"RefAny3D_Sampler": {"steps": 8}, "KSampler": {"steps": 8}}
    page.run(SET_WIDGETS, few)
    page.errors()
    page.run(PRESS_RUN)
    if name == "refany3d_saved_reference":  # the lower part finds what the upper part saved
        page.wait_until(QUEUE_EMPTY)
        page.run(PRESS_RUN)
    try:
        page.wait_until(DEMO_PICTURES_SHOWN)
    finally:
        page.fit()
        page.screenshot(artifacts / f"{name}.png")
    assert [text for text in page.errors() if "refany3d" in text.lower()] == []


def test_the_page_and_our_reader_give_the_same_graph(page, server, any_template):
    """scripts/graph.py converts a saved file as `app.graphToPrompt()` does."""
    info = server.get("/object_info")
    theirs = page.run("return (await app.graphToPrompt()).output;")
    for node in theirs.values():  # a 3D viewer sends its own state, which Preview 3D does not take
        known = info[node["class_type"]]["input"]
        if not any("image" in inputs for inputs in known.values()):
            node["inputs"].pop("image", None)
    ours = to_api(saved(any_template), info)
    assert {key: node["inputs"] for key, node in theirs.items()} == {
        key: node["inputs"] for key, node in ours.items()
    }
