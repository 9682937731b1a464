"""The pack on every ComfyUI that README calls checked, each as a server of its own."""

import os
import re
import subprocess

import pytest

import demo
from comfy_server import ComfyServer
from host_setup import CHECKED_VERSIONS, HOST_VERSION, ROOT, TOO_OLD, Host, SetupError, prepare

from . import contract

pytestmark = pytest.mark.server
OTHERS = [version for version in CHECKED_VERSIONS if version != HOST_VERSION]
"""Besides the one that the rest of the tests run on."""


@pytest.fixture(scope="session")
def host_of():
    """`host_of(version)`: its private environment, made on first use."""

    def give(version: str) -> Host:
        try:
            return prepare(version)
        except SetupError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))

    return give


def listed_nodes() -> set[str]:
    """The ids that the pack's sources declare, so that a node that did not register is missed."""
    text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "nodes").glob("*.py"))
    return set(re.findall(r'node_id="(RefAny3D_\w+)"', text))


def lacking_symbols(host: Host) -> str:
    """The contract with the host, looked up there: names what a version lacks."""
    return subprocess.run(
        [str(host.python), contract.__file__], cwd=host.comfyui, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("version", OTHERS)
def test_all_nodes_load_and_the_demo_runs(version, host_of, tmp_path):
    host = host_of(version)
    flags = ("--cpu", "--use-pytorch-cross-attention")
    with ComfyServer(host, tmp_path, flags) as server:
        assert server.get("/system_stats")["system"]["comfyui_version"] == version
        found = {name for name in server.get("/object_info") if name.startswith("RefAny3D")}
        assert found == listed_nodes(), lacking_symbols(host)
        files = server.files(server.run(demo.demo_graph(server, None, None)))
    assert {file.name.rsplit("_", 2)[0] for file in files} == {
        "demo", "demo_point_map", "demo_views", "demo_view_point_maps",
    }  # fmt: skip
    assert all(file.stat().st_size > 1000 for file in files)
    assert "IMPORT FAILED" not in server.log()


@pytest.mark.skipif(not os.environ.get("REFANY3D_LONG"), reason="scripts/test.py --hosts")
def test_an_older_host_is_refused_in_a_sentence(host_of, tmp_path):
    with ComfyServer(host_of(TOO_OLD), tmp_path, ("--cpu",)) as server:
        assert not [name for name in server.get("/object_info") if name.startswith("RefAny3D")]
    assert (
        f"RefAny3D needs ComfyUI 0.18.2 or newer, and this is {TOO_OLD}. Update ComfyUI and start "
        "it again." in server.log()
    )
