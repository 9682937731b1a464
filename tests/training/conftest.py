"""What the tests of training share: commands as a user runs them, and the golden base."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden"


def command(*arguments: object, processes: int = 1) -> list[str]:
    """A command line of the trainer, by torchrun where several processes are wanted."""
    launch = ["-m"]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", f"{processes}"]
        launch += ["-m"]
    return [sys.executable, *launch, "refany3d_core.training", *map(str, arguments)]


def environment() -> dict[str, str]:
    """COMFYUI_PATH as a user sets it, and one thread a process."""
    return {
        **os.environ, "COMFYUI_PATH": os.environ["REFANY3D_COMFYUI"], "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def run(*arguments: object, processes: int = 1, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a command of the trainer to its end."""
    return subprocess.run(
        command(*arguments, processes=processes), cwd=cwd, env=environment(),
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip


@pytest.fixture(scope="session")
def transformer():
    """The golden base as the host's Flux, float32."""
    from refany3d_core.training.verify import load_transformer

    return load_transformer(GOLDEN)


def random_batch(samples: int, assets: int, views: int = 2, seed: int = 0):
    """A batch at the golden sizes."""
    from refany3d_core.training.objectives import Batch

    torch.manual_seed(seed)
    return Batch(
        torch.randn(samples, 2, 16, 16, 16),
        torch.randn(assets, 2, views, 16, 16, 16),
        torch.randn(samples, 12, 64),
        torch.randn(1, 32).expand(samples, -1).clone(),
        torch.rand(samples),
        torch.randn(samples, 2, 16, 16, 16),
    )


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """The functions above, for tests."""
    return SimpleNamespace(
        command=command, environment=environment, run=run, random_batch=random_batch
    )
