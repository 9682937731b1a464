"""Graphs of the bundled templates, with small stand-ins in place of FLUX.1-dev."""

import json
from pathlib import Path

import pytest

from graph import set_widgets, to_api
from standins import SWAPS

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
# Sizes only: everything else is as in the templates.
SMALL = {
    "RefAny3D_RenderViews": {"views": 2, "resolution": 128},
    "RefAny3D_Sampler": {"width": 128, "height": 128, "steps": 2},
    "RefAny3D_Apply": {"width": 128, "height": 128},
    "ModelSamplingFlux": {"width": 128, "height": 128},
    "KSampler": {"steps": 2},
}


@pytest.fixture(scope="session")
def template_graph(server):
    """`template_graph(name, changes)`: a template's API graph, small, with inputs replaced."""
    info = server.get("/object_info")

    def make(name: str, changes: dict | None = None) -> dict:
        workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
        graph = to_api(workflow, info)
        kinds = {node["class_type"] for node in graph.values()}
        small = {kind: values for kind, values in (SWAPS | SMALL).items() if kind in kinds}
        return set_widgets(set_widgets(graph, small), changes or {})

    return make
