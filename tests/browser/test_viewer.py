"""Core's 3D viewer in the page and Lock Pose: one camera shows one picture."""

import io
import os
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from page import Page, missing_browser, quiet_first_run

pytestmark = [pytest.mark.server, pytest.mark.browser]

SIZE = 256
GRAPH = {
    "1": {
        "class_type": "Load3D",
        "inputs": {"model_file": "3d/signpost.glb", "width": SIZE, "height": SIZE},
    },
    "2": {"class_type": "RefAny3D_LoadDemoModels", "inputs": {}},
    "3": {
        "class_type": "RefAny3D_LockPose",
        "inputs": {
            "mesh": ["1", 6], "vae": ["2", 2], "camera_info": ["1", 4], "model_3d_info": ["1", 7],
            "width": SIZE, "height": SIZE,
        },
    },
    "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "viewer"}},
    "5": {"class_type": "SaveImage", "inputs": {"images": ["3", 4], "filename_prefix": "ours"}},
}  # fmt: skip
# Cameras on no side's middle, closer than the viewer's own: from the front, and from behind.
POSITIONS = [{"x": 3.0, "y": 5.0, "z": 6.5}, {"x": -5.5, "y": 3.0, "z": -4.0}]
TARGET = {"x": 0.0, "y": 1.0, "z": 0.0}
# As a saved workflow brings a viewer back: its state is in the node's properties.
AIM = """
const workflow = app.graph.serialize();
const node = workflow.nodes.find(n => n.type === 'Load3D');
node.properties['Camera Config'] = {cameraType: 'perspective', fov: 50, state: args[0]};
node.properties['Scene Config'] = {showGrid: false, backgroundColor: '#ffffff'};
await app.loadGraphData(workflow);
"""
LOADED = """
if (app.graph.serialize().nodes.some(n => n.type === 'Load3D')) return true;
await app.loadApiJson(args[0], 'viewer');
return false;
"""
MODEL_SHOWN = """
const node = app.graph.nodes.find(n => n.type === 'Load3D');
const state = await node.widgets.find(w => w.name === 'image').serializeValue();
return state.model_3d_info.length > 0 && Math.abs(state.camera_info.position.x - args[0]) < 1e-3;
"""
SAVED_URL = """
return app.graph.nodes.find(n => n.type === 'SaveImage' && n.widgets.some(w => w.value === args[0]))
  .imgs[0].src;
"""
PICTURES_SAVED = """
const queue = await (await fetch('/queue')).json();
const saved = app.graph.nodes.filter(n => n.type === 'SaveImage');
return queue.queue_running.length + queue.queue_pending.length === 0
  && saved.every(n => n.imgs?.length && n.imgs.every(i => i.complete));
"""


@pytest.fixture(scope="module")
def page(server, signpost):
    lacking = missing_browser()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"the browser tests must run here: {lacking}")
    if lacking:
        pytest.skip(lacking)
    quiet_first_run(server)
    signpost.export(server.base / "input" / "3d" / "signpost.glb")
    with Page(server.url) as opened:
        yield opened


def picture(page, prefix: str) -> np.ndarray:
    """float [H, W, 3] in 0..1: what the page shows under the Save Image node of that prefix."""
    url = page.run(SAVED_URL, prefix)
    with urllib.request.urlopen(url) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB")) / 255


def arms(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """bool [H, W] where a picture is clearly of one arm's hue, however it is lit."""
    spread = rgb.max(-1) - rgb.min(-1)
    return {
        name: (rgb.argmax(-1) == channel) & (spread > 0.3)
        for channel, name in enumerate(("red", "green", "blue"))
    }


@pytest.mark.parametrize("position", POSITIONS, ids=["front", "behind"])
def test_lock_pose_sees_what_the_viewer_shows(page, artifacts, position):
    """The red, green and blue arms of a signpost, at the same pixels in the viewer's own picture
    and in ours."""
    page.open()
    for _ in range(2):  # a page that is still starting may put its own workflow over ours
        page.wait_until(LOADED, GRAPH)
        time.sleep(2)
    camera = {"position": position, "target": TARGET, "zoom": 1, "cameraType": "perspective"}
    page.run(AIM, camera)
    page.wait_until(MODEL_SHOWN, position["x"])
    page.run("await app.extensionManager.command.execute('Comfy.QueuePrompt');")
    try:
        page.wait_until(PICTURES_SAVED)
    finally:
        page.fit()
        page.screenshot(artifacts / "viewer.png")
    theirs, ours = arms(picture(page, "viewer")), arms(picture(page, "ours"))
    for name in theirs:
        assert theirs[name].sum() > 100
        overlap = (theirs[name] & ours[name]).sum() / (theirs[name] | ours[name]).sum()
        assert overlap > 0.85, name
