"""What ComfyUI loads of the pack at its start: nothing of training or collect."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio, sys
root, comfyui = sys.argv[1:]
sys.path[:] = [comfyui, *(entry for entry in sys.path if entry not in ("", root))]
from comfy.cli_args import args
args.cpu = True
import nodes
assert asyncio.run(nodes.load_custom_node(root))
print("LOADED", *sorted(name for name in sys.modules if "refany3d_core" in name))
"""


def test_training_and_collect_are_not_loaded_at_start():
    comfyui = os.environ["REFANY3D_COMFYUI"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ROOT), comfyui], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.partition("LOADED")[2].split()
    assert any(name.endswith("refany3d_core.host.patch") for name in loaded)
    heavy = (".refany3d_core.training", ".refany3d_core.collect")
    assert [name for name in loaded if any(part in name for part in heavy)] == []
