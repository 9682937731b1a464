"""Every node's inputs by schema: random valid and invalid values through the real server."""

import json
import os
import time
import urllib.error
from pathlib import Path

import pytest

from .conftest import LONG
from .fuzz import PACK, Graphs

pytestmark = pytest.mark.server

GRAPHS = 1000 if LONG else 60
FIRST_SEED = int(os.environ.get("REFANY3D_FIRST_SEED", "0"))


class Verdicts:
    """What became of the graphs, and what of it is a fault of ours."""

    def __init__(self, display_names: dict[str, str]) -> None:
        self.display_names = display_names
        self.counts = {"delivered": 0, "refused before": 0, "refused in a run": 0}
        self.faults: list[str] = []

    def answered(self, seed: int, status: int, answer: dict) -> None:
        """The answer to POST /prompt."""
        if status not in (200, 400):
            self.faults.append(f"seed {seed}: HTTP {status}: {str(answer)[:300]}")
        for key, node in (answer.get("node_errors") or {}).items():
            for error in node["errors"]:
                if error["type"].startswith("exception_during") and self._is_ours(node, error):
                    self.faults.append(
                        f"seed {seed}: {node['class_type']} validation: {error['details'][:300]}"
                    )

    @staticmethod
    def _is_ours(node: dict, error: dict) -> bool:
        """Whether a validation broke in our code or in calling it, and not on the way there: links
        to nowhere break in the host's own."""
        last = (error["extra_info"].get("traceback") or [""])[-1]
        return node["class_type"].startswith(PACK) and not any(
            line in last for line in ("= prompt[o_id]", "= r[val[1]]", "NODE_CLASS_MAPPINGS")
        )

    def ended(self, seed: int, entry: dict) -> None:
        """The history entry of a graph that was queued."""
        errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
        self.counts["refused in a run" if errors else "delivered"] += 1
        for data in errors:
            kind, text = data["node_type"], data["exception_message"].strip()
            if kind.startswith(PACK) and not (
                data["exception_type"] == "ValueError"
                and text.startswith(f"{self.display_names[kind]}: ")
            ):
                where = data["traceback"][-1].strip().replace("\n", " ")
                self.faults.append(
                    f"seed {seed}: {kind}: {data['exception_type']}: {text[:200]} | {where[-200:]}"
                )


def outside(server) -> set[Path]:
    """Files beside the server's own folder."""
    return {p for p in server.base.parent.rglob("*") if server.base not in p.parents}


def test_random_graphs(server, artifacts):
    info = server.get("/object_info")
    examples = ["examples/mushroom.glb", "3d/spot.glb"]
    graphs = Graphs(info, examples)
    verdicts = Verdicts({name: entry["display_name"] for name, entry in info.items()})
    files_before = outside(server)
    slowest = (0.0, -1)
    for seed in range(FIRST_SEED, FIRST_SEED + GRAPHS):
        graph, _ = graphs.graph(seed)
        start = time.monotonic()
        try:
            answer = server.post("/prompt", {"prompt": graph, "client_id": server.client_id})
            verdicts.answered(seed, 200, answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                verdicts.answered(seed, error.code, json.loads(text))
            except ValueError:
                verdicts.answered(seed, error.code, {"text": text})
            verdicts.counts["refused before"] += 1
            continue
        verdicts.ended(seed, server.wait(answer["prompt_id"]))
        slowest = max(slowest, (time.monotonic() - start, seed))
    report = {
        "graphs": GRAPHS,
        "first seed": FIRST_SEED,
        **verdicts.counts,
        "faults": verdicts.faults,
        "slowest": slowest,
    }
    (artifacts / "fuzz.json").write_text(json.dumps(report, indent=1))
    assert verdicts.faults == []
    assert verdicts.counts["delivered"] > GRAPHS / 8  # it gets as far as the nodes
    assert outside(server) == files_before
    assert server.running()
