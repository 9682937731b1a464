"""Several processes take the same step on the mean of their gradients."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys, torch
from pathlib import Path
from refany3d_core.training.config import StageConfig
from refany3d_core.training.loop import Loop
from refany3d_core.training.parallel import Workers

workers = Workers(torch.device("cpu"))
parameter = torch.nn.Parameter(torch.zeros(3))
parameter.grad = torch.full((3,), 1.0 + workers.index)
seconds = workers.average([parameter], 10.0 * workers.index)
torch.manual_seed(0)
model = torch.nn.Linear(4, 4)
drawn = []

def step(index):
    x = torch.randn(8, 4)
    drawn.append(float(x.sum()))
    return model(x).square().mean(), {}

config = StageConfig(seconds=1.5, steps=10**6, log_every=50, checkpoint_seconds=0.3)
loop = Loop("line", config, {"model": model}, step, Path(sys.argv[1]), workers=workers)
loop.run()
line = [workers.index, parameter.grad.tolist(), seconds, loop.done, model.weight.sum().item(),
        drawn[0]]
Path(sys.argv[1], f"{workers.index}.txt").write_text(repr(line))
"""


def test_two_processes_end_in_the_same_step_with_the_same_model(tmp_path):
    pytest.importorskip("accelerate")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
        "--master_port", "29517", script, tmp_path,
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    first, second = (ast.literal_eval((tmp_path / f"{i}.txt").read_text()) for i in (0, 1))
    assert first[1] == second[1] == [1.5] * 3 and first[2] == second[2] == 5.0
    assert first[3] == second[3] > 10 and first[4] == second[4]
    assert first[5] != second[5]
    assert (tmp_path / "line.resume.safetensors").is_file()
    assert not list(tmp_path.glob("*.part"))
