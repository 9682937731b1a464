"""What the tests of mesh files share: the glTF maker, and an eye on what loading does."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

_LAUNCHES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn"}
_seen: list[str] = []
_folder: list[Path] = []


def _audit(event: str, arguments: tuple) -> None:
    if not _folder:
        return
    if event in _LAUNCHES or event.startswith("socket."):
        _seen.append(f"{event} {arguments[:2]}")
    elif event == "open" and isinstance(arguments[0], str):
        path = Path(arguments[0])
        writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writes or (path.name.startswith("secret") and not path.is_relative_to(_folder[0])):
            _seen.append(f"open {path}")


sys.addaudithook(_audit)  # cannot be taken away again, so it idles outside of `watched`


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[list[str]]:
    """What the test launches, connects to, writes, or reads of files named secret* outside of
    tmp_path / "meshes"; must be empty at the end."""
    folder = tmp_path / "meshes"
    folder.mkdir(exist_ok=True)
    _seen.clear()
    _folder[:] = [folder]
    yield _seen
    _folder.clear()
    assert _seen == []


@pytest.fixture(scope="session")
def mesh_folder() -> Path:
    return Path(__file__).resolve().parents[1] / "data" / "meshes"
