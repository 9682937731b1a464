"""Many queued prompts in one server, some of them bad and some interrupted."""

import json
import random
import shutil
import time
from pathlib import Path

import psutil
import pytest

from comfy_server import ComfyServer, ServerError, failure

from .conftest import LONG, STANDINS, TEMPLATES, graph_of, nodes, pixels

pytestmark = pytest.mark.server

PROMPTS = 500 if LONG else 10
BATCH = 10
BAD, INTERRUPTED = (1, 4, 7), (8,)
"""Which of ten prompts: 30 % are bad, 10 % are interrupted."""
# What is wrong, by node type, and what the server says of it.
SPOILED = [
    ({"RefAny3D_LoadMesh": {"mesh_file": "3d/broken.glb"}}, "Load Mesh: broken.glb"),
    ({"RefAny3D_LoadMesh": {"mesh_file": "3d/none.glb"}}, "'3d/none.glb' is not in"),
    ({"RefAny3D_LoadMesh": {"mesh_file": "../../secret"}}, "is not in ComfyUI's input folder"),
    (
        {"RefAny3D_CameraFromPointMap": {"batch_index": 9}, "RefAny3D_Sampler": {"width": 95}},
        "use 96",
    ),
]


class Usage:
    """Memory (bytes), Python's blocks, open files and threads of a server, while it is idle.

    `held` is the resident memory less what the C library keeps free for the next allocation: that
    comes and goes by tens of megabytes with where in the heap the last small block of a prompt
    lies (docs/reliability.md), so it says nothing about what a prompt left behind.
    """

    COLUMNS = ("resident", "held", "blocks", "open files", "threads")

    def __init__(self, server: ComfyServer) -> None:
        pack = server.base / "custom_nodes" / "measure"
        pack.mkdir()
        shutil.copyfile(Path(__file__).with_name("measure.py"), pack / "__init__.py")
        self.server = server
        self.rows: list[dict[str, int]] = []

    def now(self, trim: bool = False) -> dict[str, int]:
        """By column; `trim` gives what is free back to the system first."""
        said = self.server.get(f"/measure{'?trim=1' if trim else ''}")
        process = psutil.Process(self.server.process.pid)
        with process.oneshot():
            resident = process.memory_info().rss
            files = process.num_fds() if hasattr(process, "num_fds") else 0
            row = (resident, resident - said["free"], said["blocks"], files, process.num_threads())
        return dict(zip(self.COLUMNS, row, strict=True))

    def sample(self) -> None:
        self.rows.append(self.now())

    def end(self) -> dict:
        """What to report: by quarter of the samples, and what the host itself keeps of every
        prompt that ran, and what the C library keeps free."""
        with_history = self.now()
        self.server.post("/history", {"clear": True})
        size = len(self.rows) // 4
        quarters = [
            {
                name: sum(row[name] for row in self.rows[start : start + size]) / size
                for name in self.COLUMNS
            }
            for start in range(0, 4 * size, size)
        ]
        return {
            "quarters": quarters,
            "last by second": {k: quarters[3][k] / quarters[1][k] for k in self.COLUMNS},
            "at the end": with_history,
            "with the history cleared": self.now(),
            "and free memory given back": self.now(trim=True),
            "samples": self.rows,
        }


def running(server) -> str | None:
    """Id of the prompt that runs now."""
    now = server.get("/queue")["queue_running"]
    return now[0][1] if now else None


def test_soak(make_server, artifacts):
    rng = random.Random(1)
    server = make_server("--cache-classic")  # the default keeps results until memory is short
    usage = Usage(server)
    (server.base / "input" / "3d" / "broken.glb").write_bytes(b"glTF" + bytes(100))
    counts = dict.fromkeys(("good", "refused before", "refused in a run", "interrupted"), 0)
    with server:
        info = server.get("/object_info")
        *quick, with_camera = TEMPLATES
        names = [*quick, *quick, *quick, *quick, with_camera]
        reference = graph_of(TEMPLATES[0], info, RefAny3D_Sampler={"seed": 1})
        expected = pixels(server, server.run(reference))
        start, done = time.monotonic(), 0
        while done < PROMPTS:
            batch = []
            for number in range(done, min(done + BATCH, PROMPTS)):
                kind = number % 10
                changes: dict[str, dict] = {}
                name = names[number % len(names)]
                if kind in BAD:
                    changes, words = SPOILED[number // 3 % len(SPOILED)]
                elif kind in INTERRUPTED:
                    changes = {k: {"steps": 1000} for k in ("RefAny3D_Sampler", "KSampler")}
                elif name == with_camera:  # with fewer steps no map is good enough for a camera
                    changes = {"RefAny3D_Sampler": {"steps": 20}}
                graph = graph_of(name, info, **changes)
                for node in graph.values():
                    if name != with_camera and "seed" in node["inputs"]:
                        node["inputs"]["seed"] = number
                try:
                    batch.append((server.queue(graph), kind, graph))
                except ServerError as error:
                    assert kind in BAD, error
                    assert words in str(error)
                    counts["refused before"] += 1
            for prompt, kind, graph in batch:
                if kind in INTERRUPTED:
                    while running(server) != prompt:
                        assert prompt not in server.get(f"/history/{prompt}")
                        time.sleep(0.05)
                    time.sleep(rng.random() * 1.5)
                    server.post("/interrupt", {"prompt_id": prompt})
                entry = server.wait(prompt)
                verdict = entry["status"]["status_str"]
                if kind not in BAD + INTERRUPTED:
                    assert verdict == "success", failure(entry)
                    counts["good"] += 1
                    files = server.files(entry["outputs"])
                    saving = [n for n in graph.values() if n["class_type"] == "SaveImage"]
                    assert len(files) >= len(saving) and all(f.stat().st_size for f in files)
                elif kind in INTERRUPTED:
                    assert "interrupted" in failure(entry)
                    counts["interrupted"] += 1
                else:
                    assert verdict == "error" and ": " in failure(entry), failure(entry)
                    counts["refused in a run"] += 1
            usage.sample()
            done += BATCH
        seconds = time.monotonic() - start
        assert pixels(server, server.run(reference)) == expected
        memory = usage.end() if LONG else {}
        left = [str(p) for p in (server.base.parent / "tmp").rglob("*") if p.is_file()]
        left += [str(p) for pattern in ("*.part", ".tmp*") for p in server.base.rglob(pattern)]
    report = {"prompts": PROMPTS, **counts, "seconds": seconds, "left": left, **memory}
    (artifacts / "soak.json").write_text(json.dumps(report, indent=1))
    assert left == []
    assert all(counts.values()), counts
    if LONG:
        _, second, _, last = memory["quarters"]
        assert last["held"] < 1.03 * second["held"]
        assert last["open files"] < second["open files"] + 2
        assert last["threads"] < second["threads"] + 2


@pytest.mark.skipif(not LONG, reason="the long form: scripts/test.py --soak")
def test_stock_nodes_alone(make_server, artifacts):
    """The control: what the host and the C library do to memory without a node of ours."""
    rng = random.Random(7)
    server = make_server("--cache-classic", standins=True)
    usage = Usage(server)
    with server:
        for number in range(150):
            server.run(stock_graph(number, rng.choice((64, 96, 128, 192, 256))))
            if number % 5 == 4:
                usage.sample()
        memory = usage.end()
    (artifacts / "soak_control.json").write_text(json.dumps(memory, indent=1))
    assert memory["last by second"]["held"] < 1.03


def stock_graph(seed: int, side: int) -> dict:
    return STANDINS | nodes(
        prompt=("CLIPTextEncode", {"clip": ["clip", 0], "text": f"a cube {seed % 7}"}),
        latent=("EmptySD3LatentImage", {"width": side, "height": side, "batch_size": 1 + seed % 2}),
        sampler=("KSampler", {
            "model": ["model", 0], "positive": ["prompt", 0], "negative": ["prompt", 0],
            "latent_image": ["latent", 0], "seed": seed, "steps": 4, "cfg": 1.0,
            "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
        }),
        decode=("VAEDecode", {"samples": ["sampler", 0], "vae": ["vae", 0]}),
        scale=("ImageScale", {"image": ["decode", 0], "upscale_method": "bicubic",
                              "width": 4 * side, "height": 512, "crop": "disabled"}),
        save=("SaveImage", {"images": ["scale", 0], "filename_prefix": "stock"}),
    )  # fmt: skip
