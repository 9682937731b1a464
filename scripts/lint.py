"""Lint, format check and types, as CI runs them: `python scripts/lint.py [--here]`.

`--here` takes the running Python, which needs the tools of tests/requirements.txt and the libraries
that the pack imports, but no ComfyUI; otherwise the private environment is set up.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from host_setup import ROOT, Host, main_with_setup

PACKAGE = "refany3d"
# The pack is a package whose name is that of its folder, and a clone may lie in any folder: mypy
# sees it through a link of a name that is one. scripts and benchmarks import refany3d_core as a
# package of its own, so they are checked apart.
IN_PLACE = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", "--explicit-package-bases", "scripts", "benchmarks"),
)
PACK = ("mypy", "--no-namespace-packages", "--config-file", str(ROOT / "pyproject.toml"),
        "--cache-dir", str(ROOT / ".mypy_cache"),
        *(f"{PACKAGE}/{part}" for part in ("__init__.py", "nodes", "refany3d_core")))  # fmt: skip


def lint(python: Path) -> int:
    codes = [subprocess.run([python, "-m", *check], cwd=ROOT).returncode for check in IN_PLACE]
    with tempfile.TemporaryDirectory() as folder:
        try:
            (Path(folder) / PACKAGE).symlink_to(ROOT, target_is_directory=True)
        except OSError:  # Windows without the right to make links
            skip = shutil.ignore_patterns(".git", "tests", "output", "__pycache__")
            shutil.copytree(ROOT, Path(folder) / PACKAGE, ignore=skip)
        codes.append(subprocess.run([python, "-m", *PACK], cwd=folder).returncode)
    return max(codes)


def main(host: Host) -> int:
    return lint(host.python)


if __name__ == "__main__":
    sys.exit(lint(Path(sys.executable)) if "--here" in sys.argv else main_with_setup(main))
