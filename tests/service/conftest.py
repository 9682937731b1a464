"""A server of its own, with the bundled model, for tests that hurt it."""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from comfy_server import PATIENCE_SECONDS, ComfyServer
from graph import set_widgets, template, to_api
from host_setup import Host

ROOT = Path(__file__).resolve().parents[2]
LONG = bool(os.environ.get("REFANY3D_LONG"))
"""`scripts/test.py --soak`: the long forms."""


@pytest.fixture
def make_server(tmp_path, monkeypatch, request):
    """`make_server(*arguments, prefix=(), standins=False)`: a server that is not started yet, whose
    temporary files go below its own folder; `prefix` is a command that it is started by, `standins`
    puts the stand-ins for FLUX.1-dev into its models."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    host = Host(Path(sys.executable), Path(os.environ["REFANY3D_COMFYUI"]), tmp_path)
    flags = ("--cpu", "--use-pytorch-cross-attention")
    made = []

    def make(*arguments: str, prefix: tuple = (), standins: bool = False) -> ComfyServer:
        server = ComfyServer(host, tmp_path / "base", (*flags, *arguments))
        server.command = [*map(str, prefix), *server.command]
        shutil.copyfile(ROOT / "assets" / "spot.glb", server.base / "input" / "3d" / "spot.glb")
        if standins:
            folder = request.getfixturevalue("standin_models")
            shutil.copytree(folder, server.base / "models", dirs_exist_ok=True)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


TEMPLATES = (
    "without a download", "locked point map", "save its reference", "Find the camera",
)  # fmt: skip
"""Parts of the names of those that need no model but the bundled one, and no page."""


STANDINS: dict[str, dict] = {
    "model": {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "standin_flux.safetensors", "weight_dtype": "default"},
    },
    "clip": {
        "class_type": "DualCLIPLoader",
        "inputs": {"clip_name1": "standin_clip_l.safetensors",
                   "clip_name2": "standin_clip_l.safetensors", "type": "sd3"},
    },
    "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "standin_vae.safetensors"}},
}  # fmt: skip
"""Nodes that load them."""


def nodes(**kinds: tuple[str, dict]) -> dict:
    """Nodes of an API graph by id, from their types and inputs."""
    return {key: {"class_type": kind, "inputs": given} for key, (kind, given) in kinds.items()}


def graph_of(part: str, info: dict, **changes: dict) -> dict:
    """A template's API graph with widgets of node types replaced, few steps unless said."""
    graph = to_api(template(part), info)
    kinds = {node["class_type"] for node in graph.values()}
    wanted: dict[str, dict] = {kind: {"steps": 4} for kind in ("RefAny3D_Sampler", "KSampler")}
    for kind, values in changes.items():
        wanted[kind] = {**wanted.get(kind, {}), **values}
    return set_widgets(graph, {kind: v for kind, v in wanted.items() if kind in kinds})


def pixels(server: ComfyServer, outputs: dict) -> list[bytes]:
    """The saved pictures, by file name without its number."""
    from PIL import Image

    files = [file for file in server.files(outputs) if file.suffix == ".png"]
    return [Image.open(file).tobytes() for file in sorted(files, key=lambda f: f.name)]


def kill_during(server, graph: dict, kind: str, after: float) -> None:
    """Queue a graph and kill the server `after` seconds into a node of this type."""
    node = next(key for key, value in graph.items() if value["class_type"] == kind)

    async def run() -> None:
        url = f"{server.url}/ws?clientId={server.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await asyncio.to_thread(server.queue, graph)
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    event = json.loads(message.data)
                    assert event["type"] != "execution_error", event["data"]
                    assert event["type"] != "execution_success", f"{kind} did not run"
                    if event["type"] == "executing" and event["data"]["node"] == node:
                        break
            await asyncio.sleep(after)
            server.process.send_signal(signal.SIGKILL)

    asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS))
    server.process.wait()
