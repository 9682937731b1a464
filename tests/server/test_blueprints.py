"""The subgraphs that the page offers beside its own."""

import json

import pytest

from graph import WORKFLOWS

pytestmark = pytest.mark.server

NAMES = sorted(file.stem for file in (WORKFLOWS.parent / "subgraphs").glob("*.json"))


def test_the_server_offers_them(server):
    offered = {entry["name"]: key for key, entry in server.get("/global_subgraphs").items()}
    assert len(NAMES) == 3 and set(NAMES) <= set(offered)
    known = server.get("/object_info")
    for name in NAMES:
        blueprint = json.loads(server.get(f"/global_subgraphs/{offered[name]}")["data"])
        (node,), (definition,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
        assert node["type"] == definition["id"] and definition["name"] == name
        assert {inner["type"] for inner in definition["nodes"]} <= set(known)
