"""FBX files against what other programs say of them."""

import random
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from refany3d_core.asset import Moment, load_asset, readable_formats, render_reference_views

DATA = Path(__file__).resolve().parents[1] / "data" / "meshes" / "fbx"
pytestmark = pytest.mark.skipif(
    find_spec("ufbx") is None, reason="FBX needs ufbx, which is not installed"
)
# ufbx's own tests have these files, and what Blender and 3ds Max show at a frame as OBJ
SAUSAGE = "blender_279_sausage_7400_binary"
POSES = {
    "a skin": (SAUSAGE, "Skeleton|Spin", 15 / 24, "sausage_spin_15", "y"),
    "its number": (SAUSAGE, "1", 15 / 24, "sausage_spin_15", "y"),
    "shape keys": ("blender440_shape_weight_anim_7400_binary", "0", 15 / 24, "weight_anim_15", "y"),
    "nodes, Z up": ("max2009_cube_anim_6100_binary", "0", 15 / 30, "cube_anim_15", "z"),
}


def distance(first, second) -> float:
    """The largest distance from a used vertex of one to the nearest one of the other."""
    from scipy.spatial import cKDTree

    a, b = (asset.vertices[np.unique(asset.faces)] for asset in (first, second))
    return max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max())


@pytest.mark.parametrize("name", POSES)
def test_poses(name: str) -> None:
    file, animation, time, frame, up = POSES[name]
    truth = load_asset(next(DATA.glob(f"*{frame}.obj")), up)
    posed = load_asset(DATA / f"{file}.fbx", moment=Moment(animation, time))
    assert distance(posed, truth) < 1e-4
    if up == "y":
        rest = load_asset(DATA / f"{file}.fbx")
        assert distance(rest, truth) > 0.05
        assert any("rest pose" in warning for warning in rest.warnings)


def test_an_animation_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no animation 'Run'.*0: Skeleton|Base, 1: Skeleton|Spin"):
        load_asset(DATA / "blender_279_sausage_7400_binary.fbx", moment=Moment("Run"))


def test_textures_inside_and_colours() -> None:
    textured = load_asset(DATA / "blender_293_embedded_textures_7400_binary.fbx")
    assert textured.warnings == [] and textured.parts[0].material.texture is not None
    colored = load_asset(DATA / "blender_279_color_sets_7400_binary.fbx")
    seen = render_reference_views(colored, 4, 64, pitch=30, even_azimuths=True)
    assert seen.colors[seen.masks > 0].std(0).min() > 0.2


def test_in_the_picker() -> None:
    assert "fbx" in readable_formats()


def test_broken_files_are_refused_in_words(tmp_path: Path) -> None:
    data = (DATA / "blender_279_color_sets_7400_binary.fbx").read_bytes()
    for seed in range(16):
        draw = random.Random(seed)
        out = bytearray(data)
        for _ in range(draw.choice((1, 5, 50))):
            out[draw.randrange(len(out))] = draw.randrange(256)
        path = tmp_path / "a.fbx"
        path.write_bytes(out[: draw.randrange(len(out))] if seed % 4 == 0 else out)
        try:
            load_asset(path)
        except ValueError as error:
            assert str(error).startswith("a.fbx: ") and len(str(error).split()) > 6


def test_arrays_that_unpack_to_much_are_refused(tmp_path: Path) -> None:
    """A node with an array of 4 GB, deflated to nothing."""
    name = b"Vertices"
    values = b"d" + struct.pack("<III", 1 << 29, 1, 8) + b"\0" * 8
    start = 27 + 13 + len(name)
    record = struct.pack("<IIIB", start + len(values), 1, len(values), len(name)) + name + values
    path = tmp_path / "a.fbx"
    path.write_bytes(
        b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", 7400) + record + b"\0" * 200
    )
    with pytest.raises(ValueError, match="unpack to more than 2 GiB"):
        load_asset(path)


def test_the_fingerprint_follows_textures_beside(tmp_path: Path) -> None:
    from refany3d_core.asset.fingerprint import fingerprint

    path = tmp_path / "a.fbx"
    name = b"wood.png"
    texts = [b'; FBX\nRelativeFilename: "wood.png"\n']
    texts.append(b"Kaydara FBX Binary  \0RelativeFilenameS" + struct.pack("<I", len(name)) + name)
    for text in texts:
        path.write_bytes(text)
        (tmp_path / "wood.png").write_bytes(b"a")
        first = fingerprint(path)
        (tmp_path / "wood.png").write_bytes(b"b")
        assert fingerprint(path) != first
