"""What core's own generators hand on: textured MESHes, and gaussian splats."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refany3d_core.asset import load_asset, render_reference_views, to_asset

ROOT = Path(__file__).resolve().parents[2]


def same_picture(first: object, second: object, materials: str) -> None:
    a, b = (
        render_reference_views(mesh, 3, 64, pitch=10.0, materials=materials)
        for mesh in (first, second)
    )
    assert np.array_equal(a.masks, b.masks) and a.masks.any()
    assert np.abs(a.colors - b.colors).max() < 0.005
    np.testing.assert_allclose(a.point_maps, b.point_maps, atol=1e-5)


@pytest.mark.parametrize("kind", ["texture", "vertex colours", "colours with alpha"])
def test_a_core_mesh_looks_as_in_the_file_that_core_saves(tmp_path, kind) -> None:
    """Core's MESH as its nodes pack it, against the GLB of core's own Save node."""
    save = pytest.importorskip("comfy_extras.nodes_save_3d")
    part = load_asset(ROOT / "assets" / "spot.glb").parts[0]
    vertices = torch.from_numpy(part.vertices).float()
    faces = torch.from_numpy(part.faces).long()
    values: dict = {}
    picture = None
    if kind == "texture":
        texture = torch.from_numpy(part.material.texture.pixels[..., :3] / 255.0).float()
        values = {"uvs": [torch.from_numpy(part.uv)], "texture": texture[None]}
        picture = Image.fromarray(part.material.texture.pixels[..., :3])
    else:
        colors = torch.rand(len(vertices), 3 if kind == "vertex colours" else 4)
        values = {"colors": [colors]}
    other = [torch.eye(3), torch.tensor([[0, 1, 2]])]  # a second, smaller mesh: padded
    batch = {
        name: [*value, value[0][:3]] if name != "texture" else value.repeat(2, 1, 1, 1)
        for name, value in values.items()
    }
    mesh = save.pack_variable_mesh_batch([vertices, other[0]], [faces, other[1]], **batch)
    file = tmp_path / "core.glb"
    save.save_glb(
        vertices,
        faces,
        str(file),
        uvs=values.get("uvs", [None])[0],
        vertex_colors=values.get("colors", [None])[0],
        texture_image=picture,
    )
    same_picture(mesh, load_asset(file), "gltf")  # glTF's colours are linear, and drawn so
    if kind == "texture":
        same_picture(mesh, load_asset(file), "published")


@pytest.fixture(scope="module")
def splat():
    """A ball of red gaussians."""
    types = pytest.importorskip("comfy_api.latest").Types
    if not hasattr(types, "SPLAT"):
        pytest.skip("this ComfyUI has no splats")
    points = torch.nn.functional.normalize(torch.randn(3000, 3), dim=-1)
    count = len(points)
    red = (torch.tensor([0.9, 0.1, 0.1]) - 0.5) / 0.28209479
    return types.SPLAT(
        points[None],
        torch.full((1, count, 3), 0.05),
        torch.tensor([1.0, 0, 0, 0]).repeat(1, count, 1),
        torch.ones(1, count, 1),
        red.repeat(1, count, 1, 1).reshape(1, count, 1, 3),
    )


def test_splats_are_refused_in_words(splat, tmp_path) -> None:
    from comfy_extras.nodes_gaussian_splat import SplatToFile3D

    sentence = "it is a gaussian splat, which has no surface; make a mesh of it with"
    with pytest.raises(ValueError, match=sentence):
        to_asset(splat)
    for kind in ("ply", "ksplat", "spz"):
        (file,) = SplatToFile3D.execute(splat, kind).result
        with pytest.raises(ValueError, match=sentence):
            to_asset(file)
    (tmp_path / "ball.ply").write_bytes(SplatToFile3D.execute(splat, "ply").result[0].get_bytes())
    with pytest.raises(ValueError, match="ball.ply: " + sentence):
        load_asset(tmp_path / "ball.ply")


def test_the_mesh_that_core_extracts_from_a_splat_is_drawn(splat) -> None:
    from comfy_extras.nodes_gaussian_splat import SplatToMesh

    (mesh,) = SplatToMesh.execute(splat, 64, 5, 0, 0.4, 0, 0.02, 2.0).result
    views = render_reference_views(mesh, 2, 64)
    seen = views.colors[views.masks > 0]
    assert 0.1 < views.masks.mean() < 0.7
    np.testing.assert_allclose(seen.mean(0), (0.9, 0.1, 0.1), atol=0.1)
