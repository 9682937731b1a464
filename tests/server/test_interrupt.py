"""Interrupt in the middle of sampling and of rendering; the next prompt runs clean."""

import asyncio
import json

import aiohttp
import numpy as np
import pytest
from PIL import Image

from comfy_server import PATIENCE_SECONDS

pytestmark = pytest.mark.server


def interrupt_during(server, graph: dict, node_type: str) -> dict:
    """Queue a graph, interrupt at the first progress of a node type, and give the history entry."""
    node = next(key for key, value in graph.items() if value["class_type"] == node_type)

    async def run() -> str:
        url = f"{server.url}/ws?clientId={server.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            prompt = await asyncio.to_thread(server.queue, graph)
            while True:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                data = event["data"]
                if event["type"] == "execution_error":
                    raise AssertionError(data["exception_message"])
                if event["type"] == "progress" and data["node"] == node and data["value"] >= 1:
                    assert data["value"] < data["max"], "it ended before the interrupt"
                    break
            await asyncio.to_thread(server.interrupt)
            return prompt

    return server.wait(asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS)))


def was_interrupted(entry: dict) -> bool:
    return any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])


def saved_pictures(server, graph: dict) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted(server.files(server.run(graph)))]


@pytest.mark.parametrize(
    ("template", "sampler"),
    [("with its point map", "RefAny3D_Sampler"), ("any stock sampler", "KSampler")],
)
def test_interrupt_sampling(server, template_graph, template, sampler):
    expected = saved_pictures(server, template_graph(template))
    long = template_graph(template, {sampler: {"steps": 500, "seed": 7}})
    entry = interrupt_during(server, long, sampler)
    assert was_interrupted(entry)
    # Another seed first, so that the same prompt is sampled again and not taken from the cache.
    saved_pictures(server, template_graph(template, {sampler: {"seed": 8}}))
    again = saved_pictures(server, template_graph(template))
    assert all(np.array_equal(a, b) for a, b in zip(expected, again, strict=True))


def test_interrupt_rendering(server):
    graph = {
        "1": {"class_type": "RefAny3D_LoadMesh", "inputs": {"mesh_file": "3d/spot.glb"}},
        "2": {
            "class_type": "RefAny3D_RenderViews",
            "inputs": {"mesh": ["1", 0], "views": 30, "resolution": 1024, "radius": 4.0,
                       "pitch": 0.0, "y_rotation": 0.0},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }  # fmt: skip
    entry = interrupt_during(server, graph, "RefAny3D_RenderViews")
    assert was_interrupted(entry)
    small = {**graph, "2": {**graph["2"], "inputs": {**graph["2"]["inputs"], "views": 2,
                                                     "resolution": 128}}}  # fmt: skip
    assert len(server.run(small)["3"]["images"]) == 2
