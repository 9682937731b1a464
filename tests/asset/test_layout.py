"""Texture coordinates on which every place of a surface has a texel of its own."""

import sys

import numpy as np
import pytest

from refany3d_core.asset import Asset, Part, load_asset
from refany3d_core.asset.layout import lay_out
from refany3d_core.asset.material import CLAMP, Material, Texture
from refany3d_core.asset.shade import shade


def square(uv: list, wrap=("repeat", "repeat"), copies: int = 1) -> Asset:
    """Squares beside each other with the same coordinates and a texture of four colours."""
    corners = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], np.float64)
    vertices = np.concatenate([corners + (2 * i, 0, i) for i in range(copies)])
    faces = np.concatenate([np.array([(0, 1, 2), (0, 2, 3)]) + 4 * i for i in range(copies)])
    pixels = np.full((4, 4, 4), 255, np.uint8)
    pixels[..., :3] = np.arange(16).reshape(4, 4, 1) * 16
    material = Material((1.0,) * 4, Texture(pixels, wrap))
    coordinates = np.tile(np.array(uv, np.float32), (copies, 1))
    return Asset([Part(vertices, faces.astype(np.int32), material, coordinates)])


UNIT = [(0, 1), (1, 1), (1, 0), (0, 0)]


def test_a_texel_is_where_the_texture_shows_it():
    """Reading the texture at each texel's place on the surface gives the texel itself."""
    asset = square(UNIT)
    layout = lay_out(asset)
    pixel, places = layout.texels(4, 4)
    assert layout.own and sorted(pixel) == list(range(16))
    expected = asset.parts[0].material.texture.pixels.reshape(-1, 4)[pixel]
    np.testing.assert_allclose(shade(places) * 255, expected, atol=0.01)
    x, y = places.interpolate(asset.vertices)[:, :2].T
    assert (np.diff(x[pixel.argsort()].reshape(4, 4), axis=1) > 0).all()  # u to the right
    assert (np.diff(y[pixel.argsort()].reshape(4, 4), axis=0) < 0).all()  # v down


def test_coordinates_over_the_edge_come_in_on_the_other_side():
    asset = square([(u + 0.5, v - 0.25) for u, v in UNIT])
    layout = lay_out(asset)
    pixel, places = layout.texels(4, 4)
    assert layout.own and sorted(pixel) == list(range(16))
    expected = asset.parts[0].material.texture.pixels.reshape(-1, 4)[pixel]
    np.testing.assert_allclose(shade(places) * 255, expected, atol=0.01)


@pytest.mark.parametrize(
    "asset, why",
    [
        (square(UNIT, copies=2), "100% of the mesh's texture shows on several places"),
        (square([(3 * u, v) for u, v in UNIT]), "repeats within a face"),
        (square([(u + 0.5, v) for u, v in UNIT], (CLAMP, CLAMP)), "leave 0..1"),
        (Asset([Part(square(UNIT).vertices, square(UNIT).faces)]), "no texture coordinates"),
    ],
    ids=["overlap", "tiles", "clamped", "none"],
)
def test_coordinates_that_do_not_serve(asset, why, monkeypatch):
    with pytest.raises(ValueError, match=f"{why}.*choose new"):
        lay_out(asset, "own")
    layout = lay_out(asset)  # by xatlas
    assert not layout.own and layout.overlap() < 0.01
    assert layout.faces.shape == asset.faces.shape
    assert np.array_equal(asset.vertices[layout.vertex[layout.faces]], asset.vertices[asset.faces])
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(ValueError, match=f"{why}.*install the package xatlas"):
        lay_out(asset)


def test_parts_with_coordinates_of_their_own_share_a_texture(mesh_folder):
    asset = load_asset(mesh_folder / "touch_controller.glb")
    layout = lay_out(asset)
    assert len(asset.parts) > 1 and not layout.own and layout.overlap() < 0.02
    pixel, places = layout.texels(512, 512)
    pixels = np.full((512 * 512, 4), 255, np.uint8)
    pixels[pixel] = (shade(places) * 255).round()
    joined = layout.textured(pixels.reshape(512, 512, 4))
    assert len(joined.parts) == 1
    np.testing.assert_allclose(joined.vertices, asset.vertices)
    np.testing.assert_array_equal(joined.faces, asset.faces)
