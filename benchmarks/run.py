"""Run a benchmark in the environment of the tests: `python benchmarks/run.py speed [options]`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from host_setup import Host, main_with_setup  # noqa: E402


def run_benchmark(host: Host) -> int:
    if len(sys.argv) < 2:
        print("Which benchmark? One of the modules in benchmarks/, such as: speed")
        return 2
    environment = {**os.environ, "REFANY3D_COMFYUI": str(host.comfyui)}
    command = [str(host.python), "-m", f"benchmarks.{sys.argv[1]}", *sys.argv[2:]]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main_with_setup(run_benchmark))
