"""The server killed while it saves triplets and while it trains on them."""

import json
import os
import random
import signal
from pathlib import Path

import pytest

from .conftest import LONG, STANDINS, kill_during, nodes

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not LONG, reason="the long form: scripts/test.py --soak"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system"),
]
KILLS = 3
"""In each of the two stages."""
STEPS, SIDE = 30, 64


def triplet(number: int) -> dict:
    """Save one more record of the same mesh."""
    return {"vae": STANDINS["vae"]} | nodes(
        mesh=("RefAny3D_LoadMesh", {"mesh_file": "3d/spot.glb"}),
        pose=("RefAny3D_LockPose", {
            "vae": ["vae", 0], "mesh": ["mesh", 0], "width": SIDE, "height": SIDE,
            "azimuth": 40.0 * number, "pitch": 10.0, "distance": 4.0, "roll": 0.0, "shift_x": 0.0,
            "shift_y": 0.0, "fov": 45.0, "strength": 1.0, "release": 0.0, "batch_size": 1,
        }),
        save=("RefAny3D_SaveTriplet", {
            "image": ["pose", 4], "mask": ["pose", 3], "mesh": ["mesh", 0],
            "camera_info": ["pose", 5], "caption": f"a cow {number}", "item": "cow",
            "dataset": "cows",
        }),
    )  # fmt: skip


def training(name: str) -> dict:
    return STANDINS | nodes(
        train=("RefAny3D_Train", {
            "model": ["model", 0], "clip": ["clip", 0], "vae": ["vae", 0], "dataset": "cows",
            "steps": STEPS, "learning_rate": 1.0, "rank": 4, "resume": True, "name": name,
            "views": 2, "resolution": SIDE,
        }),
        loss=("LossGraphNode", {"loss": ["train", 1], "filename_prefix": "loss"}),
    )  # fmt: skip


def records(dataset: Path) -> list[str]:
    """Captions that the index names, each of whose files has to be whole."""
    from PIL import Image

    captions = []
    for entry in json.loads((dataset / "meta_data.json").read_text()):
        assert all((dataset / file).stat().st_size for file in entry.values())
        for key in ("image", "pose_coord"):
            Image.open(dataset / entry[key]).load()
        captions.append(json.loads((dataset / entry["json"]).read_text())["text"])
    return sorted(captions)


def test_kills_while_it_saves_triplets_and_trains(make_server, artifacts):
    """Each triplet is there once and whole; the weights are those of a run that nobody killed."""
    rng = random.Random(6)
    server = make_server(standins=True)
    dataset = server.output_folder() / "refany3d" / "cows"
    report, done = [], []
    server.start()
    for number in range(KILLS):
        after = rng.random() * 1.5
        kill_during(server, triplet(number), "RefAny3D_SaveTriplet", after)
        found = records(dataset) if (dataset / "meta_data.json").exists() else []
        assert set(done) <= set(found) <= {*done, f"a cow {number}"}
        server.start()
        server.run(triplet(number))
        done.append(f"a cow {number}")
        assert records(dataset) == done
        report.append({"stage": "RefAny3D_SaveTriplet", "after_s": after, "before": len(found)})

    server.run(training("whole"))
    for _ in range(KILLS):
        after = rng.random() * 8
        kill_during(server, training("parts"), "RefAny3D_Train", after)
        losses = server.output_folder() / "RefAny3D_training" / "parts" / "adapters.csv"
        steps = losses.read_text().count("\n") - 1 if losses.exists() else 0
        server.start()
        report.append({"stage": "RefAny3D_Train", "after_s": after, "steps": steps})
    server.run(training("parts"))
    for file in ("default", "coord", "domain_embedder"):
        whole, parts = (
            (server.base / "models" / "refany3d" / name / f"{file}.safetensors").read_bytes()
            for name in ("whole", "parts")
        )
        assert whole == parts, file
    left = [str(p) for pattern in ("*.part", ".tmp*") for p in server.base.rglob(pattern)]
    report.append({"left": left, "bytes of the index": os.path.getsize(dataset / "meta_data.json")})
    (artifacts / "kills_in_training.json").write_text(json.dumps(report, indent=1))
    assert left == []
