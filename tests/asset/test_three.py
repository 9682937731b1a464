"""Every glTF file of the tests as an independent renderer draws it: three.js in Chromium."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from made_gltf import MADE, make
from three_viewer import NoThree, Viewer, lacking, three_folder

from refany3d_core.asset import Camera, Moment, load_asset, render
from refany3d_core.asset.cameras import orbit_pose

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
MESHES = ROOT / "tests" / "data" / "meshes"
STORED = [
    ROOT / "assets" / "spot.glb",
    *sorted(MESHES.glob("*.gl*")),
    *sorted((ROOT / "tests" / "data" / "golden_render").glob("*.glb")),
]
PACKAGES = {
    "spot_draco.glb": "DracoPy",
    "spot_meshopt.glb": "meshopt",
    "spot_ktx2.glb": "opengl_basisu",
}
MIN_IOU, MAX_COLOR = 0.98, 0.02
SIZE = 192


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    cache = Path(os.environ.get("REFANY3D_CACHE") or tempfile.gettempdir()) / "test-cache"
    folder = tmp_path_factory.mktemp("three")
    reason = lacking()
    if reason is None:
        try:
            three = three_folder(cache)
        except NoThree as error:
            reason = str(error)
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(f"the comparison with three.js must run here: {reason}")
        pytest.skip(reason)
    viewer = Viewer(three, folder)
    yield viewer
    viewer.close()


def compare(viewer: Viewer, name: str, asset, animation=None, time: float = 0.0) -> tuple:
    """Intersection over union, and the mean and 99th percentile of the colour's difference where
    both draw, edges left out; over three views."""
    cameras = [
        Camera(orbit_pose(azimuth, pitch), 45, SIZE, SIZE)
        for azimuth, pitch in ((20, 10), (140, 25), (260, -15))
    ]
    colors, masks = viewer.draw(name, asset, cameras, animation, time)
    ours = [render(asset, camera, materials="gltf") for camera in cameras]
    mine = np.stack([view.mask for view in ours])
    union = np.count_nonzero(mine | masks)
    assert union > 500, "nothing is drawn"
    both = mine & masks
    inner = both.copy()
    for axis in (1, 2):
        inner &= np.roll(both, 1, axis) & np.roll(both, -1, axis)
    difference = np.abs(np.stack([view.color for view in ours]) - colors).max(-1)[inner]
    return np.count_nonzero(both) / union, difference.mean(), np.quantile(difference, 0.99)


def check(found: tuple, name: str) -> None:
    iou, mean, most = found
    print(f"{name}: IoU {iou:.4f}, colour mean {mean:.4f}, 99th percentile {most:.4f}")  # noqa: T201
    assert iou >= MIN_IOU and mean <= MAX_COLOR, (name, iou, mean)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name)
def test_stored(path: Path, viewer: Viewer) -> None:
    package = PACKAGES.get(path.name)
    if package and find_spec(package) is None:
        pytest.skip(f"it needs {package}, which is not installed")
    shutil.copy(path, viewer.server.files)
    check(compare(viewer, path.name, load_asset(path)), path.name)


@pytest.mark.parametrize("maker", MADE, ids=lambda maker: maker.__name__)
def test_made(maker, viewer: Viewer) -> None:
    path = make(maker, viewer.server.files)
    asset = load_asset(path)
    assert not [w for w in asset.warnings if "animations" not in w and "texture" not in w]
    check(compare(viewer, path.name, asset), path.name)


@pytest.mark.parametrize("time", [0.0, 0.4, 1.0, 1.7, 9.0])
def test_animated(time: float, viewer: Viewer) -> None:
    path = make(MADE[-1], viewer.server.files)
    rest, asset = load_asset(path), load_asset(path, moment=Moment("wave", time))
    found = compare(viewer, path.name, asset, 0, time)
    check(found, f"{path.name} at {time} s")
    if time:
        assert compare(viewer, path.name, rest, 0, time)[0] < MIN_IOU  # the pose matters
