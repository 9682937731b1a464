"""Many queued prompts in one server, some of them bad and some interrupted."""

import json
import random
import time

import psutil
import pytest

from comfy_server import ServerError, failure

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
    """Resident memory (bytes), open files and threads of a process, sampled."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.rows: list[tuple[int, int, int]] = []

    def sample(self) -> None:
        with self.process.oneshot():
            self.rows.append((
                self.process.memory_info().rss,
                self.process.num_fds() if hasattr(self.process, "num_fds") else 0,
                self.process.num_threads(),
            ))  # fmt: skip

    def quarter(self, number: int) -> list[float]:
        """Means of the 1st to 4th quarter of the samples."""
        size = len(self.rows) // 4
        rows = self.rows[(number - 1) * size : number * size]
        return [sum(column) / len(rows) for column in zip(*rows)]


def running(server) -> str | None:
    """Id of the prompt that runs now."""
    now = server.get("/queue")["queue_running"]
    return now[0][1] if now else None


def test_soak(make_server, artifacts):
    rng = random.Random(1)
    server = make_server("--cache-classic")  # the default keeps results until memory is short
    (server.base / "input" / "3d" / "broken.glb").write_bytes(b"glTF" + bytes(100))
    counts = dict.fromkeys(("good", "refused before", "refused in a run", "interrupted"), 0)
    with server:
        info = server.get("/object_info")
        usage = Usage(server.process.pid)
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
        left = [str(p) for p in (server.base.parent / "tmp").rglob("*") if p.is_file()]
        left += [str(p) for pattern in ("*.part", ".tmp*") for p in server.base.rglob(pattern)]
    report = {"prompts": PROMPTS, **counts, "seconds": seconds, "left": left}
    if LONG:
        second, last = usage.quarter(2), usage.quarter(4)
        report |= {
            "memory of the last quarter by the second": last[0] / second[0],
            "resident MB": [round(usage.quarter(q)[0] / 1e6, 1) for q in (1, 2, 3, 4)],
            "open files": [round(usage.quarter(q)[1], 1) for q in (1, 2, 3, 4)],
            "threads": [round(usage.quarter(q)[2], 1) for q in (1, 2, 3, 4)],
        }
    (artifacts / "soak.json").write_text(json.dumps(report, indent=1))
    assert left == []
    assert all(counts.values()), counts
    if LONG:
        assert last[0] < 1.03 * second[0]
        assert last[1] < second[1] + 2 and last[2] < second[2] + 2
