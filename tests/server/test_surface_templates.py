"""The templates of the mesh's own surface through the real server, with fewer steps."""

import numpy as np
import pytest
from PIL import Image

from graph import set_widgets, template, to_api
from refany3d_core.asset import load_asset

pytestmark = pytest.mark.server

FEW = {"RefAny3D_Sampler": {"steps": 4}}


def files_of(server, name: str, changes: dict) -> dict:
    graph = set_widgets(to_api(template(name), server.get("/object_info")), changes)
    return {file.name.split("_0")[0] + file.suffix: file for file in
            sorted(server.files(server.run(graph)), reverse=True)}  # fmt: skip


def test_detail_goes_on_the_subject_only(server):
    files = files_of(server, "surface detail after an upscaler", FEW)
    before, after = (
        np.asarray(Image.open(files[f"{name}.png"]).convert("RGB")).astype(int)
        for name in ("before", "detail")
    )
    assert before.shape == after.shape == (384, 384, 3)
    changed = np.abs(before - after).max(-1) > 8
    assert 0.02 < changed.mean() < 0.5
    assert np.array_equal(before[:20], after[:20])  # the sky


def test_pictures_become_the_texture(server):
    few = {**FEW, "RefAny3D_PaintMesh": {"texture_size": 256}}
    server.run(set_widgets(to_api(template("new texture, GLB"), server.get("/object_info")), few))
    file = max((server.base / "output").rglob("painted*.glb"), key=lambda f: f.stat().st_mtime)
    painted = load_asset(file)
    (part,) = painted.parts
    assert part.material.texture.pixels.shape == (256, 256, 4)
    old = load_asset(server.base / "input" / "3d" / "spot.glb")
    np.testing.assert_allclose(painted.vertices, old.vertices, atol=1e-5)
    colors = part.material.texture.pixels[..., :3]
    assert colors.reshape(-1, 3).std(0).max() > 15
