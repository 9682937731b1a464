"""scripts/queue_template.py, as a user's program calls it."""

import shutil
import subprocess
import sys

import pytest

from host_setup import ROOT

pytestmark = pytest.mark.server
SCRIPT = ROOT / "scripts" / "queue_template.py"


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_a_template_is_queued_with_another_mesh_and_prompt(server):
    shutil.copyfile(ROOT / "assets" / "mushroom.glb", server.base / "input/3d/my_model.glb")
    done = call(server.url, "my_model.glb", "a red chair", "without a download")
    assert done.returncode == 0, done.stderr
    prompt_id = done.stdout.strip().rsplit("/", 1)[1]
    queue = server.get("/queue")
    (graph,) = [
        entry[2] for entry in queue["queue_running"] + queue["queue_pending"]
        if entry[1] == prompt_id
    ]  # fmt: skip
    server.post("/queue", {"delete": [prompt_id]})
    server.interrupt()
    server.wait_until_idle()
    values = [value for node in graph.values() for value in node["inputs"].values()]
    assert "3d/my_model.glb" in values
    assert "a red chair" in values


def test_a_missing_model_file_is_named(server):
    done = call(server.url, "spot.glb", "a red chair")
    assert done.returncode != 0
    assert "flux1-dev.safetensors" in done.stdout + done.stderr
