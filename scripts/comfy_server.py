"""Start the real ComfyUI server in folders of its own and talk to it over HTTP; standard library.

Used by the demo, by the tests and to save the templates, so all three drive the very same server.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

from host_setup import ROOT, Host

PACK_FOLDER = "refany3d"
# Ends what hangs, not what is slow: a machine may have other work.
PATIENCE_SECONDS = 1800


class ServerError(RuntimeError):
    """The server did not start, refused a graph, or a graph failed; says why."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install_pack(base: Path) -> Path:
    """Put this checkout into `base/custom_nodes` as a link, or a copy where links are refused."""
    target = base / "custom_nodes" / PACK_FOLDER
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        if target.resolve() == ROOT:
            return target
        target.unlink() if target.is_symlink() else shutil.rmtree(target)
    try:
        target.symlink_to(ROOT, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        skip = shutil.ignore_patterns(".git", "output", "tests", "__pycache__")
        shutil.copytree(ROOT, target, ignore=skip)
    return target


class ComfyServer:
    """A ComfyUI process with its own models, input, output, temp and user folders in `base`.

    Args:
        host: the ComfyUI tree and its Python.
        base: folder for everything the server reads and writes; made when missing.
        arguments: more command line arguments for ComfyUI's main.py.
        with_pack: put this checkout into its custom_nodes.
    """

    def __init__(
        self, host: Host, base: Path, arguments: tuple[str, ...] = (), with_pack: bool = True
    ) -> None:
        self.base = base
        self.log_file = base / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client_id = uuid.uuid4().hex
        for name in ("models", "input/3d", "output", "temp", "user", "custom_nodes"):
            (base / name).mkdir(parents=True, exist_ok=True)
        if with_pack:
            install_pack(base)
        self.command = [
            str(host.python), str(host.comfyui / "main.py"),
            "--listen", "127.0.0.1", "--port", str(self.port),
            "--base-directory", str(base),
            "--database-url", "sqlite:///:memory:",
            "--disable-auto-launch", "--disable-api-nodes",
            *arguments,
        ]  # fmt: skip
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start and wait until the server answers.

        Raises:
            ServerError: it ended or did not answer in time, with the end of its log.
        """
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"ComfyUI ended at its start:\n{self.log()[-3000:]}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        self.stop()
        raise ServerError(
            f"ComfyUI did not answer in {PATIENCE_SECONDS} s. Log:\n{self.log()[-3000:]}"
        )

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_for_end(self) -> None:
        """Wait until the process ends, as by Ctrl-C."""
        if self.process is not None:
            self.process.wait()

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def get_bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_SECONDS) as answer:
            return answer.read()

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def queue(self, graph: dict) -> str:
        """Queue a graph in the API format and give its prompt id.

        Raises:
            ServerError: the server refused the graph; the message carries its reasons.
        """
        try:
            answer = self.post("/prompt", {"prompt": graph, "client_id": self.client_id})
        except urllib.error.HTTPError as error:
            raise ServerError(error.read().decode(errors="replace")) from error
        if answer.get("node_errors"):  # the rest of the graph was queued without these nodes
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            raise ServerError(json.dumps(answer["node_errors"]))
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = PATIENCE_SECONDS) -> dict:
        """The history entry of a prompt once it has ended, whether well or not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return entry
            if not self.running():
                raise ServerError(f"ComfyUI ended in the middle of a run:\n{self.log()[-3000:]}")
            time.sleep(0.2)
        raise ServerError(f"Prompt {prompt_id} did not end in {seconds} s:\n{self.log()[-3000:]}")

    def run(self, graph: dict, seconds: float = PATIENCE_SECONDS) -> dict:
        """Queue a graph, wait, and give its outputs by node id.

        Raises:
            ServerError: refused, failed (with the node's message), interrupted or too slow.
        """
        entry = self.wait(self.queue(graph), seconds)
        if entry["status"]["status_str"] != "success":
            raise ServerError(failure(entry))
        return entry["outputs"]

    def wait_until_idle(self) -> None:
        """Wait until nothing runs and nothing is queued."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(self.get("/queue").values()):
            if time.monotonic() > deadline:
                raise ServerError(f"Not idle in {PATIENCE_SECONDS} s:\n{self.log()[-3000:]}")
            time.sleep(0.2)

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def files(self, outputs: dict, key: str = "images") -> list[Path]:
        """Paths of the files that nodes reported under `key`, saved ones only."""
        found = []
        for node in outputs.values():
            for item in node.get(key, []):
                if item.get("type") == "output":
                    found.append(self.output_folder() / item["subfolder"] / item["filename"])
        return found

    def output_folder(self) -> Path:
        if "--output-directory" in self.command:
            return Path(self.command[self.command.index("--output-directory") + 1])
        return self.base / "output"

    def upload(self, file: Path, subfolder: str = "") -> dict:
        """Upload a file to the input folder as the page does."""
        boundary = uuid.uuid4().hex
        fields = {"subfolder": subfolder, "type": "input", "overwrite": "true"}
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            .encode()
            for name, value in fields.items()
        )  # fmt: skip
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
            f'filename="{file.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        ).encode()
        body += file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        request = urllib.request.Request(
            self.url + "/upload/image",
            data=body,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)


def failure(entry: dict) -> str:
    """What went wrong in a history entry: the failing node, its error and the input if known."""
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            return f"{data['node_type']}: {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return f"interrupted at node {data.get('node_type')}"
    return json.dumps(entry["status"])
