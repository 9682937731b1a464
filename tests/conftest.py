"""The real ComfyUI for the tests that need it: in this process on the CPU, and as a server.

`scripts/test.py` sets REFANY3D_COMFYUI (the host's folder) and REFANY3D_CACHE (a folder that
outlives the run, for the stand-in models); `scripts/test.py --quick` sets neither, and runs what
needs no host. REFANY3D_FRONTEND is a folder of another build of ComfyUI's page, to test that one:
`static` of the package comfyui-frontend-package.
"""

import asyncio
import importlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"

# What a test file that needs the host has in it: the host's modules, or a fixture of the host.
_NEEDS_HOST = re.compile(
    r"^\s*(from|import) (comfy|nodes|folder_paths|execution|latent_preview|server)\b"
    r"|refany3d_core(\.| import )(host|training)"
    r"|def \w+\(([^)]*[\s,])?(pack|server|make_server|standin_models|host_base|golden)\b"
    r"|REFANY3D_COMFYUI",
    re.M,
)
COMFYUI = Path(os.environ.get("REFANY3D_COMFYUI", ""))
CACHE = Path(os.environ.get("REFANY3D_CACHE") or tempfile.gettempdir()) / "test-cache"
QUICK = "REFANY3D_COMFYUI" not in os.environ
_host_base: list[Path] = []


def start_host() -> Path:
    """Put the host on sys.path, set it to the CPU and give it folders of its own, once.

    The project's own folder must not be in front: its package `nodes` has the name of the host's
    module. It is appended, so that tests can import `refany3d_core`.
    """
    if _host_base:
        return _host_base[0]
    base = Path(tempfile.mkdtemp(prefix="refany3d-host-"))
    for name in ("models", "input/3d", "output", "temp", "user", "custom_nodes"):
        (base / name).mkdir(parents=True)
    sys.path.insert(0, str(COMFYUI))

    from comfy.cli_args import args  # parses no command line unless asked to

    args.cpu = True
    args.use_pytorch_cross_attention = True
    args.base_directory = str(base)
    # As main.py does: older hosts' `nodes` puts comfy/ in front, where `utils` is another module.
    importlib.import_module("utils.extra_config")
    import nodes  # noqa: F401  the host's, before anything else can take the name

    _host_base.append(base)
    return base


sys.path[:] = [entry for entry in sys.path if entry not in (str(ROOT), "")]
sys.path += [str(ROOT), str(ROOT / "scripts")]


class _EntryPoint:
    """The project's own folder is no package of tests: its __init__.py is ComfyUI's entry point."""

    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_EntryPoint())


def needs_host(file: Path) -> bool:
    return bool(_NEEDS_HOST.search(file.read_text(encoding="utf-8")))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without a host (`scripts/test.py --quick`), only the files that need none; and of a folder
    that has no such file, not even its conftest.py."""
    if not QUICK:
        return None
    if collection_path.is_dir():
        files = list(collection_path.rglob("test_*.py"))
        return (bool(files) and all(map(needs_host, files))) or None
    return (collection_path.name.startswith("test_") and needs_host(collection_path)) or None


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """The host starts before the first file that needs it is imported, and not for others."""
    if not QUICK and needs_host(module_path):
        start_host()


def pytest_unconfigure() -> None:
    for base in _host_base:
        shutil.rmtree(base, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: the server and the browser come last."""
    items.sort(key=lambda item: [("server" in item.keywords), ("browser" in item.keywords)])


@pytest.fixture(scope="session")
def host_base() -> Path:
    """The in-process host's base folder (models, input, output, ...)."""
    return start_host()


@pytest.fixture(scope="session")
def pack() -> SimpleNamespace:
    """This pack, loaded by ComfyUI's own loader.

    `pack.nodes`: node classes by id; `pack.core(name)`: the pack's own copy of a core module, e.g.
    `pack.core("reference")`, whose classes are the ones that the nodes use.
    """
    import nodes

    before = set(nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(nodes.load_custom_node(str(ROOT))), "ComfyUI could not load the pack"
    added = {
        key: value for key, value in nodes.NODE_CLASS_MAPPINGS.items()
        if key not in before and key.startswith("RefAny3D_")
    }  # fmt: skip
    package = str(ROOT).replace(".", "_x_")

    def core(name: str):
        return importlib.import_module(f"{package}.refany3d_core.{name}")

    return SimpleNamespace(nodes=added, core=core, package=sys.modules[package])


@pytest.fixture(scope="session")
def standin_models() -> Path:
    """A models folder with the stand-ins, made once for each content of their script."""
    import hashlib

    import standins

    digest = hashlib.sha256(Path(standins.__file__).read_bytes()).hexdigest()[:12]
    folder = CACHE / f"standins-{digest}"
    for old in CACHE.glob("standins-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    standins.write_standins(folder)
    return folder


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where tests leave files for people to look at (not committed)."""
    folder = ROOT / "test-artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, standin_models: Path, artifacts: Path):
    """The real server, started once, with the stand-in models and the test meshes."""
    from comfy_server import ComfyServer
    from host_setup import Host

    base = tmp_path_factory.mktemp("server")
    (base / "models").mkdir()
    for file in standin_models.rglob("*.*"):
        target = base / "models" / file.relative_to(standin_models)
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file, target)
    (base / "input" / "3d").mkdir(parents=True)
    link_or_copy(ROOT / "assets" / "spot.glb", base / "input" / "3d" / "spot.glb")
    host = Host(Path(sys.executable), COMFYUI, CACHE)
    arguments = ("--cpu", "--use-pytorch-cross-attention")
    if frontend := os.environ.get("REFANY3D_FRONTEND"):
        arguments += ("--front-end-root", frontend)
    with ComfyServer(host, base, arguments) as running:
        yield running
    shutil.copyfile(running.log_file, artifacts / "server.log")


def link_or_copy(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@pytest.fixture(scope="session")
def signpost():
    """A trimesh with unmistakable axes: red arm along +X, green along +Y, blue along +Z, of lengths
    3, 2 and 1, on a grey block."""
    import trimesh

    parts = [trimesh.creation.box((0.6, 0.6, 0.6))]
    colors = [(128, 128, 128, 255)]
    for axis, length in enumerate((3.0, 2.0, 1.0)):
        size, middle = [0.3] * 3, [0.0] * 3
        size[axis], middle[axis] = length, length / 2 + 0.3
        arm = trimesh.creation.box(size)
        arm.apply_translation(middle)
        parts.append(arm)
        colors.append(tuple(255 if i == axis else 0 for i in range(3)) + (255,))
    for part, color in zip(parts, colors):
        part.visual.face_colors = color
    return trimesh.util.concatenate(parts)
