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


@pytest.mark.server
def test_a_mesh_of_the_users_comes_with_its_textures_and_its_warnings(tmp_path):
    """An OBJ with MTL and texture, and a second texture that is not there."""
    folder = tmp_path / "my things"
    folder.mkdir()
    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "red.png")
    (folder / "skin.mtl").write_text("newmtl a\nmap_Kd red.png\nnewmtl b\nmap_Kd lost.png\n")
    (folder / "Toy 1.obj").write_text(
        "mtllib skin.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\n"
        "usemtl a\nf 1/1 2/2 3/3\nf 1/1 2/2 4/3\nf 1/1 3/2 4/3\nusemtl b\nf 2/1 3/2 4/3\n"
    )
    result = run_demo(tmp_path, str(folder / "Toy 1.obj"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("The views of your mesh") < result.stdout.index("Pictures:")
    assert "lost.png" in result.stdout
    named = [Path(line.strip()) for line in re.findall(r"^  \S.*\.png$", result.stdout, re.M)]
    try:
        views = [np.asarray(Image.open(f).convert("RGB")) for f in named if "demo_views" in f.name]
        assert any((view == (255, 0, 0)).all(-1).any() for view in views)
    finally:
        for file in named:
            file.unlink(missing_ok=True)


def test_a_mesh_that_is_not_there(tmp_path):
    result = run_demo(tmp_path, "no_such_mesh.glb")
    assert result.returncode == 1
    assert "There is no file no_such_mesh.glb" in result.stderr
    assert "Traceback" not in result.stderr
