"""Random graphs from the nodes' own schemas: valid values, and invalid ones of every kind."""

from __future__ import annotations

import random
from typing import Any

from graph import WIDGET_TYPES, input_definitions

PACK = "RefAny3D_"
SINK = "PreviewAny"
# What bounds the cost of a valid graph; every other valid value is drawn from the whole range.
LARGEST = {
    "views": 2, "resolution": 64, "width": 96, "height": 96, "steps": 2, "batch_size": 2,
    "supersampling": 2, "frames": 2, "count": 2, "size": 96, "grow": 16,
}  # fmt: skip
STRANGE_NUMBERS = (
    -1, 0, 1, 10**9, -(10**9), 2**63, 1e308, "inf", "-inf", "nan", 0.5, "7", "x", None, [], {},
)  # fmt: skip
STRANGE_TEXTS = (
    "", " ", "ein Würfel 立方体 🧊", "x" * 5000, "../../etc/passwd", "/dev/null", "C:\\CON", "a\0b",
    "\n\r\t", "%s%n{0}{self}", "NaN", "#ffffff", "1e999", "con", ".", "..", "é" * 240,
)  # fmt: skip
STRANGE_THINGS: tuple[Any, ...] = (
    None, True, 5, -1.5, "text", {}, {"samples": 1}, {"__value__": [1, 2, 3]}, [], [1], ["no", 0],
    ["target", 0], [None, None], ["models", 99], ["models", -1], ["models", "0"], [["a"], 0],
)  # fmt: skip


class Graphs:
    """`graph(seed)`: a graph around one node of the pack.

    Args:
        info: the server's /object_info.
        examples: names for Load Mesh.
    """

    def __init__(self, info: dict, examples: list[str]) -> None:
        self.info = info
        self.examples = examples
        self.targets = sorted(name for name in info if name.startswith(PACK))
        self.makers: dict[str, list[tuple[str, int]]] = {}
        makers = [*self.targets, "CLIPTextEncode", "EmptyImage", "SolidMask", "EmptyLatentImage"]
        for name in makers:
            for number, kind in enumerate(info[name]["output"]):
                for one in str(kind).split(","):
                    self.makers.setdefault(one, []).append((name, number))

    def graph(self, seed: int) -> tuple[dict, str]:
        """The graph, and the id of the node that it is about ("target")."""
        rng = random.Random(seed)
        graph: dict[str, dict] = {
            "models": {"class_type": "RefAny3D_LoadDemoModels", "inputs": {}},
        }
        kind = self.targets[seed % len(self.targets)]
        graph["target"] = {"class_type": kind, "inputs": {}}
        self._fill(graph, "target", rng, 0)
        inputs = graph["target"]["inputs"]
        names = [name for name, _, _ in input_definitions(self.info[kind])]
        for name in rng.sample(names, min(len(names), rng.choice((0, 0, 1, 1, 2, 3)))):
            self._spoil(graph, inputs, name, kind, rng)
        for number in range(max(1, len(self.info[kind]["output"]))):
            graph[f"sink {number}"] = {
                "class_type": SINK, "inputs": {"source": ["target", number]},
            }  # fmt: skip
        return graph, "target"

    def _fill(self, graph: dict, key: str, rng: random.Random, depth: int) -> None:
        """Valid values and links for a node of the graph."""
        node = graph[key]
        kind = node["class_type"]
        for group in ("required", "optional"):
            for name, definition in self.info[kind]["input"].get(group, {}).items():
                options = definition[1] if len(definition) > 1 else {}
                socket = definition[0]
                if group == "optional" and (depth or rng.random() < 0.5):
                    continue
                if isinstance(socket, list) or socket in WIDGET_TYPES:
                    node["inputs"][name] = self._value(name, socket, options, rng, depth)
                else:
                    link = self._link(graph, str(socket), rng, depth)
                    if link:
                        node["inputs"][name] = link

    def _value(self, name: str, socket: Any, options: dict, rng: random.Random, depth: int) -> Any:
        if name == "mesh_file":
            return rng.choice(self.examples)
        if depth and name in ("width", "height", "resolution"):
            return 64
        if isinstance(socket, list) or socket == "COMBO":
            choices = socket if isinstance(socket, list) else options.get("options") or [""]
            return rng.choice(choices) if choices else ""
        if socket == "BOOLEAN":
            return rng.random() < 0.5
        if socket == "STRING":
            return options.get("default") or "name"
        low, high = options.get("min", 0), options.get("max", 100)
        high = max(low, min(high, LARGEST.get(name, high)))
        if socket == "INT":
            step = options.get("step") or 1
            return rng.choice((low, high, low + step * rng.randint(0, int((high - low) // step))))
        return rng.choice((low, high, options.get("default", low), rng.uniform(low, high)))

    def _link(self, graph: dict, socket: str, rng: random.Random, depth: int) -> list | None:
        """A link to a node that makes what the socket takes, put into the graph when it is new."""
        kinds = [kind for kind in socket.split(",") if kind in self.makers]
        if not kinds or depth > 6:
            return None
        # Deeper down one cheap and sure way, so that most graphs get as far as the target.
        makers = [maker for kind in kinds for maker in self.makers[kind]]
        if depth or rng.random() < 0.7:
            makers = sorted(makers, key=lambda maker: self._cost(maker[0]))[:1]
        name, number = rng.choice(makers)
        key = "models" if name == "RefAny3D_LoadDemoModels" else f"{name} {len(graph)}"
        found = [k for k, node in graph.items() if node["class_type"] == name and k != "target"]
        if found:
            key = found[0]
        elif key not in graph:
            graph[key] = {"class_type": name, "inputs": {}}
            self._fill(graph, key, rng, depth + 1)
        return [key, number]

    def _cost(self, name: str) -> tuple[int, int]:
        order = (
            "RefAny3D_LoadDemoModels", "RefAny3D_LoadMesh", "EmptyImage", "SolidMask",
            "CLIPTextEncode", "RefAny3D_RenderViews", "RefAny3D_EncodeReferences",
            "RefAny3D_Sampler", "RefAny3D_SplitLatent",
        )  # fmt: skip
        place = order.index(name) if name in order else len(order)
        return place, len(self.info[name]["input"].get("required", {}))

    def _spoil(self, graph: dict, inputs: dict, name: str, kind: str, rng: random.Random) -> None:
        definitions = {n: (socket, options) for n, socket, options in
                       input_definitions(self.info[kind])}  # fmt: skip
        socket, _ = definitions[name]
        if rng.random() < 0.15:
            inputs.pop(name, None)
        elif socket in ("INT", "FLOAT"):
            inputs[name] = rng.choice(STRANGE_NUMBERS)
            # A value that is valid for the schema may be dear: those are for _value.
            if name in LARGEST and isinstance(inputs[name], (int, float)) and inputs[name] > 8:
                inputs[name] = -7
        elif socket in ("STRING", "BOOLEAN", "COMBO") or isinstance(socket, list):
            inputs[name] = rng.choice((*STRANGE_TEXTS, *STRANGE_THINGS))
        elif rng.random() < 0.5:
            inputs[name] = rng.choice(STRANGE_THINGS)
        else:  # a link to something of any kind
            makers = [maker for found in self.makers.values() for maker in found]
            other, number = rng.choice(sorted(makers))
            link = self._link(graph, str(self.info[other]["output"][number]), rng, 1)
            inputs[name] = link or ["models", 0]
