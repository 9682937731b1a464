"""A picture of each node for its help page, out of the real page: `web/docs/<node id>.webp`.

    python scripts/help_pictures.py [node id ...]

Without arguments, of those that have one so far or whose help page has no picture. Load Mesh and
Render Reference Views are shown after a run.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from comfy_server import ComfyServer
from host_setup import ROOT, Host, main_with_setup
from page import Page, quiet_first_run

HELP = ROOT / "web" / "docs"
# Names for the combos; nothing of them is read.
FILES = ("default.safetensors", "coord.safetensors", "domain_embedder.pth",
         "references/my_asset.safetensors")  # fmt: skip
RUN = {
    "1": {"class_type": "RefAny3D_LoadMesh", "inputs": {"mesh_file": "examples/spot.glb"}},
    "2": {"class_type": "RefAny3D_RenderViews", "inputs": {"mesh": ["1", 0], "views": 4}},
}
SHOW_ALONE = """
app.graph.clear();
const node = LiteGraph.createNode(args[0]);
app.graph.add(node);
node.setSize([Math.max(node.size[0], 280), node.size[1]]);
"""
SHEET_SHOWN = """
const image = app.graph.nodes.find(n => n.type === 'RefAny3D_RenderViews')?.imgs?.[0];
return image?.complete && image.naturalWidth > 0;
"""
# Puts the node where nothing of the page covers it, and gives its frame in the window.
PLACE = """
const node = app.graph.nodes.find(n => n.type === args[0]);
const canvas = app.canvas, frame = canvas.canvas.getBoundingClientRect();
canvas.ds.scale = 1;
canvas.ds.offset = [300 - node.pos[0], 130 - node.pos[1]];
canvas.setDirty(true, true);
await new Promise(done => setTimeout(done, 1500));
return {x: frame.left + 288, y: frame.top + 74, width: node.size[0] + 24,
        height: node.size[1] + 68, scale: 1};
"""


def picture(page: Page, node_id: str) -> bytes:
    """WebP of the node on the canvas."""
    settings = {"format": "webp", "quality": 80, "clip": page.run(PLACE, node_id)}
    shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", settings)
    return base64.b64decode(shot["data"])


def main(host: Host) -> int:
    wanted = sys.argv[1:] or [
        file.stem for file in sorted(HELP.glob("RefAny3D_*.md"))
        if file.with_suffix(".webp").is_file() or "![" not in file.read_text("utf-8")
    ]  # fmt: skip
    arguments = ("--cpu", "--use-pytorch-cross-attention")
    with tempfile.TemporaryDirectory(prefix="refany3d-") as base:
        for name in FILES:
            file = Path(base) / "models" / "refany3d" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        with ComfyServer(host, Path(base), arguments) as server:
            take(server, wanted)
    return 0


def take(server: ComfyServer, wanted: list[str]) -> None:
    quiet_first_run(server)
    with Page(server.url, (1600, 1200)) as page:
        page.open_started()
        for node_id in sorted(wanted, key=lambda name: name in RUN_IDS):
            if node_id not in RUN_IDS:
                page.run(SHOW_ALONE, node_id)
            elif not page.run(SHEET_SHOWN):
                page.run("await app.loadApiJson(args[0], 'help');", RUN)
                page.run("await app.extensionManager.command.execute('Comfy.QueuePrompt');")
                page.wait_until(SHEET_SHOWN)
            (HELP / f"{node_id}.webp").write_bytes(picture(page, node_id))
            print(node_id, (HELP / f"{node_id}.webp").stat().st_size)


RUN_IDS = {str(node["class_type"]) for node in RUN.values()}

if __name__ == "__main__":
    sys.exit(main_with_setup(main))
