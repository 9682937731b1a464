"""Many queued prompts in one server, some of them bad and some interrupted."""

import json
import random
import shutil
import time
from pathlib import Path

import psutil
import pytest

from comfy_server import ComfyServer, ServerError, failure

from .conftest import LONG, TEMPLATES, graph_of, pixels

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
    """Memory (bytes), open files and threads of a server, sampled while it is idle.

    `held` is the resident memory less what the C library keeps free for the next allocation: that
    comes and goes by tens of megabytes with where in the heap the last small block of a prompt
    lies (docs/reliability.md), so it says nothing about what a prompt left behind.
    """

    COLUMNS = ("resident", "held", "open files", "threads")

    def __init__(self, server: ComfyServer) -> None:
        self.server = server
        self.process = psutil.Process(server.process.pid)
        self.rows: list[tuple[int, int, int, int]] = []

    def now(self, trim: bool = False) -> tuple[int, int, int, int]:
        """By column; `trim` gives what is free back to the system first."""
        free = self.server.get(f"/measure{'?trim=1' if trim else ''}")["free"]
        with self.process.oneshot():
            resident = self.process.memory_info().rss
            return (
                resident,
                resident - free,
                self.process.num_fds() if hasattr(self.process, "num_fds") else 0,
                self.process.num_threads(),
            )

    def sample(self) -> None:
        self.rows.append(self.now())

    def quarter(self, number: int) -> dict[str, float]:
        """Means of the 1st to 4th quarter of the samples, by column."""
        size = len(self.rows) // 4
        rows = self.rows[(number - 1) * size : number * size]
        return {name: sum(c) / len(rows) for name, c in zip(self.COLUMNS, zip(*rows))}


def running(server) -> str | None:
    """Id of the prompt that runs now."""
    now = server.get("/queue")["queue_running"]
    return now[0][1] if now else None


def test_soak(make_server, artifacts):
    rng = random.Random(1)
    server = make_server("--cache-classic")  # the default keeps results until memory is short
    pack = server.base / "custom_nodes" / "measure"
    pack.mkdir()
    shutil.copyfile(Path(__file__).with_name("measure.py"), pack / "__init__.py")
    (server.base / "input" / "3d" / "broken.glb").write_bytes(b"glTF" + bytes(100))
    counts = dict.fromkeys(("good", "refused before", "refused in a run", "interrupted"), 0)
    with server:
        info = server.get("/object_info")
        usage = Usage(server)
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
        # What the host itself keeps of every prompt that ran, and what the C library keeps free.
        with_history = usage.now()
        server.post("/history", {"clear": True})
        without_history = usage.now()
        trimmed = usage.now(trim=True)
        left = [str(p) for p in (server.base.parent / "tmp").rglob("*") if p.is_file()]
        left += [str(p) for pattern in ("*.part", ".tmp*") for p in server.base.rglob(pattern)]
    report: dict = {"prompts": PROMPTS, **counts, "seconds": seconds, "left": left}
    if LONG:
        quarters = [usage.quarter(number) for number in (1, 2, 3, 4)]
        second, last = quarters[1], quarters[3]
        report |= {
            "last quarter by the second": {name: last[name] / second[name] for name in last},
            "quarters": quarters,
            "at the end": dict(zip(Usage.COLUMNS, with_history)),
            "with the history cleared": dict(zip(Usage.COLUMNS, without_history)),
            "and free memory given back": dict(zip(Usage.COLUMNS, trimmed)),
            "samples": usage.rows,
        }
    (artifacts / "soak.json").write_text(json.dumps(report, indent=1))
    assert left == []
    assert all(counts.values()), counts
    if LONG:
        assert last["held"] < 1.03 * second["held"]
        assert last["open files"] < second["open files"] + 2
        assert last["threads"] < second["threads"] + 2
