"""The proof kit as a user runs it: the FLUX.1-dev of small widths and the bundled small model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refany3d_core.training.evaluation.proof import EXAMPLES, check_made_of, examples_of
from refany3d_core.training.evaluation.sheet import Row, comparison, mosaic

ROOT = Path(__file__).resolve().parents[2]
STANDIN = (
    "--set", "models.base=standin_flux.safetensors", "--set", "models.vae=standin_vae.safetensors",
    "--set", "models.text_type=sd3", "--adapters",
    "standin_default.safetensors,standin_coord.safetensors,standin_domain_embedder.pth",
)  # fmt: skip
SMALLER = ("--resolution", 64, "--views", 2, "--steps", 2)


@pytest.fixture(scope="module")
def base(tmp_path_factory, standin_models) -> Path:
    """A base directory of ComfyUI with the stand-in models, the text encoder by FLUX's names."""
    folder = tmp_path_factory.mktemp("base")
    for file in standin_models.rglob("*.*"):
        target = folder / "models" / file.relative_to(standin_models)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    encoders = folder / "models" / "text_encoders"
    for name in ("clip_l", "t5xxl_fp16"):
        (encoders / f"{name}.safetensors").symlink_to(encoders / "standin_clip_l.safetensors")
    return folder


def test_flux_and_the_published_files_make_the_sheet_and_go_on(tools, base, tmp_path):
    folder = tmp_path / "proof"
    meshes = [part for name in ("mushroom", "snowman")
              for part in ("--mesh", ROOT / "assets" / f"{name}.glb", f"A toy {name}")]  # fmt: skip
    proof = ("evaluate", "--proof", "--output", folder, "--base-directory", base, *STANDIN,
             *SMALLER, "--matches", "--only-mesh", *meshes)  # fmt: skip
    first = tools.run(*proof)
    assert first.returncode == 0, first.stderr
    assert "2 of 2 pictures are to be made" in first.stdout
    report = json.loads((folder / "report.json").read_text())
    assert [row["prompt"] for row in report["examples"]] == ["A toy mushroom", "A toy snowman"]
    assert report["settings"]["models"]["base"] == "standin_flux.safetensors"
    assert set(report["summary"]) == {"measured", "another mesh"}
    assert "matches" in report["summary"]["measured"]
    text = (folder / "report.md").read_text()
    assert "seed 0, 2 steps, image guidance 2, euler, 64 px, 2 views" in text
    assert "| 01_snowman | " in text and "![" in text
    with Image.open(folder / "sheet.png") as image:
        assert image.height > 2 * 384

    # cut off while one was made: that one alone is made again, with the same bytes
    picture = folder / "01_snowman" / "picture.png"
    made = picture.read_bytes()
    picture.unlink()
    again = tools.run(*proof)
    assert again.returncode == 0 and "1 of 2 pictures are to be made" in again.stdout, again.stderr
    assert picture.read_bytes() == made
    one, two = examples_of([tuple(meshes[1:3]), tuple(meshes[4:])], True, folder)
    assert one.done and not replace(two, prompt="A real snowman").done
    settings = json.loads((folder / "settings.json").read_text())
    check_made_of(folder, settings)
    with pytest.raises(ValueError, match=r"pictures of other settings \(seed\)"):
        check_made_of(folder, settings | {"seed": 1})


def test_the_fixed_list_is_of_bundled_meshes(tmp_path):
    own = (str(ROOT / "assets" / "spot.glb"), "A cow")
    examples = examples_of([own], False, tmp_path)
    assert len(examples) == len(EXAMPLES) + 1 and examples[-1].prompt == "A cow"
    assert all(example.mesh.is_file() for example in examples)
    assert len({example.folder for example in examples}) == len(examples)


def test_the_small_model_makes_a_sheet_of_a_users_mesh(tools, tmp_path):
    mesh, prompt = ROOT / "assets" / "mushroom.glb", "a mushroom on grass in front of a sunset sky"
    small = ("evaluate", "--proof", "--model", ROOT / "demo_model", "--output", tmp_path / "p",
             "--only-mesh", "--resolution", 96, "--views", 4, "--samplers", "lcm", "--steps", 4,
             "--isolated")  # fmt: skip
    done = tools.run(*small, "--mesh", mesh, prompt)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "p" / "report.json").read_text())["examples"]
    assert row["prompt"] == prompt and row["subject_iou"] > 0.5


def test_a_mesh_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no mesh no.glb"):
        examples_of([(str(tmp_path / "no.glb"), "A cow")], True, tmp_path)
    with pytest.raises(ValueError, match="add --mesh FILE PROMPT"):
        examples_of([], True, tmp_path)


def test_the_mosaic_shows_the_views_in_rows():
    views = np.stack([np.full((2, 3, 3), i / 8) for i in range(5)])
    picture = mosaic(views)
    assert picture.shape == (4, 12, 3)
    assert picture[0, 3, 0] == 1 / 8 and picture[2, 0, 0] == 4 / 8 and picture[3, 11, 0] == 1
    assert mosaic(views[:2]).shape == (2, 6, 3)


def test_a_row_without_a_camera_is_grey_where_the_render_would_be():
    black = np.zeros((8, 8, 3))
    rows = [Row("one", np.ones((2, 8, 8, 3)), black, black, render) for render in (black, None)]
    sheet = np.asarray(comparison(rows))
    top, below = sheet[200, -200], sheet[200 + len(sheet) // 2, -200]
    assert top.tolist() == [0, 0, 0] and below.tolist() == [200, 200, 200]
