"""Graphs in API format on servers: the real one, dead ones, one that answers 500, one that dies."""

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image

from refany3d_core.asset import Camera, load_asset, render
from refany3d_core.asset.cameras import orbit_pose
from refany3d_core.collect.asset import cut_out, square_around
from refany3d_core.collect.config import ServersConfig
from refany3d_core.collect.graph import Graph, Servers
from refany3d_core.collect.pose import window_camera
from refany3d_core.collect.report import write_report
from refany3d_core.collect.stages import Unreachable
from refany3d_core.collect.store import Record, Refused, keys

FOV, YAW, PITCH = 40.0, 65.0, 20.0


def asset_graph() -> dict:
    """Core nodes only: any picture becomes the cow, and the camera is known."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x"}, "_meta": {"title": "image"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {
            "class_type": "Load3DAdvanced",
            "inputs": {"model_file": "3d/spot.glb", "viewport_state": "", "width": 64,
                       "height": 64},
        },
        "4": {"class_type": "SaveGLB", "inputs": {"mesh": ["3", 0], "filename_prefix": "x"}},
        "5": {
            "class_type": "CreateCameraInfo",
            "inputs": {"mode": "orbit", "mode.yaw": YAW, "mode.pitch": PITCH, "mode.distance": 3.4,
                       "target_x": 0.0, "target_y": 0.0, "target_z": 0.0, "roll": 0.0, "fov": FOV,
                       "zoom": 1.0, "camera_type": "perspective"},
        },
        "6": {"class_type": "Preview3D",
              "inputs": {"model_file": ["3", 0], "camera_info": ["5", 0]}},
    }  # fmt: skip


CONFIG = """
[source]
path = "{path}"
mask = "mask"
limit = {limit}
[boxes]
method = "none"
[masks]
method = "given"
[asset]
method = "graph"
graph = "{graph}"
[pose]
method = "given"
[servers]
urls = {urls}
rest = 0.05
timeout = 60
[filters]
min_iou = 0.0
min_colour_correlation = -1.0
"""


def write_config(folder: Path, source: Path, graph: dict, urls: list[str], limit: int = 2) -> Path:
    (folder / "graph.json").write_text(json.dumps(graph))
    text = CONFIG.format(
        path=source.as_posix(), graph="graph.json", urls=json.dumps(urls), limit=limit
    )
    (folder / "c.toml").write_text(text)
    return folder / "c.toml"


class Between(http.server.ThreadingHTTPServer):
    """A server that answers everything with 500, or hands it on and dies after a prompt."""

    def __init__(self, to: str = "") -> None:
        self.to, self.prompts = to, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.server.answer(self, None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.server.answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: bytes | None) -> None:
        if not self.to:
            handler.send_error(500)
            return
        if self.prompts:  # dead
            handler.connection.close()
            return
        kind = {"Content-Type": handler.headers["Content-Type"]} if body is not None else {}
        request = urllib.request.Request(self.to + handler.path, data=body, headers=kind)
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
        self.prompts += handler.path == "/prompt"
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture
def between() -> Iterator:
    made: list[Between] = []

    def make(to: str = "") -> Between:
        made.append(Between(to))
        return made[-1]

    yield make
    for one in made:
        one.shutdown()
        one.server_close()


DEAD = "http://127.0.0.1:9"


@pytest.mark.server
def test_a_graph_of_core_nodes_makes_assets_whatever_other_servers_do(
    server, between, pictures, tmp_path, collect
):
    urls = [DEAD, between().url, server.url]
    config = write_config(tmp_path, pictures, asset_graph(), urls, limit=3)
    plan, work, counts = collect(config)
    assert counts == {"done": 3}
    record = Record(work, next(iter(keys(work))))
    plan.state(record)
    asset = record.data("asset")
    assert asset["mesh"] == "mesh.glb" and asset["camera_info"]["fov"] == FOV
    made = load_asset(record.file("asset", "mesh.glb"))
    cow = load_asset(scenes.MESHES["cow"])
    assert len(made.vertices) == len(cow.vertices)
    assert record.picture("pose", 0)["size"] == [256, 256]

    # a stage that was lost is not worked again: the prompt is in the server's history
    before = len(server.get("/history"))
    for folder in (work / "records").glob("*/asset"):
        (folder / "result.json").unlink()
    _, _, counts = collect(config)
    assert counts == {"done": 3} and len(server.get("/history")) == before


@pytest.mark.server
def test_a_server_that_dies_costs_one_attempt(server, between, pictures, tmp_path, collect):
    dying = between(server.url)
    other = asset_graph()  # not in the history of the server behind it
    other["5"]["inputs"]["roll"] = 1.0
    config = write_config(tmp_path, pictures, other, [dying.url])
    plan, work, counts = collect(config)
    assert counts == {"failed": 2} and dying.prompts == 1
    report = write_report(plan, work)
    assert "| asset | 2 | 0 (0%) | 0 | 2 | 0 |" in report
    last = plan.state(Record(work, next(iter(keys(work)))))
    assert last is not None and dying.url in last.reason

    write_config(tmp_path, pictures, other, [between(server.url).url, server.url])
    _, _, counts = collect(config)
    assert counts == {"done": 2} and len(list(keys(work))) == 2


def with_file(name: str) -> dict:
    graph = asset_graph()
    graph["3"]["inputs"]["model_file"] = name
    return graph


def without_image() -> dict:
    graph = asset_graph()
    return {key: node for key, node in graph.items() if key not in ("1", "2")}


def two_meshes() -> dict:
    graph = asset_graph()
    return {**graph, "7": graph["4"]}


def no_mesh() -> dict:
    graph = asset_graph()
    return {key: node for key, node in graph.items() if key != "4"}


@pytest.mark.server
@pytest.mark.parametrize(
    ("graph", "status", "says"),
    [
        (without_image, "refused", "has no image input: title one Load Image 'image'"),
        (two_meshes, "refused", "saved 2 3D files, expected one"),
        (no_mesh, "refused", "saved no 3D file, expected one"),
        (lambda: {**asset_graph(), "8": {"class_type": "Nowhere", "inputs": {}}}, "failed", ""),
        (lambda: with_file("nowhere.glb"), "failed", "Load3DAdvanced: Custom validation failed"),
        (lambda: with_file("none"), "failed", "SaveGLB: "),
    ],
)
def test_graphs_that_do_not_serve_give_a_reason(
    server, pictures, tmp_path, collect, graph, status, says
):
    config = write_config(tmp_path, pictures, graph(), [server.url], limit=1)
    plan, work, counts = collect(config)
    assert counts == {status: 1}
    last = plan.state(Record(work, next(iter(keys(work)))))
    assert last is not None and last.stage == "asset" and says in last.reason


@pytest.mark.server
def test_a_graph_gives_masks(server, pictures, tmp_path, collect):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x"}},
        "2": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "red"}},
        "3": {"class_type": "ThresholdMask", "inputs": {"mask": ["2", 0], "value": 0.5}},
        "4": {"class_type": "MaskToImage", "inputs": {"mask": ["3", 0]}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
    }
    config = write_config(tmp_path, pictures, graph, [server.url], limit=1)
    text = config.read_text().replace(
        'method = "given"', 'method = "graph"\ngraph = "graph.json"', 1
    )
    text = text.replace('"graph"\ngraph = "graph.json"\n[pose]', '"given"\n[pose]')
    config.write_text(text)
    plan, work, _ = collect(config)
    record = Record(work, next(iter(keys(work))))
    plan.state(record)
    with Image.open(record.file("source", "0.png")) as image:
        red = np.asarray(image)[..., 0]
    with Image.open(record.file("masks", "0.png")) as mask:
        assert ((red > 127) == np.asarray(mask.convert("L")).astype(bool)).mean() > 0.99


def test_files_that_are_no_graph_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="cannot be read"):
        Graph(tmp_path / "nowhere.json")
    for text, says in (("{", "is not JSON"), ('{"nodes": [], "links": []}', "no graph in API")):
        (tmp_path / "graph.json").write_text(text)
        with pytest.raises(ValueError, match=says):
            Graph(tmp_path / "graph.json")


def test_texts_seeds_and_names_are_of_the_record(tmp_path: Path):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "?", "clip": ["9", 0]},
              "_meta": {"title": "Item"}},
        "3": {"class_type": "KSampler", "inputs": {"seed": 7, "noise_seed": ["4", 0]}},
        "4": {"class_type": "SaveGLB", "inputs": {"filename_prefix": "x"}},
    }  # fmt: skip
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    made = Graph(tmp_path / "graph.json")
    one, two = (made.filled("in.png", name, {"item": "a cow"}) for name in ("one", "two"))
    assert one["1"]["inputs"]["image"] == "in.png" and one["2"]["inputs"]["text"] == "a cow"
    assert one["3"]["inputs"]["seed"] != two["3"]["inputs"]["seed"]
    assert one["3"]["inputs"]["noise_seed"] == ["4", 0]
    assert one["4"]["inputs"]["filename_prefix"] == "refany3d_collect/one"
    graph["5"] = graph["1"]
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    with pytest.raises(Refused, match="has 2 image inputs"):
        Graph(tmp_path / "graph.json").image_input()


def test_no_server_answers(tmp_path: Path, between):
    (tmp_path / "graph.json").write_text(json.dumps(asset_graph()))
    broken = between()
    servers = Servers(ServersConfig(urls=[DEAD, broken.url], attempts=4, rest=0.01))
    with pytest.raises(Unreachable) as failure:
        servers.run(Graph(tmp_path / "graph.json"), b"", "cow-1")
    assert "Connection refused" in str(failure.value) and "500" in str(failure.value)


def test_the_camera_of_a_window_is_that_of_the_picture():
    asset = load_asset(scenes.MESHES["cow"])
    side, left, top = 96, 140, 20
    pose = orbit_pose(40, 15, 3.4)
    eye = pose[:3, 3] / asset.scale + asset.centre
    info = {
        "position": dict(zip("xyz", eye)), "target": dict(zip("xyz", asset.centre)),
        "quaternion": {"w": 1.0, "x": 0.0, "y": 0.0, "z": 0.0}, "fov": 40.0,
    }  # fmt: skip
    w = np.sqrt(1 + np.trace(pose[:3, :3])) / 2
    r = pose[:3, :3]
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / (4 * w)
    info["quaternion"] = dict(zip("wxyz", [w, *axis]))
    camera = window_camera(info, asset, [left, top, side], 256, 200)
    whole = render(asset, camera)
    seen = render(asset, Camera(pose, 40.0, side, side))
    crop = slice(top, top + side), slice(left, left + side)
    assert (whole.mask[crop] == seen.mask).mean() > 0.999
    assert np.abs(whole.point_map[crop] - seen.point_map)[seen.mask & whole.mask[crop]].max() < 0.02
    for bad in (
        {**info, "fov": float("nan")},
        {**info, "cameraType": "orthographic"},
        {**info, "position": {"x": "nan", "y": 0.0, "z": 1.0}},
        {"position": {}},
    ):
        with pytest.raises(Refused):
            window_camera(bad, asset, [left, top, side], 256, 200)


def test_the_cut_out_is_on_white_with_the_mask_as_alpha():
    image = Image.fromarray(np.full((40, 60, 3), 100, np.uint8))
    mask = np.zeros((40, 60), bool)
    mask[2:30, 50:58] = True
    window = square_around([50, 2, 58, 30], 1.5)
    assert window == [33, -5, 42]
    pixels = np.asarray(cut_out(image, mask, window))
    assert pixels.shape == (42, 42, 4)
    inside = pixels[..., 3] == 255
    assert inside.sum() == mask.sum() and inside[7:35, 17:25].all()
    assert (pixels[inside][:, :3] == 100).all() and (pixels[~inside] == (255, 255, 255, 0)).all()
