"""Detector, segmenters, embeddings, depth: real loading code, small random networks."""

import sys
from pathlib import Path

import networks
import numpy as np
import pytest
import scenes
from PIL import Image

from refany3d_core.asset import Camera, load_asset
from refany3d_core.asset.cameras import orbit_pose
from refany3d_core.collect.boxes import DetectedBoxes, one_object
from refany3d_core.collect.config import (
    BoxesConfig,
    Config,
    FiltersConfig,
    MasksConfig,
    PoseConfig,
    SourceConfig,
)
from refany3d_core.collect.filters import Filters
from refany3d_core.collect.foundationpose import camera_to_world, half_size
from refany3d_core.collect.masks import SamMasks
from refany3d_core.collect.store import Record, Refused, Result, keys


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torchvision", reason="the picture processors of transformers need it")
    folder = tmp_path_factory.mktemp("nets")
    networks.save_groundingdino(folder / "detector")
    networks.save_groundingdino(folder / "one_query", queries=1)
    networks.save_sam(folder / "sam")
    networks.save_sam2(folder / "sam2")
    networks.save_sam3(folder / "sam3")
    networks.save_clip(folder / "clip")
    networks.save_dinov2(folder / "dinov2")
    networks.save_depth(folder / "depth")
    return folder


def config(nets: Path, **tables) -> Config:
    return Config(source=SourceConfig("none"), folder=nets, **tables)


def record_of(pictures: Path, tmp_path: Path) -> Record:
    """A record that was taken in and has a box."""
    record = Record(tmp_path, "cow-1")
    for stage, picture in (
        ("source", {"size": [256, 256]}),
        ("boxes", {"box": [40, 60, 200, 220]}),
    ):
        folder = record.begin(stage)
        if stage == "source":
            Image.open(pictures / "00.png").save(folder / "0.png")
        record.commit(Result(stage, "s", "done", pictures=[picture], data={"item": "Red cow."}))
    return record


def test_the_detector_gives_boxes_in_pixels_best_first(nets: Path, pictures: Path):
    settings = BoxesConfig(model="detector", box_threshold=0.0, text_threshold=0.0)
    with Image.open(pictures / "00.png") as image:
        wide = image.resize((300, 200))
    boxes, scores = DetectedBoxes(config(nets, boxes=settings)).detect(wide, "Red cow. milk")
    assert boxes.shape == (20, 4) and (np.diff(scores) <= 0).all()
    assert (boxes >= 0).all() and (boxes <= [300, 200, 300, 200]).all()
    assert boxes[:, 2].max() > 200  # pixels of the picture, not of the network's input


def test_one_object_of_overlapping_parts_and_a_refusal_of_two_or_none():
    parts = np.array([[10, 10, 40, 60], [12, 8, 90, 100], [30, 30, 50, 50.0]])
    assert one_object(parts, np.array([0.9, 0.8, 0.4]), "cow") == 1
    two = np.array([[10, 10, 40, 60], [60, 10, 90, 60.0]])
    with pytest.raises(Refused, match="2 objects found for 'cow'.*0.90, 0.80"):
        one_object(two, np.array([0.9, 0.8]), "cow")
    with pytest.raises(Refused, match="no object found for 'cow'"):
        one_object(np.zeros((0, 4)), np.zeros(0), "cow")
    with pytest.raises(Refused, match="NaN"):
        one_object(parts * np.nan, np.ones(3), "cow")


@pytest.mark.parametrize("model", ["sam", "sam2", "sam3"])
def test_segmenters_give_a_mask_of_the_pictures_size(
    nets: Path, pictures: Path, tmp_path: Path, model: str
):
    stage = SamMasks(config(nets, masks=MasksConfig(model=model)))
    try:
        mask = stage.find(record_of(pictures, tmp_path), 0)
    except Refused as refusal:  # random weights of SAM 3 may be sure that there is nothing
        assert model == "sam3" and "no object found for 'Red cow.'" in str(refusal)
        return
    assert mask.shape == (256, 256) and mask.dtype == bool


def test_sam_without_a_box_is_refused_and_other_networks_are_named(
    nets: Path, pictures: Path, tmp_path: Path
):
    record = record_of(pictures, tmp_path)
    del record.results["boxes"]
    with pytest.raises(Refused, match="SAM needs a box"):
        SamMasks(config(nets, masks=MasksConfig(model="sam2"))).find(record, 0)
    with pytest.raises(ValueError, match="'clip' is a clip, expected SAM"):
        SamMasks(config(nets, masks=MasksConfig(model="clip"))).find(record, 0)
    with pytest.raises(ValueError, match="'nowhere' is no checkpoint"):
        SamMasks(config(nets, masks=MasksConfig(model="nowhere"))).find(record, 0)


def test_similarities_are_one_for_the_same_picture(nets: Path):
    filters = Filters(config(nets, filters=FiltersConfig(clip="clip", dino="dinov2")))
    a, b = np.random.default_rng(0).random((2, 40, 50, 3))
    for name in ("clip", "dino"):
        assert filters.cosine(name, a, a) == pytest.approx(1, abs=1e-5)
        assert filters.cosine(name, a, b * 0.2) < 1 - 1e-5


CHAIN = """
[source]
path = "{path}"
mesh = "mesh"
camera = "camera"
limit = 3
[boxes]
model = "one_query"
box_threshold = 0.0
text_threshold = 0.0
[masks]
model = "{masks}"
min_area = 0.0
[asset]
method = "given"
[pose]
method = "given"
[filters]
min_iou = 0.0
min_colour_correlation = -1.0
clip = "clip"
min_clip = -1.0
dino = "dinov2"
min_dino = -1.0
"""


def test_the_chain_of_networks_runs_through(nets: Path, pictures: Path, collect):
    file = nets / "chain.toml"
    file.write_text(CHAIN.format(path=pictures.as_posix(), masks="sam2"))
    plan, work, counts = collect(file)
    assert counts == {"done": 3}
    for key in keys(work):
        record = Record(work, key)
        plan.state(record)
        assert set(record.picture("filters", 0)) == {"clip", "dino"}
        assert list(record.results) == ["source", "boxes", "masks", "asset", "pose", "filters"]


FOUNDATIONPOSE = """
import sys, json, pathlib, numpy as np, trimesh
from PIL import Image
mesh, scene, output = map(pathlib.Path, sys.argv[1:4])
assert Image.open(scene / "depth" / "0000000.png").mode.startswith("I")
assert Image.open(scene / "rgb" / "0000000.png").size == (256, 256)
assert np.loadtxt(scene / "cam_K.txt").shape == (3, 3)
size = np.ptp(trimesh.load(mesh).vertices, axis=0).max() / 2
camera = np.array(json.loads(sys.argv[4]))
camera[:3, 1:3] *= -1
matrix = np.linalg.inv(camera)
matrix[:3, 3] *= size
(output / "ob_in_cam").mkdir()
np.savetxt(output / "ob_in_cam" / "0000000.txt", matrix)
"""


def test_foundationpose_by_a_command_that_knows_the_pose(nets: Path, pictures: Path, collect):
    """The scene is written as its reader wants it, and its pose comes back as our camera."""
    import json

    row = json.loads((pictures / "metadata.jsonl").read_text().splitlines()[0])
    true = json.loads(row["camera"])["camera_to_world"]
    script = nets / "demo.py"
    script.write_text(FOUNDATIONPOSE)
    words = [sys.executable, str(script), "{mesh}", "{scene}", "{output}", json.dumps(true)]
    file = nets / "foundationpose.toml"
    text = scenes.GIVEN.format(path=pictures.as_posix(), pose="foundationpose")
    file.write_text(
        text.replace("[source]", "[source]\nlimit = 1")
        + f'depth_model = "depth"\ncommand = {json.dumps(words)}\n'
    )
    plan, work, counts = collect(file)
    assert counts == {"done": 1}
    record = Record(work, next(iter(keys(work))))
    plan.state(record)
    pose = record.picture("pose", 0)
    assert np.allclose(pose["camera_to_world"], true, atol=1e-4) and pose["iou"] > 0.99

    file.write_text(file.read_text().replace(json.dumps(str(script)), '"nowhere.py"'))
    _, _, counts = collect(file)
    assert counts == {"failed": 1}


def test_foundationposes_frames():
    asset = load_asset(scenes.MESHES["cow"])
    camera = Camera(orbit_pose(30, 20), 40, 64, 64)
    matrix = np.linalg.inv(camera.pose @ np.diag([1, -1, -1, 1]))
    matrix[:3, 3] *= 0.3
    assert np.allclose(camera_to_world(matrix, 0.3), camera.pose)
    assert PoseConfig().command == []
    mask = np.zeros((64, 64), bool)
    mask[10:50, 20:40] = True
    assert 0.5 < half_size(asset, mask, 0.05) / (40 * 0.05 / 2) < 1.5
