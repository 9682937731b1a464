"""A saved workflow as the graph that ComfyUI's `/prompt` takes; standard library only.

The page does this with `app.graphToPrompt()`; tests/browser checks that both agree on the bundled
workflows. Subgraphs are flattened as the page does it: the node 7 in the subgraph node 12 is
"12:7". Reroutes and bypassed nodes with inputs to pass on are not in those.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "LOAD_3D"}
# Options of an input for which the page adds one more widget behind it.
EXTRA_WIDGET_OPTIONS = ("control_after_generate", "image_upload", "upload")


def input_definitions(info: dict) -> list[tuple[str, Any, dict]]:
    """(name, type, options) of a node's inputs, in the order in which the page shows them."""
    found = []
    for group in ("required", "optional"):
        for name, definition in info["input"].get(group, {}).items():
            options = definition[1] if len(definition) > 1 else {}
            found.append((name, definition[0], options))
    return found


def widget_values(node: dict, info: dict) -> dict[str, object]:
    """The values of a saved node's widgets by input name; inputs that are newer than the file have
    their defaults, as in the page."""
    saved = iter(node.get("widgets_values") or [])
    values = {}
    for name, kind, options in input_definitions(info):
        is_widget = isinstance(kind, list) or kind in WIDGET_TYPES
        if not is_widget or options.get("forceInput"):
            continue
        choices = kind if isinstance(kind, list) else options.get("options", [])
        default = options.get("default", choices[0] if choices else None)
        values[name] = next(saved, default)
        # Seeds have the control by name as well, as the page does.
        if any(options.get(option) for option in EXTRA_WIDGET_OPTIONS):
            next(saved, None)
    return values


def template(part: str) -> dict:
    """The bundled template whose name has `part` in it.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [file for file in WORKFLOWS.glob("*.json") if part in file.stem]
    if len(found) != 1:
        raise ValueError(f"{len(found)} templates have {part!r} in their name")
    return json.loads(found[0].read_text(encoding="utf-8"))


@dataclass
class _Scope:
    """A graph inside the workflow: the outermost, or a subgraph as one node shows it.

    Attributes:
        nodes, origins: saved nodes by id; (node id, slot) that a link comes from, by link id.
        outputs: link id by slot of the subgraph's outputs.
        prefix: of the flat ids of its nodes.
        outside: value, or flat [node id, slot], or None by slot of the subgraph's inputs.
    """

    nodes: dict[int, dict]
    origins: dict[int, tuple[int, int]]
    outputs: dict[int, int] = field(default_factory=dict)
    prefix: str = ""
    outside: list[Any] = field(default_factory=list)


class _Flattened:
    def __init__(self, workflow: dict, object_info: dict) -> None:
        definitions = workflow.get("definitions", {}).get("subgraphs", [])
        self.subgraphs = {entry["id"]: entry for entry in definitions}
        self.info = object_info
        self.graph: dict[str, dict] = {}
        links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
        self.add(_Scope({node["id"]: node for node in workflow["nodes"]}, links))

    def add(self, scope: _Scope) -> None:
        for node in scope.nodes.values():
            if node["type"] in ("Note", "MarkdownNote") or node.get("mode") in (MUTED, BYPASSED):
                continue
            if node["type"] in self.subgraphs:
                self.add(self.inside(scope, node))
                continue
            if node["type"] not in self.info:
                raise ValueError(
                    f"The workflow needs the node {node['type']}, which is not installed."
                )
            inputs = widget_values(node, self.info[node["type"]])
            for socket in node.get("inputs") or []:
                if socket.get("link") is not None:
                    inputs[socket["name"]] = self.origin(scope, socket["link"])
            self.graph[f"{scope.prefix}{node['id']}"] = {
                "class_type": node["type"],
                "inputs": inputs,
            }

    def inside(self, scope: _Scope, node: dict) -> _Scope:
        """The subgraph that a node shows."""
        definition = self.subgraphs[node["type"]]
        nodes = {inner["id"]: inner for inner in definition["nodes"]}
        links = definition["links"]
        widgets = {
            link["origin_slot"]
            for link in links
            if link["origin_id"] == SUBGRAPH_INPUT
            and "widget" in nodes[link["target_id"]]["inputs"][link["target_slot"]]
        }
        values = iter(node.get("widgets_values") or [])
        linked = {socket["name"]: socket.get("link") for socket in node.get("inputs") or []}
        outside = []
        for slot, entry in enumerate(definition["inputs"]):
            value = next(values, None) if slot in widgets else None
            link = linked.get(entry["name"])
            outside.append(value if link is None else self.origin(scope, link))
        return _Scope(
            nodes,
            {link["id"]: (link["origin_id"], link["origin_slot"]) for link in links},
            {
                link["target_slot"]: link["id"]
                for link in links
                if link["target_id"] == SUBGRAPH_OUTPUT
            },
            f"{scope.prefix}{node['id']}:",
            outside,
        )

    def origin(self, scope: _Scope, link: int) -> Any:
        """Where a link comes from: flat [node id, slot], or the value of a subgraph's widget."""
        key, slot = scope.origins[link]
        if key == SUBGRAPH_INPUT:
            return scope.outside[slot]
        node = scope.nodes[key]
        if node["type"] in self.subgraphs:
            inner = self.inside(scope, node)
            return self.origin(inner, inner.outputs[slot])
        return [f"{scope.prefix}{key}", slot]


def to_api(workflow: dict, object_info: dict) -> dict:
    """The API graph of a saved workflow.

    Args:
        workflow: the JSON that the page saves.
        object_info: the server's `/object_info`.

    Raises:
        ValueError: a node's type is not installed on the server.
    """
    return _Flattened(workflow, object_info).graph


def needed(graph: dict, wanted: list[str]) -> dict:
    """The part of an API graph that some of its nodes need."""
    kept: dict[str, dict] = {}
    waiting = list(wanted)
    while waiting:
        key = waiting.pop()
        if key not in kept:
            kept[key] = graph[key]
            waiting += [v[0] for v in graph[key]["inputs"].values() if isinstance(v, list)]
    return kept


def set_widgets(graph: dict, changes: dict[str, dict[str, object]]) -> dict:
    """A copy of an API graph with inputs replaced: {class_type: {input: value}}.

    Raises:
        ValueError: a change names a node type or an input that the graph does not have.
    """
    copy = {key: {**node, "inputs": dict(node["inputs"])} for key, node in graph.items()}
    for kind, values in changes.items():
        nodes = [node for node in copy.values() if node["class_type"] == kind]
        if not nodes:
            raise ValueError(f"The graph has no {kind} node.")
        for node in nodes:
            unknown = set(values) - set(node["inputs"])
            if unknown:
                raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}.")
            node["inputs"].update(values)
    return copy
