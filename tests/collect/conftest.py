"""Pictures to collect, made once, and the small helpers that the tests share."""

import sys
from pathlib import Path

import huggingface_hub
import pytest

sys.path.append(str(Path(__file__).parent))

import scenes  # noqa: E402


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of four meshes, 256 px, with everything that a source can give."""
    folder = tmp_path_factory.mktemp("pictures")
    scenes.write_folder(folder)
    return folder


@pytest.fixture
def collect(tmp_path: Path):
    """`collect(config file)`: one run in this process; gives (plan, work folder, counts)."""
    from refany3d_core.collect.config import load_config
    from refany3d_core.collect.engine import Plan, run

    def call(config: Path, work: Path = tmp_path / "work"):
        plan = Plan(load_config(config))
        return plan, work, run(plan, work)

    return call


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # for processes; in this one it was read already
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
