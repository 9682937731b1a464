"""Every test mesh ends in the right picture or in a sentence."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from refany3d_core.asset import load_asset, render_reference_views
from refany3d_core.asset.fingerprint import fingerprint
from refany3d_core.asset.model import Asset

DATA = Path(__file__).resolve().parents[1] / "data" / "meshes"
SPOT = DATA.parents[2] / "assets" / "spot.glb"


def pictures(source: object, **options: object):
    return render_reference_views(source, 3, 96, pitch=15, **options)


@pytest.fixture(scope="module")
def spot():
    return pictures(SPOT)


@pytest.mark.parametrize(
    "name, tolerance",
    [
        ("spot_gltf/spot.gltf", 0.0),
        ("spot_obj/spot.obj", 0.004),
        ("spot_quant.glb", 0.06),  # 14-bit positions move the texture's edges by parts of a pixel
        ("spot_webp.glb", 0.02),
        ("spot_vertexcolor.ply", 0.06),
    ],
)
def test_the_same_cow_in_other_formats(name: str, tolerance: float, spot) -> None:
    other = pictures(DATA / name)
    assert other.warnings == ()
    both = (spot.masks > 0) & (other.masks > 0)
    assert np.count_nonzero(spot.masks != other.masks) <= 12
    assert np.abs(spot.point_maps - other.point_maps)[both].max() < 0.02
    assert np.abs(spot.colors - other.colors)[both].mean() <= tolerance


def test_draco_is_decoded_or_refused_in_words(spot) -> None:
    path = DATA / "spot_draco.glb"
    if find_spec("DracoPy") is None:
        with pytest.raises(ValueError, match="pip install DracoPy"):
            load_asset(path)
        return
    other = pictures(path)
    both = (spot.masks > 0) & (other.masks > 0)
    assert np.count_nonzero(spot.masks != other.masks) <= 12
    assert np.abs(spot.colors - other.colors)[both].mean() < 0.02


def test_quantised_meshes_keep_their_proportions() -> None:
    plain = load_asset(DATA / "touch_controller.glb")
    quantised = load_asset(DATA / "touch_controller_quant.glb")
    np.testing.assert_allclose(quantised.extent, plain.extent, rtol=1e-3)
    first, second = pictures(plain), pictures(quantised)
    assert np.count_nonzero(first.masks != second.masks) <= 12
    both = (first.masks > 0) & (second.masks > 0)
    assert np.abs(first.colors - second.colors)[both].mean() < 0.01


def test_meshopt_is_decoded_or_refused_in_words(spot) -> None:
    path = DATA / "spot_meshopt.glb"
    if find_spec("meshopt") is None:
        with pytest.raises(ValueError, match="pip install meshopt"):
            load_asset(path)
        return
    other = pictures(path)
    both = (spot.masks > 0) & (other.masks > 0)
    assert np.count_nonzero(spot.masks != other.masks) <= 12
    assert np.abs(spot.colors - other.colors)[both].mean() < 0.02


@pytest.mark.parametrize(
    "package, name",
    [("DracoPy", "spot_draco.glb"), ("meshopt", "spot_meshopt.glb"), ("ufbx", "cube.fbx"),
     ("collada", "a.dae")],
)  # fmt: skip
def test_a_missing_package_is_named(package, name, tmp_path, monkeypatch) -> None:
    """Without the optional package: a sentence that names it, and not in the picker's list."""
    import importlib.util

    from refany3d_core.asset import readable_formats

    for module in ("load", "gltf_preflight"):
        monkeypatch.setattr(
            f"refany3d_core.asset.{module}.find_spec",
            lambda wanted: None if wanted == package else importlib.util.find_spec(wanted),
        )
    path = DATA / name
    if not path.exists():
        path = tmp_path / name
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match=f"{name}: .*pip install \\w*{package[:4]}"):
        load_asset(path)
    if path.suffix in (".fbx", ".dae"):
        assert path.suffix[1:] not in readable_formats()


def test_a_texture_that_cannot_be_read_is_told_and_does_not_vanish(monkeypatch) -> None:
    monkeypatch.setattr("refany3d_core.asset.pictures.find_spec", lambda name: None)
    views = pictures(DATA / "spot_ktx2.glb")
    assert any("KTX2" in warning for warning in views.warnings)
    assert views.colors[views.masks > 0].max() < 0.9  # not white on white


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("empty.stl", "no triangles"),
        ("points_only.ply", "no triangles"),
        ("truncated.glb", "truncated"),
        ("index_out_of_range.glb", "vertex 7, but only 3 vertices"),
    ],
)
def test_broken_files_are_refused_in_words(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{sentence}"):
        load_asset(DATA / "broken" / name)


def test_nan_and_unused_vertices_and_degenerate_faces() -> None:
    asset = load_asset(DATA / "broken" / "degenerate_nan.obj")
    assert any("NaN" in warning for warning in asset.warnings)
    assert asset.extent.max() < 10  # the unused vertex far away does not count
    assert np.isfinite(pictures(asset).point_maps).all()


def test_flat_axis_is_half_grey_in_the_point_map() -> None:
    views = pictures(DATA / "broken" / "flat_plane.obj")
    assert any("flat along Z" in warning for warning in views.warnings)
    assert np.isfinite(views.point_maps).all()
    assert (views.point_maps[..., 2][views.masks > 0] == 0.5).all()


def test_holes_are_drawn_from_both_sides() -> None:
    assert pictures(DATA / "broken" / "holes.stl").masks.mean() > 0.1


def test_parts_keep_their_own_materials() -> None:
    cube = load_asset(DATA / "rgb_cube_primitives.gltf")
    assert len(cube.parts) == 3
    seen = pictures(cube)
    colors = np.unique(seen.colors[seen.masks > 0].round(3), axis=0)
    assert {(1, 0, 0), (0, 1, 0), (0, 0, 1)} >= {tuple(c) for c in colors.astype(int)}
    truck = load_asset(DATA / "cesium_milk_truck.glb")
    assert len(truck.parts) == 5 and sum(p.material.texture is not None for p in truck.parts) == 3
    assert any("animations" in warning for warning in truck.warnings)


@pytest.mark.parametrize("name", ["spot.mtl", "spot_texture.png"])
def test_a_lost_material_or_texture_is_told(name: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / "spot_obj", tmp_path / "obj")
    (tmp_path / "obj" / name).unlink()
    asset = load_asset(tmp_path / "obj" / "spot.obj")
    assert any(name in warning for warning in asset.warnings)


def test_z_up_is_turned() -> None:
    asset = load_asset(DATA / "featuretype.stl")
    turned = load_asset(DATA / "featuretype.stl", up_axis="z")
    np.testing.assert_allclose(turned.extent, asset.extent[[0, 2, 1]])
    top = asset.vertices[asset.vertices[:, 2].argmax()]
    assert turned.vertices[asset.vertices[:, 2].argmax(), 1] == pytest.approx(top[2])


def test_mirrored_nodes_keep_their_front_faces() -> None:
    from refany3d_core.asset.gltf_file import GltfFile

    data = (DATA / "rgb_cube_primitives.gltf").read_bytes()
    plain, mirrored = GltfFile(data, None), GltfFile(data, None)
    for node in mirrored.items("nodes"):
        if "mesh" in node:
            node.pop("matrix", None)
            node["scale"] = [-1, 1, 1]
    from refany3d_core.asset.gltf import load_gltf

    for file in (plain, mirrored):
        asset = Asset(*load_gltf(file))
        a, b, c = (asset.vertices[asset.faces[:, k]] for k in range(3))
        outward = np.einsum("fc,fc->f", np.cross(b - a, c - a), a + b + c)
        assert (outward > 0).all()


def test_other_formats_by_trimesh(tmp_path: Path) -> None:
    import trimesh

    box = trimesh.creation.box((1, 2, 3))
    for kind in ("off", "stl", "ply", "obj", "glb"):
        box.export(tmp_path / f"box.{kind}")
        asset = load_asset(tmp_path / f"box.{kind}")
        np.testing.assert_allclose(asset.extent, (1, 2, 3), atol=1e-6)
    for kind, module in (("dae", "collada"),):
        if find_spec(module):
            box.export(tmp_path / f"box.{kind}")
            np.testing.assert_allclose(load_asset(tmp_path / f"box.{kind}").extent.sum(), 6)
        else:
            (tmp_path / f"box.{kind}").write_bytes(b"x")
            with pytest.raises(ValueError, match="pip install"):
                load_asset(tmp_path / f"box.{kind}")


def test_the_fingerprint_follows_content_and_files_beside(tmp_path: Path) -> None:
    shutil.copytree(DATA / "spot_obj", tmp_path / "obj")
    path = tmp_path / "obj" / "spot.obj"
    first = fingerprint(path)
    path.touch()
    assert fingerprint(path) == first
    texture = tmp_path / "obj" / "spot_texture.png"
    texture.write_bytes(texture.read_bytes() + b"\0")
    assert fingerprint(path) != first


def test_only_files_are_listed(host_base: Path, pack) -> None:
    """A folder named like a mesh, a dangling link, a circle of links, a pipe."""
    import os

    folder = host_base / "input" / "3d"
    shutil.copy(SPOT, folder / "real.glb")
    (folder / "folder.glb").mkdir()
    (folder / "dangling.glb").symlink_to(folder / "nowhere.glb")
    (folder / "circle.glb").symlink_to(folder / "round.glb")
    (folder / "round.glb").symlink_to(folder / "circle.glb")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.glb")
    node = pack.nodes["RefAny3D_LoadMesh"]
    try:
        (combo,) = (i for i in node.define_schema().inputs if i.id == "mesh_file")
        names = ("real", "folder", "dangling", "circle", "round", "pipe")
        assert [name for name in combo.options if Path(name).stem in names] == ["3d/real.glb"]
        for name in ("circle", "dangling", "folder", "pipe"):
            with pytest.raises(ValueError, match=f"Load Mesh: mesh_file '3d/{name}.glb' is not in"):
                node.execute(f"3d/{name}.glb")
            with pytest.raises(ValueError, match=f"{name}.glb"):
                load_asset(folder / f"{name}.glb")
    finally:
        for name in ("dangling.glb", "circle.glb", "round.glb", "loop", "pipe.glb", "real.glb"):
            (folder / name).unlink()
        (folder / "folder.glb").rmdir()


def test_white_on_white_is_told() -> None:
    import trimesh

    ball = trimesh.creation.icosphere(1)
    ball.visual.face_colors = (252, 253, 255, 255)
    sentence = "has the colour of the background.*headlight"
    assert re.search(sentence, " ".join(pictures(ball).warnings))
    assert pictures(ball, background=(0.2, 0.3, 0.4)).warnings == ()
    assert pictures(ball, shading="headlight").warnings == ()
    assert pictures(SPOT).warnings == ()


def test_what_does_not_fit_into_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from refany3d_core.asset import load, views

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    asset = load_asset(SPOT)
    monkeypatch.setattr(views, "render", full)
    with pytest.raises(ValueError, match="3 views of 96 x 96 of this mesh do not fit into memory"):
        pictures(asset)
    monkeypatch.setattr(load, "load_gltf", full)
    with pytest.raises(ValueError, match="spot.glb: it does not fit into memory"):
        load_asset(SPOT)
