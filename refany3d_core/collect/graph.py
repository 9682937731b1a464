"""A graph in API format, run on any of several ComfyUI servers over HTTP; standard library.

ComfyUI is the engine: it queues, holds the models and frees memory. Here a picture goes in, files
come out, and what fails on one server is tried on the next. A prompt's id is made of its content,
so that a run that was killed finds its prompt in a server's queue or history again.
"""

from __future__ import annotations

import copy
import http.client
import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from .config import ServersConfig
from .stages import Unreachable
from .store import Refused

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 60.0
_LONGEST_REST = 60.0
_POLL = (0.05, 1.0)
"""Seconds between two looks at a prompt: at first, and at most."""
_SUBFOLDER = "refany3d_collect"
_TEXT_INPUTS = ("text", "value", "prompt", "string")


class GraphFailed(Exception):
    """A server refused a graph, or a node of it failed; says which and why."""


class Graph:
    """A graph as the page exports it (File, Export (API)).

    The picture goes into the Load Image titled "image", or the only one; texts go into nodes that
    have their title; seeds and file names are set for each record.

    Args:
        file: the JSON.

    Raises:
        ValueError: not there, or not a graph in API format.
    """

    def __init__(self, file: Path) -> None:
        self.name = file.name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"the graph '{file}' cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"the graph {file.name} is not JSON: {error}") from error
        nodes = content.values() if isinstance(content, dict) else []
        if not nodes or not all(isinstance(n, dict) and "class_type" in n for n in nodes):
            raise ValueError(
                f"{file.name} is no graph in API format; export it with File, Export (API)"
            )
        self.content: dict[str, Any] = content

    def image_input(self) -> str:
        """Id of the node that takes the picture.

        Raises:
            Refused: there is none, or several without a title that tells.
        """
        loaders = [k for k, node in self.content.items() if node["class_type"] == "LoadImage"]
        titled = [k for k in loaders if self._title(k) == "image"]
        found = titled or loaders
        if len(found) != 1:
            raise Refused(
                f"the graph {self.name} has {len(found) or 'no'} image input"
                f"{'s' if len(found) > 1 else ''}: title one Load Image 'image'"
            )
        return found[0]

    def _title(self, node: str) -> str:
        return str(self.content[node].get("_meta", {}).get("title", "")).strip().lower()

    def filled(self, image: str, name: str, texts: Mapping[str, str]) -> dict[str, Any]:
        """The graph for one picture.

        Args:
            image: the uploaded picture's name on the server.
            name: of the record; gives its seeds and file names.
            texts: by node title.
        """
        graph = copy.deepcopy(self.content)
        graph[self.image_input()]["inputs"]["image"] = image
        for key, node in graph.items():
            inputs = node["inputs"]
            for seed in ("seed", "noise_seed"):
                if isinstance(inputs.get(seed), int):
                    inputs[seed] = crc32(name.encode())
            if isinstance(inputs.get("filename_prefix"), str):
                inputs["filename_prefix"] = f"{_SUBFOLDER}/{name}"
            text = texts.get(self._title(key))
            for socket in _TEXT_INPUTS if text is not None else ():
                if isinstance(inputs.get(socket), str):
                    inputs[socket] = text
        return graph


@dataclass(frozen=True)
class GraphRun:
    """What a graph left on a server."""

    server: _Server
    outputs: Mapping[str, Any]
    graph: str

    def only_file(self, endings: Sequence[str], what: str) -> tuple[bytes, str]:
        """(content, file name) of the one saved file with one of the endings.

        Raises:
            Refused: none, or several.
            Unreachable: the server does not give it.
        """
        lists = [found for node in self.outputs.values() for found in node.values()]
        items = [item for found in lists if isinstance(found, list) for item in found]
        files = [
            item
            for item in items
            if isinstance(item, dict)
            and item.get("type") == "output"
            and str(item.get("filename", "")).lower().endswith(tuple(endings))
        ]
        if len(files) != 1:
            raise Refused(
                f"the graph {self.graph} saved {len(files) or 'no'} {what}"
                f"{'s' if len(files) > 1 else ''}, expected one"
            )
        names = {key: files[0].get(key) or "" for key in ("filename", "subfolder", "type")}
        try:
            content = self.server.get_bytes(f"/view?{urllib.parse.urlencode(names)}")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.server.url} does not give {names['filename']}: {error}")
        return content, names["filename"]

    def camera(self) -> Mapping[str, Any] | None:
        """The LOAD3D_CAMERA that a Preview 3D of the graph was given."""
        for node in self.outputs.values():
            for item in node.get("result") or ():
                if isinstance(item, dict) and {"position", "target"} <= set(item):
                    return item
        return None


class _Server:
    """One ComfyUI server."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.running = 0
        self.failures = 0
        self.rests_until = 0.0

    def get_bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=_REQUEST_SECONDS) as answer:
            return answer.read()

    def get(self, path: str) -> dict[str, Any]:
        return json.loads(self.get_bytes(path))

    def post(self, path: str, body: bytes, kind: str = "application/json") -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
            return json.loads(answer.read() or b"{}")

    def upload(self, picture: bytes, name: str) -> str:
        """The picture's name for Load Image."""
        edge = uuid.uuid4().hex
        fields = {"subfolder": _SUBFOLDER, "type": "input", "overwrite": "true"}
        parts = [
            f'--{edge}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        ]
        parts.append(
            f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        )
        body = "".join(parts).encode() + picture + f"\r\n--{edge}--\r\n".encode()
        found = self.post("/upload/image", body, f"multipart/form-data; boundary={edge}")
        return "/".join(part for part in (found.get("subfolder"), found["name"]) if part)

    def known(self, prompt: str) -> tuple[bool, dict[str, Any] | None]:
        """(whether it waits or runs, its entry in the history)."""
        queue = self.get("/queue")  # first: what leaves it is in the history
        entries = [*queue.get("queue_running", ()), *queue.get("queue_pending", ())]
        waits = any(len(entry) > 1 and entry[1] == prompt for entry in entries)
        return waits, self.get(f"/history/{prompt}").get(prompt)

    def queue(self, graph: Mapping[str, Any], prompt: str) -> None:
        body = json.dumps({"prompt": graph, "prompt_id": prompt}).encode()
        try:
            answer = self.post("/prompt", body)
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise GraphFailed(_refusal(error.read())) from error
        if answer.get("node_errors"):  # the rest of the graph was queued without these nodes
            self.forget(prompt)
            raise GraphFailed(_refusal(json.dumps(answer).encode()))

    def forget(self, prompt: str) -> None:
        """Take a prompt out of the queue, or stop it, and out of the history."""
        self.post("/queue", json.dumps({"delete": [prompt]}).encode())
        self.post("/interrupt", json.dumps({"prompt_id": prompt}).encode())
        deadline = time.monotonic() + _REQUEST_SECONDS
        while self.known(prompt)[0] and time.monotonic() < deadline:
            time.sleep(_POLL[0])
        self.post("/history", json.dumps({"delete": [prompt]}).encode())


class Servers:
    """A list of servers, of which the least busy that answers gets the next graph."""

    def __init__(self, config: ServersConfig) -> None:
        if not config.urls:
            raise ValueError("[servers] urls is empty; name a ComfyUI server")
        self.config = config
        self._servers = [_Server(url) for url in config.urls]
        self._lock = threading.Lock()

    def run(
        self, graph: Graph, picture: bytes, name: str, texts: Mapping[str, str] | None = None
    ) -> GraphRun:
        """Run a graph on one picture and wait for it.

        Args:
            graph: what to run.
            picture: PNG, with alpha 0 where Load Image's mask shall be 1.
            name: of the record, for files and seeds.
            texts: for nodes with these titles.

        Raises:
            Refused: the graph has no place for a picture.
            Unreachable: no server brought it to its end; every attempt's reason.
        """
        graph.image_input()
        tried: list[_Server] = []
        reasons: list[str] = []
        for _ in range(self.config.attempts):
            server = self._take(tried)
            try:
                outputs = self._once(server, graph, picture, name, texts or {})
                server.failures = 0
                return GraphRun(server, outputs, graph.name)
            except GraphFailed as error:
                reasons.append(f"{server.url}: {error}")
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                reasons.append(f"{server.url}: {error}")
                server.failures += 1
                rest = self.config.rest * 2 ** min(server.failures - 1, 16)
                server.rests_until = time.monotonic() + min(rest, _LONGEST_REST)
            finally:
                with self._lock:
                    server.running -= 1
            log.warning("%s: %s", name, reasons[-1])
            tried.append(server)
        raise Unreachable("; ".join(dict.fromkeys(reasons)))

    def _take(self, tried: Sequence[_Server]) -> _Server:
        """The least busy server that does not rest, one that was not tried before if there is."""
        while True:
            with self._lock:
                now = time.monotonic()
                awake = [s for s in self._servers if s.rests_until <= now]
                if awake:
                    server = min(awake, key=lambda s: (tried.count(s), s.running))
                    server.running += 1
                    return server
                wait = min(s.rests_until for s in self._servers) - now
            time.sleep(wait)

    def _once(
        self, server: _Server, graph: Graph, picture: bytes, name: str, texts: Mapping[str, str]
    ) -> Mapping[str, Any]:
        image = f"{_SUBFOLDER}/{name}.png"
        content = json.dumps([graph.filled(image, name, texts), crc32(picture)], sort_keys=True)
        number = 0
        while True:
            prompt = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number} {content}"))
            waits, entry = server.known(prompt)
            if entry is None or _failure(entry) is None:
                break
            number += 1  # an attempt of before that failed
        if not waits and entry is None:
            image = server.upload(picture, name)
            server.queue(graph.filled(image, name, texts), prompt)
        deadline, pause = time.monotonic() + self.config.timeout, _POLL[0]
        while True:
            waits, entry = server.known(prompt)
            if entry is not None:
                break
            if not waits:
                raise OSError("the server has lost the prompt; was it started anew?")
            if time.monotonic() > deadline:
                server.forget(prompt)
                raise OSError(f"not done after {self.config.timeout:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.3, _POLL[1])
        failure = _failure(entry)
        if failure:
            raise GraphFailed(failure)
        return entry["outputs"]


def _failure(entry: Mapping[str, Any]) -> str | None:
    """What went wrong in a history entry."""
    status = entry.get("status") or {}
    if status.get("status_str") == "success":
        return None
    for kind, data in status.get("messages") or ():
        if kind == "execution_error":
            return f"{data['node_type']}: {str(data['exception_message']).strip()}"
        if kind == "execution_interrupted":
            return "it was interrupted"
    return "it failed"


def _refusal(answer: bytes) -> str:
    """The reasons in the server's answer to a graph that it does not take."""
    try:
        found = json.loads(answer)
        nodes = [
            f"{node['class_type']}: {error['message']} ({error.get('details', '')})"
            for node in (found.get("node_errors") or {}).values() for error in node["errors"]
        ]  # fmt: skip
        return "; ".join(nodes) or str(found["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the server refuses the graph: {answer[:200].decode(errors='replace')}"
