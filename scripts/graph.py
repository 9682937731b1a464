"""A saved workflow as the graph that ComfyUI's `/prompt` takes; standard library only.

The page does this with `app.graphToPrompt()`; tests/browser checks that both agree on the bundled
workflows. Reroutes, subgraphs and widgets turned into inputs by hand are not in those.
"""

from __future__ import annotations

MUTED, BYPASSED = 2, 4
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# Options of an input for which the page adds one more widget behind it.
EXTRA_WIDGET_OPTIONS = ("control_after_generate", "image_upload", "upload")


def input_definitions(info: dict) -> list[tuple[str, object, dict]]:
    """(name, type, options) of a node's inputs, in the order in which the page shows them."""
    found = []
    for group in ("required", "optional"):
        for name, definition in info["input"].get(group, {}).items():
            options = definition[1] if len(definition) > 1 else {}
            found.append((name, definition[0], options))
    return found


def widget_values(node: dict, info: dict) -> dict[str, object]:
    """The values of a saved node's widgets by input name."""
    saved = iter(node.get("widgets_values") or [])
    values = {}
    for name, kind, options in input_definitions(info):
        is_widget = isinstance(kind, list) or kind in WIDGET_TYPES
        if not is_widget or options.get("forceInput"):
            continue
        values[name] = next(saved)
        # Seeds have the control by name as well, as the page does.
        if any(options.get(option) for option in EXTRA_WIDGET_OPTIONS):
            next(saved, None)
    return values


def to_api(workflow: dict, object_info: dict) -> dict:
    """The API graph of a saved workflow.

    Args:
        workflow: the JSON that the page saves.
        object_info: the server's `/object_info`.

    Raises:
        ValueError: a node's type is not installed on the server.
    """
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote") or node.get("mode") in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ValueError(f"The workflow needs the node {node['type']}, which is not installed.")
        inputs = widget_values(node, object_info[node["type"]])
        for socket in node.get("inputs") or []:
            if socket.get("link") is not None:
                inputs[socket["name"]] = origins[socket["link"]]
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


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
