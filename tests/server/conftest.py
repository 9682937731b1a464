"""Graphs of the bundled templates, with small stand-ins in place of FLUX.1-dev."""

import pytest

from graph import set_widgets, template, to_api
from standins import SWAPS

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
    """`template_graph(part of its name, changes)`: a template's API graph, small and changed."""
    info = server.get("/object_info")

    def make(name: str, changes: dict | None = None) -> dict:
        graph = to_api(template(name), info)
        kinds = {node["class_type"] for node in graph.values()}
        small = {kind: values for kind, values in (SWAPS | SMALL).items() if kind in kinds}
        return set_widgets(set_widgets(graph, small), changes or {})

    return make
