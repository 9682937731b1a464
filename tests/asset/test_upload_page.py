"""The upload button of Load Mesh in the real page."""

import base64
import os
from pathlib import Path

import pytest

from page import Page, missing_browser, quiet_first_run

pytestmark = [pytest.mark.server, pytest.mark.browser]

CUBE = Path(__file__).resolve().parents[1] / "data" / "meshes" / "cube_vertexcolor.glb"

# The page opens a file dialog by clicking a file input; here a click chooses the given file.
UPLOAD = """
const bytes = Uint8Array.from(atob(args[0]), c => c.charCodeAt(0));
HTMLInputElement.prototype.click = function () {
  const chosen = new DataTransfer();
  chosen.items.add(new File([bytes], 'uploaded.glb'));
  this.files = chosen.files;
  this.dispatchEvent(new Event('change'));
};
const node = LiteGraph.createNode('RefAny3D_LoadMesh');
app.graph.add(node);
const button = node.widgets.find(w => w.type === 'button');
button.callback();
return button.name;
"""
# An OBJ dropped with its MTL and its texture, where no node is.
DROP = """
const dropped = new DataTransfer();
for (const [name, text] of Object.entries(args[0])) dropped.items.add(new File([text], name));
const rect = app.canvas.canvas.getBoundingClientRect();
app.canvas.canvas.dispatchEvent(new DragEvent('drop', {
  bubbles: true, cancelable: true, dataTransfer: dropped,
  clientX: rect.left + rect.width / 2, clientY: rect.top + rect.height / 2,
}));
"""
DROPPED = """
const nodes = app.graph.nodes.filter(n => n.type === 'RefAny3D_LoadMesh');
const value = nodes.at(-1)?.widgets.find(w => w.name === 'mesh_file').value;
return nodes.length === 1 && value.includes('dropped') && value;
"""
CHOSEN = """
const node = app.graph.nodes.find(n => n.type === 'RefAny3D_LoadMesh');
const value = node.widgets.find(w => w.name === 'mesh_file').value;
return value.includes('uploaded') && [value, node.serialize().widgets_values];
"""


def test_a_mesh_is_uploaded_and_chosen(server) -> None:
    lacking = missing_browser()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"the browser tests must run here: {lacking}")
    if lacking:
        pytest.skip(lacking)
    quiet_first_run(server)
    with Page(server.url) as page:
        page.open()
        page.wait_until("return 'RefAny3D_LoadMesh' in LiteGraph.registered_node_types;")
        page.run("app.graph.clear();")
        content = base64.b64encode(CUBE.read_bytes()).decode()
        assert page.run(UPLOAD, content) == "upload mesh"
        value, saved = page.wait_until(CHOSEN)
        page.run("app.graph.clear();")
        files = {"dropped.obj": "mtllib dropped.mtl", "dropped.mtl": "newmtl a", "a.png": "x"}
        page.run(DROP, files)
        dropped = page.wait_until(DROPPED)
    assert dropped == "3d/dropped/dropped.obj"
    folder = server.base / "input" / "3d" / "dropped"
    assert {file.name: file.read_text() for file in folder.iterdir()} == files
    assert value == "3d/uploaded.glb"
    assert saved[0] == value and "upload mesh" not in saved  # the button is not saved
    assert (server.base / "input" / value).read_bytes() == CUBE.read_bytes()
