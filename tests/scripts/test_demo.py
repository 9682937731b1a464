"""The demo command, from the outside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def run_demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "COMFYUI_PATH": os.environ["REFANY3D_COMFYUI"],
        "REFANY3D_HOST_DIR": str(tmp_path),
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


@pytest.mark.server
def test_the_demo_leaves_the_pictures_that_it_names(tmp_path):
    result = run_demo(tmp_path)
    assert result.returncode == 0, result.stderr
    named = [Path(line.strip()) for line in re.findall(r"^  \S.*\.png$", result.stdout, re.M)]
    try:
        kinds = {re.sub(r"(_\d+_)?\.png$", "", file.name) for file in named}
        assert kinds == {
            "demo", "demo_point_map", "demo_views", "demo_view_point_maps", "contact_sheet",
        }  # fmt: skip
        assert all(ROOT / "output" in file.parents for file in named)
        pictures = {file: np.asarray(Image.open(file).convert("RGB")) for file in named}
        assert len(pictures) == 2 + 2 * 4 + 1
        views = [p for file, p in pictures.items() if file.name.startswith("demo_views")]
        # The mushroom: white around, and neither empty nor the same from two sides.
        assert all((view[0] == 255).all() and view.std() > 10 for view in views)
        assert not np.array_equal(views[0], views[1])
        sheet = next(p for file, p in pictures.items() if file.name == "contact_sheet.png")
        assert sheet.shape == (2 * (192 + 12) + 384, 4 * 192 + 3 * 12, 3)
    finally:
        for file in named:
            file.unlink(missing_ok=True)


def test_a_mesh_that_is_not_there(tmp_path):
    result = run_demo(tmp_path, "no_such_mesh.glb")
    assert result.returncode == 1
    assert "There is no file no_such_mesh.glb" in result.stderr
    assert "Traceback" not in result.stderr
