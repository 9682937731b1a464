"""The server killed, without memory, without disk: nothing half-written, and it goes on."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from comfy_server import failure

from .conftest import LONG, TEMPLATES, graph_of, kill_during, pixels

pytestmark = pytest.mark.server

KILLS = 14 if LONG else 1
"""And six in test_kills_in_training.py."""
SHORTAGES = 30 if LONG else 3
WRITES = 200 if LONG else 20
COLLECTORS = 10 if LONG else 1
STAGES = (
    "RefAny3D_LoadMesh", "RefAny3D_RenderViews", "RefAny3D_EncodeReferences",
    "RefAny3D_SaveReference", "RefAny3D_Sampler", "VAEDecode", "RefAny3D_DecodePointMap",
)  # fmt: skip


def whole_graph(info: dict, seed: int = 0, mesh: dict | None = None) -> dict:
    """Every stage in one prompt: load, render, encode, save, sample, decode, save.

    With another seed and another mesh, none of them is in the host's cache.
    """
    return graph_of(
        "save its reference", info,
        RefAny3D_Sampler={"seed": seed}, RefAny3D_LoadMesh=mesh or {},
    )  # fmt: skip


def left_behind(server) -> list[str]:
    """Files that are neither whole nor ours to keep."""
    return [str(path) for pattern in ("*.part", ".tmp*") for path in server.base.rglob(pattern)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_kills_in_every_stage(make_server, artifacts):
    """After each, the same prompt gives the same bytes, pictures and saved reference both."""
    rng = random.Random(2)
    server = make_server()
    saved = server.base / "models" / "refany3d" / "references" / "mushroom.safetensors"
    report = []
    server.start()
    info = server.get("/object_info")
    expected = pixels(server, server.run(whole_graph(info)))
    reference = saved.read_bytes()
    for number in range(KILLS):
        stage = STAGES[(number * 4 + 1) % len(STAGES)]  # rendering and sampling first
        after = rng.random() * (0.5 if number % 2 else 0.05)
        name = f"3d/{number}.glb"
        shutil.copyfile(server.base / "input/3d/spot.glb", server.base / "input" / name)
        kill_during(server, whole_graph(info, 9 + number, {"mesh_file": name}), stage, after)
        whole = saved.read_bytes()
        server.start()
        # What is there loads: the one before or the new one, not half of one.
        loaded = {
            "1": {"class_type": "RefAny3D_LoadReference", "inputs": {"name": "mushroom"}},
            "2": {"class_type": "RefAny3D_SaveReference",
                  "inputs": {"reference": ["1", 0], "name": "copy"}},
        }  # fmt: skip
        server.run(loaded)
        assert saved.with_stem("copy").read_bytes() == whole
        assert pixels(server, server.run(whole_graph(info))) == expected, stage
        assert saved.read_bytes() == reference, stage
        report.append({"stage": stage, "after_s": after, "left": left_behind(server)})
    (artifacts / "kills.json").write_text(json.dumps(report, indent=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_reference_is_written_whole_or_not_at_all(pack, host_base):
    """A process that saves again and again, killed at any moment: one of its two, whole."""
    Reference = pack.core("reference").Reference
    files = pack.core("host.reference_files")
    folder = host_base / "models" / "refany3d" / "references"
    both = []
    for value in (0.0, 1.0):
        tensor = torch.full((2, 16, 64, 64), value)
        both.append(Reference(tensor, tensor, tensor[:1]))
        files.save_reference(both[-1], "torn")
    rng = random.Random(3)
    for _ in range(WRITES):
        child = os.fork()
        if child == 0:
            while True:
                for reference in both:
                    files.save_reference(reference, "torn")
        time.sleep(rng.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        views = files.load_reference("torn").view_latents
        assert (views == views[0, 0, 0, 0]).all()
    left = list(folder.glob(".*.part"))
    for file in left:
        os.utime(file, (time.time() - 7200,) * 2)
    files.save_reference(both[0], "torn")
    files.save_reference(both[1], "torn")
    assert not list(folder.glob(".*"))


COLLECTOR = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
import numpy as np
from refany3d_core.asset import Camera, load_asset, look_at, render
from refany3d_core.collect import record
record.RESOLUTION = 96
asset = load_asset(Path(sys.argv[1], "assets", "spot.glb"))
camera = Camera(look_at((3, 1.5, 3)), 40.0, 96, 96)
view = render(asset, camera)
print("ready", flush=True)
number = 0
while True:
    record.write_record(
        Path(sys.argv[2]), item="cow", caption="A cow", image=view.color,
        mask=view.mask.astype(np.float32), asset=asset, camera=camera,
        name=f"{sys.argv[3]}-{number:03d}",
    )
    record.write_index(Path(sys.argv[2]))
    number += 1
"""


def test_kills_while_collecting(tmp_path):
    """What the index names after each kill is whole: every file is there and can be read."""
    from PIL import Image

    from refany3d_core.collect.record import FILES, INDEX, write_index

    rng = random.Random(5)
    dataset, root = tmp_path / "dataset", Path(__file__).resolve().parents[2]
    for number in range(COLLECTORS):
        process = subprocess.Popen(
            [sys.executable, "-c", COLLECTOR, root, dataset, str(number)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        while not dataset.exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2 + rng.random())
        process.kill()
        process.communicate()
        named = json.loads((dataset / INDEX).read_text()) if (dataset / INDEX).exists() else []
        assert write_index(dataset) >= len(named)
        for entry in json.loads((dataset / INDEX).read_text()):
            for key in FILES:
                assert (dataset / entry[key]).stat().st_size
            assert json.loads((dataset / entry["json"]).read_text())["item"] == "cow"
            for key in ("image", "mask", "pose_coord"):
                Image.open(dataset / entry[key]).load()


def test_out_of_memory_in_sampling(make_server, artifacts):
    """At any operation: a sentence, the queue goes on, the same bytes, the memory comes back."""
    rng = random.Random(4)
    server = make_server("--cache-classic")
    pack = server.base / "custom_nodes" / "faulty"
    pack.mkdir()
    shutil.copyfile(Path(__file__).with_name("faulty_nodes.py"), pack / "__init__.py")
    with server:
        info = server.get("/object_info")
        good = graph_of(TEMPLATES[0], info)
        expected = pixels(server, server.run(good))

        def short(at: int) -> dict:
            graph = json.loads(json.dumps(good))
            sampler = next(n for n in graph.values() if n["class_type"] == "RefAny3D_Sampler")
            graph["short"] = {
                "class_type": "RunOutOfMemory",
                "inputs": {"model": sampler["inputs"]["model"], "at": at},
            }
            sampler["inputs"]["model"] = ["short", 0]
            return graph

        server.run(short(0))
        operations = int(re.findall(r"operations: (\d+)", server.log())[-1])
        before = psutil.Process(server.process.pid).memory_info().rss
        for _ in range(SHORTAGES):
            at = rng.randint(1, operations)
            entry = server.wait(server.queue(short(at)))
            assert "Allocation on device" in failure(entry), at
        assert pixels(server, server.run(good)) == expected
        after = psutil.Process(server.process.pid).memory_info().rss
    report = {
        "shortages": SHORTAGES,
        "operations": operations,
        "memory after by before": after / before,
    }
    (artifacts / "shortages.json").write_text(json.dumps(report, indent=1))
    if LONG:
        assert after < 1.03 * before


MOUNTS = """
cp "$3"/3d/spot.glb "$4" || exit
mount -t tmpfs -o size=16k tmpfs "$1" && mount -t tmpfs -o size=16k tmpfs "$2" &&
mount -t tmpfs tmpfs "$3" && mkdir "$3"/3d && cp "$4" "$3"/3d/spot.glb &&
mount -o remount,ro "$3" && mount -t tmpfs -o ro tmpfs "$5" && shift 5 && exec "$@"
"""


def test_disks_that_refuse(make_server, tmp_path):
    """Temp and models full, input and output read-only: for one server alone, in real mounts."""
    base = tmp_path / "base"
    full = base / "models" / "refany3d" / "references"
    full.mkdir(parents=True)
    folders = [full, base / "temp", base / "input", tmp_path / "kept.glb", base / "output"]
    prefix = ("unshare", "-Urm", "sh", "-c", MOUNTS, "sh", *folders)
    server = make_server(prefix=prefix)
    try:
        subprocess.run([*map(str, prefix), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounts of one's own on this system")
    with server:
        info = server.get("/object_info")
        # The host's own preview would be the first to stop.
        graph = {k: n for k, n in whole_graph(info).items() if n["class_type"] != "PreviewImage"}
        for node in graph.values():
            if node["class_type"] == "RefAny3D_LoadMesh":
                node["inputs"]["mesh_file"] = "3d/spot.glb"
        said = failure(server.wait(server.queue(graph)))
        assert said == (
            "RefAny3D_SaveReference: Save Reference: 'mushroom' cannot be written; the disk of "
            f"{full} is full: make room there and queue again"
        )
        assert f"No preview, the outputs are whole; the disk of {base / 'temp'} is" in server.log()
        # The queue goes on, with nothing to write.
        demo = graph_of(TEMPLATES[0], info)
        sampler = next(k for k, n in demo.items() if n["class_type"] == "RefAny3D_Sampler")
        demo = {k: n for k, n in demo.items() if n["class_type"] != "SaveImage"}
        demo["see"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 0]}}
        assert "samples" in server.run(demo)["see"]["text"][0]
