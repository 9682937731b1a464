"""A training step at the small model's shape: this trainer against an older one, in one run.

    python benchmarks/training_step.py --old FOLDER     (a worktree of commit 1480dcc)

Each trainer steps in a process of its own, in turns, on one thread. CPU seconds a step are
compared, which other load on the machine moves little. Run it with ComfyUI's Python and
COMFYUI_PATH set.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS, ROUNDS = 4, 3

SHAPE = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
hidden, doubles, singles, text_width, length, side, views, rank = 256, 2, 4, 128, 24, 6, 4, 16
batch, copies, bfloat16 = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "bf16"
"""

OLD = (
    SHAPE
    + """
from refany3d_core.training.adapters import Adapters
from refany3d_core.training.config import RefAny3DConfig
from refany3d_core.training.latents import TripletTokens
from refany3d_core.training.objectives import RefAny3DObjective
from refany3d_core.training.text import TextEncoder
from refany3d_core.training.transformer import Flux, FluxShape
model = Flux(FluxShape(hidden, doubles, singles, text_width, text_width)); model.initialise()
config = RefAny3DConfig(batch=batch, rank=rank, shared_targets=copies, train_base=True)
data = TripletTokens(
    torch.randn(8, 2, views, side * side, 64), torch.randn(8, 12, 2, side * side, 64),
    torch.randint(3, 30, (8, 12, length)), torch.randint(3, 30, (8, length)),
    torch.zeros(length, dtype=torch.int64), torch.randn(side * side, 64),
)
adapters = Adapters(model.shape, rank)
text = TextEncoder(40, text_width)
objective = RefAny3DObjective(config, model, text, adapters, data, (side, side))
def step(i):
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss, _ = objective(i)
    loss.backward()
    for p in [*model.parameters(), *adapters.parameters()]:
        p.grad = None
"""
)

NEW = (
    SHAPE
    + """
from refany3d_core.training.find_host import prepare_host
prepare_host()
from refany3d_core.host.train import TrainingForward, differentiable
from refany3d_core.host.trainable import TrainableAdapters
from refany3d_core.training.config import BaseConfig
from refany3d_core.training.objectives import Batch, refany3d_loss
from refany3d_core.training.small.stages import new_flux
model = new_flux(BaseConfig(
    hidden=hidden, double_blocks=doubles, single_blocks=singles, text_width=text_width
))
adapters = TrainableAdapters(model, rank)
forward = TrainingForward(model, adapters)
def step(i):
    assets = batch // copies if copies else batch
    data = Batch(
        torch.randn(batch, 2, 16, 2 * side, 2 * side),
        torch.randn(assets, 2, views, 16, 2 * side, 2 * side),
        torch.randn(batch, length, text_width), torch.zeros(batch, text_width), torch.rand(batch),
        torch.randn(batch, 2, 16, 2 * side, 2 * side),
    )
    with differentiable(model):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss, _ = refany3d_loss(forward, data, torch.float32)
        loss.backward()
    for p in [*model.parameters(), *adapters.parameters()]:
        p.grad = None
"""
)

TIME = """
step(0)
start = time.process_time()
for i in range(int(sys.argv[5])):
    step(i)
print((time.process_time() - start) / int(sys.argv[5]))
"""


def seconds(code: str, tree: Path, *arguments: object) -> float:
    """CPU seconds of a step in a process of its own."""
    command = [sys.executable, "-c", code + TIME, tree, *arguments, STEPS]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True, cwd="/"
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, required=True, help="worktree of commit 1480dcc")
    parser.add_argument("--batch", type=int, default=48)
    args = parser.parse_args()
    for copies in (6, 0):
        for kind in ("bf16", "float32"):
            batch = args.batch if copies else args.batch // 3
            pairs = [
                (
                    seconds(OLD, args.old, batch, copies, kind),
                    seconds(NEW, ROOT, batch, copies, kind),
                )
                for _ in range(ROUNDS)
            ]
            old, new = (statistics.median(x) for x in zip(*pairs))
            ratio = statistics.median(b / a for a, b in pairs)
            print(
                f"{kind}, {copies or 'no'} shared targets, batch {batch}: old {old:.2f} s "
                f"({batch / old:.1f} samples/s), new {new:.2f} s ({batch / new:.1f}), "
                f"ratio {ratio:.2f} ({min(b / a for a, b in pairs):.2f} to "
                f"{max(b / a for a, b in pairs):.2f})"
            )


if __name__ == "__main__":
    main()
