"""Run ruff with the project's settings: `python scripts/lint.py [ruff arguments]`."""

import subprocess
import sys

from host_setup import ROOT, Host, main_with_setup


def lint(host: Host) -> int:
    command = [str(host.python), "-m", "ruff", "check", *(sys.argv[1:] or ["."])]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main_with_setup(lint))
