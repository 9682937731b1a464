"""The set-up's failures, each provoked for real, must say what failed and what to do."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import host_setup

ROOT = Path(__file__).resolve().parents[2]


def run_script(script: str, **environment: str) -> subprocess.CompletedProcess:
    """A command of scripts/ in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.fixture
def no_pip_settings(monkeypatch):
    """pip as it is without the machine's own configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def archive_with(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_comfyui_path_that_points_at_nothing(tmp_path):
    result = run_script("test.py", COMFYUI_PATH=str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "is not a ComfyUI folder" in result.stderr
    assert "main.py" in result.stderr and "unset it" in result.stderr
    assert "Traceback" not in result.stderr


def test_comfyui_path_with_a_python_that_lacks_packages(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    bare = host_setup.venv_python(tmp_path / "env")
    result = subprocess.run(
        [str(bare), str(ROOT / "scripts" / "test.py")],
        env={**os.environ, "COMFYUI_PATH": os.environ["REFANY3D_COMFYUI"]},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "lacks what ComfyUI or this pack needs" in result.stderr
    assert "No module named 'torch'" in result.stderr
    assert "pip install -r" in result.stderr


def test_comfyui_path_that_is_right_is_used(monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", os.environ["REFANY3D_COMFYUI"])
    host = host_setup.prepare()
    assert host.comfyui == Path(os.environ["REFANY3D_COMFYUI"]).resolve()
    assert host.python == Path(sys.executable)


def test_an_unknown_host_version_names_the_known_ones():
    result = run_script("test.py", COMFYUI_PATH="", REFANY3D_HOST_VERSION="9.9")
    assert result.returncode == 1
    assert "9.9 is not a pinned ComfyUI" in result.stderr
    assert all(version in result.stderr for version in host_setup.SOURCES)


def test_a_cache_folder_that_cannot_be_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    result = run_script("test.py", COMFYUI_PATH="", REFANY3D_HOST_DIR=str(blocked))
    assert result.returncode == 1
    assert "Cannot make the folder" in result.stderr
    assert "REFANY3D_HOST_DIR" in result.stderr
    assert "Traceback" not in result.stderr


def test_too_little_disk(tmp_path):
    with pytest.raises(host_setup.SetupError) as error:
        host_setup.check_disk(tmp_path, needed=10**18)
    assert "Not enough disk space" in str(error.value)
    assert "REFANY3D_HOST_DIR" in str(error.value)
    host_setup.check_disk(tmp_path, needed=1)


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(host_setup, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(host_setup.SetupError, match="is too old: ComfyUI needs Python 3.10"):
        host_setup.check_python()


def test_a_changed_archive_is_not_unpacked(tmp_path):
    archive = archive_with(tmp_path / "a.tar.gz", {"p/vendor/ComfyUI/main.py": b"print()"})
    good = hashlib.sha256(archive.read_bytes()).hexdigest()
    host_setup.check_archive(archive, good)
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(host_setup.SetupError, match="is not the pinned one.*Nothing was unpacked"):
        host_setup.check_archive(archive, good)


def test_only_comfyui_is_unpacked_and_only_inside(tmp_path):
    archive = archive_with(
        tmp_path / "a.tar.gz",
        {
            "p-1/vendor/ComfyUI/main.py": b"main",
            "p-1/vendor/ComfyUI/comfy/ops.py": b"ops",
            "p-1/other/file.py": b"no",
        },
    )
    host_setup.unpack_comfyui(archive, tmp_path / "out" / "ComfyUI")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.py")}
    assert found == {"ComfyUI/main.py", "ComfyUI/comfy/ops.py"}


def test_names_that_reach_outside_are_refused(tmp_path):
    archive = archive_with(
        tmp_path / "a.tar.gz",
        {"p-1/vendor/ComfyUI/main.py": b"main", "p-1/vendor/ComfyUI/../../../../evil.py": b"evil"},
    )
    with pytest.raises(host_setup.SetupError, match="unsafe name"):
        host_setup.unpack_comfyui(archive, tmp_path / "out" / "ComfyUI")
    assert not list(tmp_path.rglob("evil.py"))
    assert not (tmp_path / "out" / "ComfyUI").exists()


def test_links_in_the_archive_are_left_out(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("p/vendor/ComfyUI/escape")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
        main = tarfile.TarInfo("p/vendor/ComfyUI/main.py")
        tar.addfile(main, io.BytesIO(b""))
    host_setup.unpack_comfyui(path, tmp_path / "ComfyUI")
    assert not (tmp_path / "ComfyUI" / "escape").is_symlink()


def test_a_half_unpacked_tree_is_replaced(tmp_path):
    half = tmp_path / "ComfyUI.partial"
    half.mkdir()
    (half / "left.py").write_text("from a killed run")
    archive = archive_with(tmp_path / "a.tar.gz", {"p/vendor/ComfyUI/main.py": b""})
    host_setup.unpack_comfyui(archive, tmp_path / "ComfyUI")
    assert not (tmp_path / "ComfyUI" / "left.py").exists()
    assert not half.exists()


def test_no_network_is_told_apart(tmp_path, no_pip_settings):
    """pip without a way out, for real: the index is a closed port of this machine."""
    command = [
        sys.executable, "-m", "pip", "download", "--retries", "1", "--dest", tmp_path,
        "--index-url", "http://127.0.0.1:9/simple", "no-such-package-here==1",
    ]  # fmt: skip
    with pytest.raises(host_setup.SetupError) as error:
        host_setup.run_step("Downloading something", command, tmp_path / "log")
    text = str(error.value)
    assert text.startswith("Downloading something failed")
    assert "cannot be reached" in text and "COMFYUI_PATH" in text
    assert str(tmp_path / "log") in text


def test_a_package_that_does_not_exist_for_this_python(tmp_path, no_pip_settings):
    command = [
        sys.executable, "-m", "pip", "download", "--no-index", "--dest", tmp_path, "torch==0.0.1",
    ]  # fmt: skip
    with pytest.raises(host_setup.SetupError, match="No package fits Python"):
        host_setup.run_step("Installing PyTorch", command, tmp_path / "log")


def test_constraints_of_the_machine_are_named(tmp_path, no_pip_settings, monkeypatch):
    (tmp_path / "constraints.txt").write_text("torch<=0.1\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    command = [
        sys.executable, "-m", "pip", "download", "--no-index", "--dest", tmp_path, "torch==2.11.0",
    ]  # fmt: skip
    with pytest.raises(host_setup.SetupError, match="PIP_CONSTRAINT"):
        host_setup.run_step("Installing PyTorch", command, tmp_path / "log")


def test_a_full_disk_is_told_apart(tmp_path):
    script = "import sys; sys.exit('OSError: [Errno 28] No space left on device')"
    with pytest.raises(host_setup.SetupError, match="The disk is full"):
        host_setup.run_step("Unpacking", [sys.executable, "-c", script], tmp_path / "log")


def test_an_interrupted_environment_is_made_anew(tmp_path, monkeypatch):
    """A killed set-up leaves an environment without the final marker; it must not be used."""
    left = tmp_path / "env" / "lib" / "half-installed"
    left.mkdir(parents=True)
    steps = []

    def record(what, command, log):
        steps.append(what)
        assert not left.exists(), "the broken environment was kept"

    monkeypatch.setattr(host_setup, "run_step", record)
    (tmp_path / "ComfyUI").mkdir()
    host_setup.make_environment(tmp_path, host_setup.HOST_VERSION, tmp_path / "log")
    assert steps[0] == "Making a private Python environment"


def test_two_set_ups_wait_for_each_other(tmp_path):
    script = (
        "import sys, time, pathlib; sys.path.insert(0, sys.argv[1]); import host_setup\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "with host_setup.locked(folder):\n"
        "    assert not (folder / 'busy').exists()\n"
        "    (folder / 'busy').touch(); time.sleep(0.5); (folder / 'busy').unlink()\n"
    )
    start = time.monotonic()
    arguments = [sys.executable, "-c", script, str(ROOT / "scripts"), str(tmp_path)]
    both = [subprocess.Popen(arguments, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(1200) for process in both] == [0, 0]
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x/cache"}, "/x/cache/refany3d"),
        ("darwin", {}, "Library/Caches/refany3d"),
        ("linux", {"REFANY3D_HOST_DIR": "/y/host"}, "/y/host"),
    ],
)
def test_cache_folders(monkeypatch, system, environment, expected):
    for name in ("XDG_CACHE_HOME", "REFANY3D_HOST_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_setup.sys, "platform", system)
    assert host_setup.cache_folder().as_posix().endswith(expected)


def test_each_set_of_pins_has_its_own_folder():
    hashes = {host_setup.pins_hash(version) for version in host_setup.SOURCES}
    assert len(hashes) == len(host_setup.SOURCES)
    assert host_setup.pins_hash("0.30.0") == host_setup.pins_hash("0.30.0")
