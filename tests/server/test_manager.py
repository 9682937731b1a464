"""The pack through ComfyUI-Manager's own queue, from a git server: install, update, disable,
uninstall. What the Manager knows of the world is a list of one pack, in its cache."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from comfy_server import ComfyServer
from host_setup import ROOT, Host

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find_spec("comfyui_manager") is None, reason="no ComfyUI-Manager here"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """(work tree, address): the files of the archive as a repository on a web server."""
    folder = tmp_path_factory.mktemp("git")
    work, served = folder / "work", folder / "served"
    listed = git(ROOT, "-c", "core.quotePath=off", "ls-files").splitlines()
    ignored = git(ROOT, "-c", "core.quotePath=off", "ls-files", "-c", "--ignored",
                  "--exclude-from=.comfyignore").splitlines()  # fmt: skip
    for name in set(listed) - set(ignored):
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    git(work.parent, "init", "-q", "-b", "main", str(work))
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "first")
    git(work.parent, "clone", "-q", "--bare", str(work), str(served / "refany3d"))
    git(work, "remote", "add", "origin", str(served / "refany3d"))
    git(served / "refany3d", "update-server-info")
    handler = partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield work, f"http://127.0.0.1:{server.server_port}/refany3d"
        server.shutdown()


def known_packs(base: Path, address: str) -> None:
    """The Manager's settings and its list of packs, as it keeps them."""
    folder = base / "user" / "__manager"
    (folder / "cache").mkdir(parents=True)
    (folder / "config.ini").write_text("[default]\nnetwork_mode = offline\n")
    channel = "https://raw.githubusercontent.com/Comfy-Org/ComfyUI-Manager/main"
    name = "custom-node-list.json"
    entry = {
        "id": "refany3d", "author": "refany3d", "title": "RefAny3D",
        "reference": address, "files": [address],
        "install_type": "git-clone", "description": "test",
    }  # fmt: skip
    key = 0
    for char in f"{channel}/{name}":
        key = (key * 31 + ord(char)) % 2**32
    file = folder / "cache" / f"{key}_{name}"
    file.write_text(json.dumps({"custom_nodes": [entry]}))


def ask(server: ComfyServer, kind: str, **params: object) -> None:
    """Queue one task, start the queue, and wait for the task's end; it has to succeed."""
    name = f"{kind} {time.monotonic_ns()}"
    task = {"ui_id": name, "client_id": "test", "kind": kind, "params": params}
    server.post("/v2/manager/queue/task", task)
    server.post("/v2/manager/queue/start", {})
    while server.get("/v2/manager/queue/status")["is_processing"]:
        assert server.running()
        time.sleep(0.5)
    history = server.get("/v2/manager/queue/history")["history"]
    assert "success" in json.dumps(history[name]), (history[name], server.log()[-3000:])


def test_install_update_disable_uninstall(repository, tmp_path):
    work, address = repository
    known_packs(tmp_path, address)
    host = Host(Path(sys.executable), Path(os.environ["REFANY3D_COMFYUI"]), tmp_path)
    arguments = ("--cpu", "--enable-manager")
    packs = tmp_path / "custom_nodes"
    where = {"mode": "cache", "channel": "default"}
    with ComfyServer(host, tmp_path, arguments, with_pack=False) as server:
        ask(server, "install", id="refany3d", version="unknown", selected_version="unknown",
            **where)  # fmt: skip
        assert (packs / "refany3d" / "nodes" / "__init__.py").is_file()
    with ComfyServer(host, tmp_path, arguments, with_pack=False) as server:
        assert "RefAny3D_Sampler" in server.get("/object_info")
        (work / "NEW.md").write_text("an update")
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", "second")
        git(work, "push", "-q", "origin", "main")
        git(Path(git(work, "remote", "get-url", "origin")), "update-server-info")
        ask(server, "update", node_name="refany3d", node_ver="unknown")
        assert (packs / "refany3d" / "NEW.md").is_file()
        ask(server, "disable", node_name="refany3d", is_unknown=True)
        assert not (packs / "refany3d").exists()
        assert any((packs / ".disabled").glob("*/NEW.md"))
        ask(server, "uninstall", node_name="refany3d", is_unknown=True)
        assert not list(packs.glob("refany3d*")) and not any((packs / ".disabled").glob("*/NEW.md"))
