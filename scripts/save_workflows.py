"""Build the bundled templates in ComfyUI's real page, and save each with a thumbnail of its result.

    python scripts/save_workflows.py [sentence or part of it ...]

`template_parts.py` says how to add a template. The page makes the nodes, connects them, folds them
into subgraphs and writes the JSON, so that the files are what a user's page would save. A
screenshot of each at 1600 x 1000 goes to test-artifacts/.
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_server import ComfyServer, failure
from graph import WORKFLOWS
from host_setup import ROOT, Host, main_with_setup
from template_parts import Template

if TYPE_CHECKING:
    from PIL import Image

    from page import Page

THUMBNAIL, INSET, BORDER = 640, 216, 6

BUILD = """
const [nodes, links, boxes, groups, models] = args, made = {};
// Inner nodes in columns from left to right, each right of all that it takes from.
function layOut(subgraph) {
  const depth = new Map();
  const depthOf = node => {
    if (!depth.has(node.id)) {
      const sources = node.inputs.map((_, slot) => node.getInputNode(slot)).filter(Boolean);
      depth.set(node.id, Math.max(0, ...sources.map(source => depthOf(source) + 1)));
    }
    return depth.get(node.id);
  };
  const columns = [];
  for (const node of subgraph.nodes) (columns[depthOf(node)] ??= []).push(node);
  let x = 0, low = 0;
  for (const column of columns) {
    let y = 0;
    for (const node of column) {
      node.setSize([Math.max(320, node.computeSize()[0]), node.computeSize()[1]]);
      node.pos = [x, y];
      y += node.size[1] + 80;
    }
    x += Math.max(...column.map(n => n.size[0])) + 100;
    low = Math.max(low, y);
  }
  subgraph.inputNode.pos = [-300, 0];
  subgraph.outputNode.pos = [x + 20, 0];
}
app.graph.clear();
for (const [key, spec] of nodes) {
  const node = LiteGraph.createNode(spec.type);
  if (!node) throw new Error('no such node: ' + spec.type);
  app.graph.add(node);
  node.pos = spec.pos;
  if (spec.title) node.title = spec.title;
  node.mode = spec.mode;
  for (const [name, value] of Object.entries(spec.widgets)) {
    const widget = node.widgets.find(w => w.name === name) ?? node.widgets[Number(name)];
    if (!widget) throw new Error(spec.type + ' has no widget ' + name);
    widget.value = value;
    widget.callback?.(value);
  }
  for (const widget of node.widgets ?? [])
    if (widget.name === 'control_after_generate') widget.value = 'fixed';
  const files = models[key] ?? models[spec.type];
  if (files)
    node.properties.models = files.map(
      ([name, directory, url]) => ({name, url, directory}));
  node.setSize(spec.size);
  node.properties.key = key;
  made[key] = node;
}
for (const [from, output, to, input] of links) {
  const out = made[from].outputs.findIndex(o => o.name === output);
  const into = made[to].inputs.findIndex(i => i.name === input);
  if (out < 0 || into < 0) throw new Error(`no socket: ${from}.${output} -> ${to}.${input}`);
  if (!made[from].connect(out, made[to], into)) throw new Error(`refused: ${from} -> ${to}`);
}
const ids = {};
for (const [key, box] of boxes) {
  const {node, subgraph} = app.graph.convertToSubgraph(new Set(box.nodes.map(k => made[k])));
  node.title = subgraph.name = box.title;
  const inner = Object.fromEntries(subgraph.nodes.map(n => [n.properties.key, n]));
  // The page promotes some widgets (seed, text) by itself; box.widgets says which are shown.
  const outside = new Set(node.inputs.filter(i => i.link != null).map(i => i.name));
  for (const socket of [...subgraph.inputs])
    if (!outside.has(socket.name)) subgraph.removeInput(socket);
  for (const [owner, name, shown] of box.widgets) {
    const socket = inner[owner].inputs.find(i => i.widget?.name === name);
    if (!socket) throw new Error(`${owner} has no widget ${name} to show`);
    subgraph.addInput(shown, socket.type).connect(socket, inner[owner]);
  }
  for (const socket of subgraph.inputs)
    if (box.names[socket.name]) subgraph.renameInput(socket, box.names[socket.name]);
  for (const socket of subgraph.outputs)
    if (box.names[socket.name]) subgraph.renameOutput(socket, box.names[socket.name]);
  layOut(subgraph);
  node.pos = box.pos;
  node.setSize(box.size);
  for (const [k, n] of Object.entries(inner)) ids[k] = `${node.id}:${n.id}`;
  made[key] = node;
  ids[key] = `${node.id}`;
}
for (const node of app.graph.nodes)
  if (node.properties.key) ids[node.properties.key] = `${node.id}`;
for (const graph of [app.graph, ...app.graph.subgraphs.values()])
  for (const node of graph.nodes) delete node.properties.key;
for (const [title, bounds, color] of groups) {
  const group = new LiteGraph.LGraphGroup(title);
  group.pos = bounds.slice(0, 2);
  group.size = bounds.slice(2);
  group.color = color;
  app.graph.add(group);
}
app.graph.setDirtyCanvas(true, true);
return ids;
"""


def all_templates() -> dict[str, Callable[[], Template]]:
    """Every template of the `*_templates.py` beside this file, by its sentence."""
    found: dict[str, Callable[[], Template]] = {}
    for file in sorted(Path(__file__).parent.glob("*_templates.py")):
        found |= importlib.import_module(file.stem).TEMPLATES
    return found


def build(page: Page, template: Template) -> dict[str, str]:
    """Build a template's graph in an empty page; node ids of the API graph by the template's."""
    page.open()
    page.wait_until("return !!LiteGraph.registered_node_types.MarkdownNote;")
    boxes = [(key, {**vars(box), "nodes": list(box.nodes)}) for key, box in template.boxes.items()]
    # Lists, because the driver would sort an object's keys and so the node ids.
    nodes = list(template.nodes.items())
    return page.run(BUILD, nodes, template.links, boxes, template.groups, template.models)


def save(page: Page, name: str, template: Template) -> dict[str, str]:
    """Write `workflows/<name>.json` as the page's own Save would; gives what `build` gives."""
    from page import pretty

    ids = build(page, template)
    workflow = json.loads(page.run("return JSON.stringify((await app.graphToPrompt()).workflow);"))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    for number, subgraph in enumerate(workflow.get("definitions", {}).get("subgraphs", [])):
        rename(workflow, subgraph["id"], str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {number}")))
    if template.app_outputs:
        workflow["extra"]["linearData"] = {
            "inputs": [[int(ids[key]), widget] for key, widget in template.app_inputs],
            "outputs": [int(ids[key]) for key in template.app_outputs],
        }
    for box, title in template.blueprints.items():
        file = ROOT / "subgraphs" / f"{title}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(pretty(blueprint(workflow, int(ids[box]), title)), encoding="utf-8")
    target = WORKFLOWS / f"{name}.json"
    target.write_text(pretty(workflow), encoding="utf-8")
    print(f"wrote {target}", flush=True)
    return ids


def blueprint(workflow: dict, node_id: int, title: str) -> dict:
    """A workflow with one box and nothing around it, as the page saves a blueprint."""
    box = copy.deepcopy(next(node for node in workflow["nodes"] if node["id"] == node_id))
    for socket in box["inputs"]:
        socket["link"] = None
    for socket in box["outputs"]:
        socket["links"] = None
    box |= {"title": title, "pos": [0, 0], "order": 0}
    subgraphs = copy.deepcopy(workflow["definitions"]["subgraphs"])
    used = next(entry for entry in subgraphs if entry["id"] == box["type"])
    used["name"] = title
    return {
        "revision": 0,
        "last_node_id": node_id,
        "last_link_id": 0,
        "nodes": [box],
        "links": [],
        "version": workflow["version"],
        "definitions": {"subgraphs": [used]},
    }


def rename(workflow: dict, old: str, new: str) -> None:
    """Give a subgraph an id that is the same in every build."""
    text = json.dumps(workflow).replace(old, new)
    workflow.clear()
    workflow.update(json.loads(text))


def pictures(server: ComfyServer, page: Page, keys: list[str]) -> list[Image.Image]:
    """The first picture of each node, from a run of what they need, out of the page."""
    from PIL import Image

    known = set(server.get("/history"))
    page.run("await app.queuePrompt(0, 1, args[0]);", keys)
    server.wait_until_idle()
    entry = next(v for k, v in server.get("/history").items() if k not in known)
    if entry["status"]["status_str"] != "success":
        raise RuntimeError(failure(entry))
    found = []
    for key in keys:
        query = urllib.parse.urlencode(entry["outputs"][key]["images"][0])
        found.append(Image.open(io.BytesIO(server.get_bytes(f"/view?{query}"))).convert("RGB"))
    return found


def thumbnail(images: list[Image.Image]) -> Image.Image:
    """The first as a square, the others small along its lower edge."""
    from PIL import Image, ImageOps

    sheet = ImageOps.pad(images[0], (THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, "white")
    for number, image in enumerate(images[1:]):
        small = ImageOps.pad(image, (INSET, INSET), Image.Resampling.BICUBIC, "white")
        small = ImageOps.expand(small, BORDER, "white")
        side = THUMBNAIL - small.width
        sheet.paste(small, (side if number == 0 else 0, side))
    return sheet


def touch_models(templates: list[Template], models: Path) -> None:
    """Empty files in the place of what a template asks for: the page needs no more than names."""
    for template in templates:
        for entries in template.models.values():
            for file, folder, _ in entries:
                path = models / folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()


def main_inside() -> None:
    """The part that runs in the private environment, with selenium and Pillow."""
    from page import Page, quiet_first_run

    host = Host(Path(sys.executable), Path(os.environ["REFANY3D_COMFYUI"]), Path())
    parts = sys.argv[1:] or [""]
    chosen = {n: make() for n, make in all_templates().items() if any(p in n for p in parts)}
    if not chosen:
        sys.exit(f"no template's name has {' or '.join(parts)} in it")
    WORKFLOWS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="refany3d-") as base:
        touch_models(list(chosen.values()), Path(base) / "models")
        server = ComfyServer(host, Path(base), ("--cpu", "--use-pytorch-cross-attention"))
        with server, Page(server.url, (1600, 1000)) as page:
            quiet_first_run(server)
            for name, template in chosen.items():
                ids = save(page, name, template)
                page.fit()
                page.screenshot(ROOT / "test-artifacts" / f"{name}.png")
                images = pictures(server, page, [ids[key] for key in template.thumbnail])
                thumbnail(images).save(WORKFLOWS / f"{name}.jpg", quality=85)


def main(host: Host) -> int:
    environment = {**os.environ, "REFANY3D_COMFYUI": str(host.comfyui)}
    command = [str(host.python), __file__, *sys.argv[1:]]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    if "REFANY3D_COMFYUI" in os.environ:
        main_inside()
    else:
        sys.exit(main_with_setup(main))
