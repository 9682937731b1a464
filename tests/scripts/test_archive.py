"""What a user downloads: the tracked files without those of .comfyignore."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("tomllib is there from Python 3.11 on", allow_module_level=True)
import tomllib

ROOT = Path(__file__).resolve().parents[2]


def files(*arguments: str) -> set[str]:
    command = ["git", "-C", str(ROOT), "-c", "core.quotePath=off", "ls-files", *arguments]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return set(listed.stdout.splitlines())


def test_the_archive_is_light_and_whole():
    kept = files() - files("-c", "--ignored", "--exclude-from=.comfyignore")
    size = {name: (ROOT / name).stat().st_size for name in kept}
    demo = sum(bytes_ for name, bytes_ in size.items() if name.startswith("demo_model/"))
    assert sum(size.values()) - demo <= 8e6
    assert demo <= 30e6
    assert not any(name.split("/")[0] in ("tests", "scripts", ".github") for name in kept)
    for needed in ("__init__.py", "nodes/__init__.py", "demo_model/base.safetensors",
                   "web/js/notes.js", "locales/ja/nodeDefs.json", "LICENSE"):  # fmt: skip
        assert needed in kept
    assert {name.split("/")[0] for name in kept} >= {"workflows", "subgraphs", "assets", "web"}


def test_the_registry_gets_what_a_listing_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    urls = project["project"]["urls"]
    assert {"Repository", "Documentation", "Bug Tracker"} <= set(urls)
    comfy = project["tool"]["comfy"]
    assert {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"} <= set(comfy)
    # One placeholder for all addresses, and one place that says so.
    addresses = [*urls.values(), comfy["Icon"], comfy["Banner"]]
    assert len({"/OWNER/" in address for address in addresses}) == 1
    assert "OWNER" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for address in (comfy["Icon"], comfy["Banner"]):
        assert (ROOT / address.split("/main/")[1]).is_file()


@pytest.fixture
def comfy(tmp_path: Path):
    """`comfy(arguments)` in a clone of the last commit: its output, with a home of its own.

    comfy-cli wants other libraries than ComfyUI does, so it lives apart: REFANY3D_COMFY_CLI names
    its program.
    """
    program = os.environ.get("REFANY3D_COMFY_CLI") or shutil.which("comfy")
    if not program:
        pytest.skip("no comfy-cli: install it with pipx, or name it by REFANY3D_COMFY_CLI")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}

    def run(*arguments: str) -> str:
        command = [program, "--skip-prompt", "--no-enable-telemetry", *arguments]
        done = subprocess.run(
            command, cwd=clone, env=environment, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run, clone


def test_the_registrys_own_tool_validates_and_packs(comfy):
    run, clone = comfy
    assert "validation checks passed" in run("node", "validate")
    run("node", "pack")
    with zipfile.ZipFile(clone / "node.zip") as archive:
        size = {item.filename: item.compress_size for item in archive.infolist()}
    demo = sum(bytes_ for name, bytes_ in size.items() if name.startswith("demo_model/"))
    assert sum(size.values()) - demo <= 8e6
    assert demo <= 30e6
    assert not {"tests", "scripts", ".github"} & {name.split("/")[0] for name in size}
