"""Build the bundled templates in ComfyUI's real page and save them, each with a picture.

    python scripts/save_workflows.py [name ...]

The graphs are described in `flux_templates.py` and `demo_templates.py`; the page makes the nodes,
connects them and writes the JSON, so that the files are what a user's page would save.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import demo_templates
import flux_templates
from host_setup import ROOT, Host, main_with_setup

TEMPLATES = {
    "refany3d_flux_dev": flux_templates.flux_dev,
    "refany3d_advanced": flux_templates.advanced,
    "refany3d_demo": demo_templates.demo,
    "refany3d_lock_pose": demo_templates.lock_pose,
    "refany3d_camera_and_check": demo_templates.camera_and_check,
    "refany3d_saved_reference": demo_templates.saved_reference,
    "refany3d_to_3d": demo_templates.to_3d,
}

BUILD = """
const [nodes, links, groups, models] = args, made = {};
app.graph.clear();
for (const [key, spec] of nodes) {
  const node = LiteGraph.createNode(spec.type);
  if (!node) throw new Error('no such node: ' + spec.type);
  app.graph.add(node);
  node.pos = spec.pos;
  if (spec.title) node.title = spec.title;
  for (const [name, value] of Object.entries(spec.widgets ?? {})) {
    const widget = node.widgets.find(w => w.name === name) ?? node.widgets[Number(name)];
    if (!widget) throw new Error(spec.type + ' has no widget ' + name);
    widget.value = value;
  }
  for (const widget of node.widgets ?? [])
    if (widget.name === 'control_after_generate') widget.value = 'fixed';
  if (models[spec.type])
    node.properties.models = models[spec.type].map(
      ([name, directory, url]) => ({name, url, directory}));
  node.setSize(spec.size);
  made[key] = node;
}
for (const [from, output, to, input] of links) {
  const out = made[from].outputs.findIndex(o => o.name === output);
  const into = made[to].inputs.findIndex(i => i.name === input);
  if (out < 0 || into < 0) throw new Error(`no socket: ${from}.${output} -> ${to}.${input}`);
  if (!made[from].connect(out, made[to], into)) throw new Error(`refused: ${from} -> ${to}`);
}
for (const [title, bounds, color] of groups) {
  const group = new LiteGraph.LGraphGroup(title);
  group.pos = bounds.slice(0, 2);
  group.size = bounds.slice(2);
  group.color = color;
  app.graph.add(group);
}
app.graph.setDirtyCanvas(true, true);
return true;
"""


SHOW_VIEWS = """
const views = app.graph.nodes.find(n => n.type === 'RefAny3D_RenderViews');
const preview = LiteGraph.createNode('PreviewImage');
app.graph.add(preview);
views.connect(0, preview, 0);
await app.queuePrompt(0, 1, [preview.id]);
return preview.id;
"""
QUEUE_EMPTY = """
const queue = await (await fetch('/queue')).json();
return queue.queue_running.length + queue.queue_pending.length === 0;
"""
# Corners of the whole graph on the screen, after FitView.
BOUNDS = """
const boxes = [...app.graph.nodes, ...app.graph.groups].map(item => item.boundingRect);
const {scale, offset} = app.canvas.ds, rect = app.canvas.canvas.getBoundingClientRect();
const screen = (x, axis) => (x + offset[axis]) * scale + (axis ? rect.top : rect.left);
return [
  screen(Math.min(...boxes.map(b => b[0])), 0),
  screen(Math.min(...boxes.map(b => b[1])), 1),
  screen(Math.max(...boxes.map(b => b[0] + b[2])), 0),
  screen(Math.max(...boxes.map(b => b[1] + b[3])), 1),
];
"""


def build(page, name: str) -> None:
    """Build a template's graph in an empty page."""
    spec = TEMPLATES[name]()
    page.open()
    page.wait_until("return !!LiteGraph.registered_node_types.MarkdownNote;")
    # A list, because the driver would sort an object's keys and so the node ids.
    page.run(
        BUILD,
        list(spec["nodes"].items()),
        spec["links"],
        spec["groups"],
        flux_templates.MODELS | demo_templates.MODELS,
    )
    page.fit()


def save(page, name: str) -> None:
    """Write `workflows/<name>.json` as the page's own Save would."""
    from page import pretty

    build(page, name)
    workflow = json.loads(page.run("return JSON.stringify((await app.graphToPrompt()).workflow);"))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    target = ROOT / "workflows" / f"{name}.json"
    target.write_text(pretty(workflow), encoding="utf-8")
    print(f"wrote {target}")


def take_picture(page, name: str) -> None:
    """Run the mesh part of the graph, for its previews, and take a picture of the whole graph."""
    from PIL import Image

    build(page, name)
    preview = page.run(SHOW_VIEWS)
    page.wait_until(QUEUE_EMPTY, seconds=300)
    time.sleep(3)
    page.run("app.graph.remove(app.graph.getNodeById(args[0]));", preview)
    page.fit()
    picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    left, top, right, bottom = page.run(BOUNDS)
    margin = 12
    box = (max(0, left - margin), max(0, top - margin), right + margin, bottom + margin)
    target = ROOT / "workflows" / f"{name}.jpg"
    picture.crop(box).save(target, quality=88)
    print(f"wrote {target}")


def main_inside() -> None:
    """The part that runs in the private environment, with selenium and Pillow."""
    from comfy_server import ComfyServer
    from page import Page, quiet_first_run

    host = Host(Path(sys.executable), Path(os.environ["REFANY3D_COMFYUI"]), Path())
    with tempfile.TemporaryDirectory(prefix="refany3d-") as base:
        models = {**flux_templates.MODELS, **demo_templates.MODELS}
        # Only the bundled model is loaded here; for the others the page needs no more than names.
        for file, folder, _ in (entry for entries in models.values() for entry in entries):
            path = Path(base) / "models" / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for name in sys.argv[1:] or TEMPLATES:
            # A new server each time: a cached node shows no preview.
            server = ComfyServer(host, Path(base), ("--cpu", "--use-pytorch-cross-attention"))
            with server:
                quiet_first_run(server)
                with Page(server.url, (3000, 1800)) as page:
                    save(page, name)
                    take_picture(page, name)


def main(host: Host) -> int:
    environment = {**os.environ, "REFANY3D_COMFYUI": str(host.comfyui)}
    command = [str(host.python), __file__, *sys.argv[1:]]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    if "REFANY3D_COMFYUI" in os.environ:
        main_inside()
    else:
        sys.exit(main_with_setup(main))
