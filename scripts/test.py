"""Run the tests against the real ComfyUI: `python scripts/test.py [pytest arguments]`."""

import os
import subprocess
import sys

from host_setup import ROOT, Host, main_with_setup


def run_tests(host: Host) -> int:
    tools = [str(host.python), "-c", "import pytest, selenium"]
    if subprocess.run(tools, capture_output=True).returncode:
        requirements = ROOT / "tests" / "requirements.txt"
        print(
            f"{host.python} lacks the test tools. Install them with it: "
            f"{host.python} -m pip install -r {requirements}",
            file=sys.stderr,
        )
        return 1
    environment = {
        **os.environ,
        "REFANY3D_COMFYUI": str(host.comfyui),
        "REFANY3D_CACHE": str(host.folder),
    }
    command = [str(host.python), "-m", "pytest", *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main_with_setup(run_tests))
