"""Lint, format check and types, as CI runs them: `python scripts/lint.py [--here]`.

`--here` takes the running Python, which needs the tools of tests/requirements.txt and the libraries
that the pack imports, but no ComfyUI; otherwise the private environment is set up.
"""

import subprocess
import sys
from pathlib import Path

from host_setup import ROOT, Host, main_with_setup

# scripts and benchmarks import refany3d_core as a package of its own, so they are checked apart.
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", "--no-namespace-packages", "__init__.py", "nodes", "refany3d_core"),
    ("mypy", "--explicit-package-bases", "scripts", "benchmarks"),
)


def lint(python: Path) -> int:
    if not ROOT.name.isidentifier():
        print(
            f"The types cannot be checked in a folder named {ROOT.name}: the pack is a Python "
            "package of that name, which has to be letters, digits and _; rename it to refany3d.",
            file=sys.stderr,
        )
        return 1
    return max(subprocess.run([python, "-m", *check], cwd=ROOT).returncode for check in CHECKS)


def main(host: Host) -> int:
    return lint(host.python)


if __name__ == "__main__":
    sys.exit(lint(Path(sys.executable)) if "--here" in sys.argv else main_with_setup(main))
