"""Several clients at once, files that change between prompts, and names of every kind."""

import os
import shutil
import threading

import pytest

from comfy_server import ComfyServer
from graph import WORKFLOWS
from page import Page, missing_browser, quiet_first_run

from .conftest import ROOT, TEMPLATES, graph_of, pixels

pytestmark = pytest.mark.server


def views_of(mesh: str, y_rotation: float = 0.0) -> dict:
    """A graph that renders and saves the point maps of a mesh."""
    return {
        "1": {"class_type": "RefAny3D_LoadMesh", "inputs": {"mesh_file": mesh}},
        "2": {"class_type": "RefAny3D_RenderViews",
              "inputs": {"mesh": ["1", 0], "views": 1, "resolution": 64, "radius": 4.0,
                         "pitch": 0.0, "y_rotation": y_rotation}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 1], "filename_prefix": "c"}},
    }  # fmt: skip


def test_clients_at_once_get_what_each_would_alone(server):
    info = server.get("/object_info")
    graphs = [graph_of(TEMPLATES[0], info, RefAny3D_Sampler={"seed": s}) for s in range(4)]
    alone = [pixels(server, server.run(graph)) for graph in graphs]
    assert len({picture for pictures in alone for picture in pictures}) == 2 * len(graphs)
    together: dict[int, list[bytes]] = {}

    def client(mine: range) -> None:
        own = ComfyServer.__new__(ComfyServer)  # the same server, another client of it
        vars(own).update(vars(server), client_id=f"client {mine}")
        prompts = [(seed, own.queue(graphs[seed])) for seed in mine]
        for seed, prompt in prompts:
            together[seed] = pixels(own, own.wait(prompt)["outputs"])

    threads = [threading.Thread(target=client, args=(range(k, 4, 2),)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(4)] == alone


def test_a_mesh_file_that_changes_between_queued_prompts(server):
    """Each prompt sees one file or the other, whole, and a prompt after the change the new one."""
    folder = server.base / "input" / "3d"
    one, other = ROOT / "assets" / "spot.glb", ROOT / "assets" / "mushroom.glb"
    shown = [pixels(server, server.run(views_of(f"3d/{name}"))) for name in ("spot.glb",)]
    shutil.copyfile(other, folder / "other.glb")
    shown += [pixels(server, server.run(views_of("3d/other.glb")))]
    changing = folder / "changing.glb"
    shutil.copyfile(one, changing)
    assert pixels(server, server.run(views_of("3d/changing.glb"))) == shown[0]
    prompts = []
    for number in range(6):
        prompts.append(server.queue(views_of("3d/changing.glb", y_rotation=360.0 * (number % 2))))
        part = folder / "part"
        shutil.copyfile(one if number % 2 else other, part)
        os.replace(part, changing)
    for prompt in prompts:
        assert pixels(server, server.wait(prompt)["outputs"]) in shown
    shutil.copyfile(other, changing)
    assert pixels(server, server.run(views_of("3d/changing.glb"))) == shown[1]


@pytest.mark.parametrize("stem", ["Würfel 立方体 🧊 «ä»", "n" * 240, "it's 100 % #1 & more+"])
def test_names_of_every_kind(server, stem):
    file = server.base / "input" / "3d" / f"{stem}.glb"
    shutil.copyfile(ROOT / "assets" / "spot.glb", file)
    name = f"3d/{stem}.glb"
    try:
        options = server.get("/object_info/RefAny3D_LoadMesh")["RefAny3D_LoadMesh"]["input"]
        assert name in str(options) or "'" in name
        assert pixels(server, server.run(views_of(name))) == pixels(
            server, server.run(views_of("3d/spot.glb"))
        )
    finally:
        file.unlink()


# Also on the node that stands for a subgraph.
SET = """
const graphs = [app.graph, ...app.graph.subgraphs.values()];
for (const widget of graphs.flatMap(g => g.nodes).flatMap(n => n.widgets ?? []))
  if (widget.name in args[0]) widget.value = args[0][widget.name];
"""
SHOWN = """
const out = app.graph.nodes.filter(n => n.type === 'SaveImage')
  .map(n => app.nodeOutputs?.[n.id]?.images ?? n.images);
return out.length && out.every(x => x?.length) ? out.flat() : null;
"""


@pytest.mark.browser
def test_two_pages_at_once(server):
    """Both queue the same template in their own window; each shows what its seed gives alone."""
    lacking = missing_browser()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"the browser tests must run here: {lacking}")
    if lacking:
        pytest.skip(lacking)
    quiet_first_run(server)
    info, seeds = server.get("/object_info"), (101, 202)
    graphs = [graph_of(TEMPLATES[0], info, RefAny3D_Sampler={"seed": s}) for s in seeds]
    alone = [pixels(server, server.run(graph)) for graph in graphs]
    server.post("/free", {"unload_models": True, "free_memory": True})  # or the cache answers
    before = set(server.get("/history"))
    (name,) = (file.stem for file in WORKFLOWS.glob("*.json") if TEMPLATES[0] in file.stem)
    with Page(server.url) as first, Page(server.url) as second:
        pages = (first, second)
        for page, seed in zip(pages, seeds):
            page.open_template(name, "refany3d")
            page.run(SET, {"seed": seed, "steps": 4})
        for page in pages:
            page.run("await app.queuePrompt(0);")
        shown = [page.wait_until(SHOWN) for page in pages]
        severe = [e for page in pages for e in page.errors() if "refany3d" in e.lower()]
    # The page asks the Registry, which this server does not allow.
    assert [text for text in severe if "Content Security Policy" not in text] == []
    names = [image["filename"] for images in shown for image in images]
    assert len(set(names)) == 4
    assert [pixels(server, {"": {"images": images}}) for images in shown] == alone
    history = server.get("/history")
    clients = {history[prompt]["prompt"][3]["client_id"] for prompt in set(history) - before}
    assert len(clients) == 2
