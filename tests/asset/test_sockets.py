"""Every kind of mesh that arrives on the socket, with core's own classes; the two nodes."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from refany3d_core.asset import load_asset, render_reference_views, to_asset
from refany3d_core.asset.from_trimesh import attached_asset, to_trimesh

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "meshes"
SPOT = ROOT / "assets" / "spot.glb"


@pytest.fixture(scope="module")
def spot():
    return load_asset(SPOT)


def same(first: object, second: object, tolerance: float = 0.004) -> None:
    a, b = (render_reference_views(mesh, 2, 64) for mesh in (first, second))
    assert np.count_nonzero(a.masks != b.masks) <= 2
    on = (a.masks > 0) & (b.masks > 0)
    assert np.abs(a.point_maps - b.point_maps)[on].max() < 1e-3
    assert np.abs(a.colors - b.colors)[on].mean() <= tolerance


def test_trimesh_there_and_back(spot) -> None:
    mesh = to_trimesh(spot)
    assert to_asset(mesh) is spot
    assert attached_asset(mesh.copy()) is None
    same(spot, mesh.copy())
    mesh.apply_scale((2, 1, 1))  # edited by another node: what was attached no longer holds
    assert attached_asset(mesh) is None
    np.testing.assert_allclose(to_asset(mesh).extent, spot.extent * (2, 1, 1))


def test_scene_with_transforms_and_several_materials() -> None:
    import trimesh

    asset = load_asset(DATA / "rgb_cube_primitives.gltf")
    joined = to_trimesh(asset)
    assert len(joined.faces) == 12 and joined.visual.kind == "vertex"
    same(asset, trimesh.load(DATA / "rgb_cube_primitives.gltf", force="scene"))
    same(asset, joined.copy())
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0))
    scene.add_geometry(to_trimesh(load_asset(SPOT)), transform=turn)
    np.testing.assert_allclose(to_asset(scene).extent, load_asset(SPOT).extent[[2, 1, 0]])


def test_face_colours() -> None:
    import trimesh

    box = trimesh.creation.box()
    box.visual.face_colors = np.repeat([[255, 0, 0, 255], [0, 255, 0, 255]], 6, axis=0)
    views = render_reference_views(box, 8, 32)
    seen = {tuple(c) for c in views.colors[views.masks > 0].round(3)}
    assert seen == {(1, 0, 0), (0, 1, 0)}


def core_mesh(spot):
    """Core's MESH, padded, with spot as its first mesh and a triangle as its second."""
    from comfy_api.latest import Types

    part = spot.parts[0]
    n, m = len(part.vertices), len(part.faces)
    vertices = torch.zeros(2, n + 5, 3)
    vertices[0, :n] = torch.from_numpy(part.vertices)
    vertices[1, :3] = torch.eye(3)
    faces = torch.zeros(2, m + 7, 3, dtype=torch.int64)
    faces[0, :m] = torch.from_numpy(part.faces)
    faces[1, 0] = torch.tensor([0, 1, 2])
    return Types.MESH, vertices, faces, n, m


def test_core_mesh_padded_and_textured(spot) -> None:
    kind, vertices, faces, n, m = core_mesh(spot)
    if kind.__init__.__code__.co_argcount < 6:
        pytest.skip("this ComfyUI's MESH has neither counts nor textures")
    uvs = torch.zeros(2, n + 5, 2)
    uvs[0, :n] = torch.from_numpy(spot.parts[0].uv)
    texture = torch.from_numpy(spot.parts[0].material.texture.pixels[..., :3] / 255.0).float()
    mesh = kind(
        vertices, faces, uvs=uvs, texture=texture[None].repeat(2, 1, 1, 1),
        vertex_counts=torch.tensor([n, 3]), face_counts=torch.tensor([m, 1]),
    )  # fmt: skip
    same(spot, mesh, 0.006)
    assert any("2 meshes" in warning for warning in to_asset(mesh).warnings)


def test_core_mesh_without_counts(spot) -> None:
    kind, vertices, faces, n, m = core_mesh(spot)
    asset = to_asset(kind(vertices[:1, :n], faces[:1, :m]))
    np.testing.assert_allclose(asset.extent, spot.extent, rtol=1e-6)
    with pytest.raises(ValueError, match="vertex"):
        to_asset(kind(vertices[:1, :4], faces[:1, :m]))


def test_file_3d_on_disk_and_as_a_stream(spot) -> None:
    from comfy_api.latest import Types

    same(spot, Types.File3D(str(SPOT)), 0)
    same(spot, Types.File3D(io.BytesIO(SPOT.read_bytes()), "glb"), 0)
    obj = (DATA / "spot_obj" / "spot.obj").read_bytes()
    asset = to_asset(Types.File3D(io.BytesIO(obj), "obj"))
    assert any("cannot come with a stream" in warning for warning in asset.warnings)
    with pytest.raises(ValueError, match="beside it, which a stream does not have"):
        to_asset(Types.File3D(io.BytesIO((DATA / "spot_gltf" / "spot.gltf").read_bytes()), "gltf"))
    with pytest.raises(ValueError, match="usdz is not a mesh format"):
        to_asset(Types.File3D(io.BytesIO(b"PK"), "usdz"))


def test_meshes_of_3d_pack(spot) -> None:
    part = spot.parts[0]
    image = torch.from_numpy(part.material.texture.pixels[..., :3] / 255.0).float()
    faces = torch.from_numpy(part.faces.astype(np.int64))
    mesh = SimpleNamespace(
        v=torch.from_numpy(part.vertices), f=faces, vt=torch.from_numpy(part.uv), ft=faces,
        albedo=image, vc=None,
    )  # fmt: skip
    same(spot, mesh, 0.004)


@pytest.mark.parametrize("thing", [3, "nowhere.glb", torch.zeros(3), {}, None])
def test_anything_else_is_refused_in_words(thing: object) -> None:
    with pytest.raises(ValueError) as error:
        to_asset(thing)
    assert len(str(error.value).split()) > 4


def test_voxels_of_core_arrive(pack) -> None:
    hunyuan = pytest.importorskip("comfy_extras.nodes_hunyuan3d")
    from comfy_api.latest import Types

    grid = torch.zeros(1, 24, 24, 24)
    grid[0, 6:18, 6:18, 8:12] = 1
    mesh = hunyuan.VoxelToMesh.execute(Types.VOXEL(grid), "surface net", 0.5).args[0]
    views = pack.nodes["RefAny3D_RenderViews"].execute(mesh, views=2, resolution=32).args
    assert views[0].shape == (2, 32, 32, 3) and views[2].mean() > 0.05


def test_load_mesh_node(pack, host_base: Path) -> None:
    load = pack.nodes["RefAny3D_LoadMesh"]
    folder = host_base / "input" / "3d"
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("spot.glb", "sub/spot.glb"):
        (folder / name).write_bytes(SPOT.read_bytes())
    schema = load.GET_SCHEMA()
    assert {"3d/spot.glb", "3d/sub/spot.glb"} <= set(load.define_schema().inputs[0].options)
    assert [output.id for output in schema.outputs][0] == "mesh"
    assert load.validate_inputs("3d/spot.glb") is True is load.validate_inputs("spot.glb")
    assert "input/3d" in load.validate_inputs("3d/nowhere.glb")
    assert "input/3d" in load.validate_inputs("../../../../etc/passwd")
    mesh, model_3d, info = load.execute("3d/spot.glb").args
    assert type(mesh).__name__ == "Trimesh" and len(mesh.faces) == 5856
    assert model_3d.format == "glb" and Path(model_3d.get_source()) == folder / "spot.glb"
    assert "5,856 faces" in info
    before = load.fingerprint_inputs("3d/spot.glb")
    assert before == load.fingerprint_inputs("3d/sub/spot.glb")
    (folder / "spot.glb").write_bytes((DATA / "cube_vertexcolor.glb").read_bytes())
    assert before != load.fingerprint_inputs("3d/spot.glb")
    assert len(load.execute("3d/spot.glb").args[0].faces) == 48
    (folder / "bad.glb").write_bytes(b"glTF")
    with pytest.raises(ValueError, match="Load Mesh: bad.glb: the GLB is truncated"):
        load.execute("3d/bad.glb")


def test_render_views_node(pack) -> None:
    node = pack.nodes["RefAny3D_RenderViews"]
    names = [output.id for output in node.GET_SCHEMA().outputs]
    assert names[:3] == ["views", "point_maps", "masks"]
    for entry in [*node.GET_SCHEMA().inputs, *node.GET_SCHEMA().outputs]:
        assert entry.tooltip
    mesh = pack.core("asset.from_trimesh").to_trimesh(pack.core("asset").load_asset(SPOT))
    out = node.execute(mesh, views=3, resolution=48, backend="numpy")
    direct = render_reference_views(SPOT, 3, 48)
    for got, expected in zip(
        out.args, (direct.colors, direct.point_maps, direct.masks), strict=False
    ):
        assert got.dtype == torch.float32
        np.testing.assert_array_equal(got.numpy(), expected)
    assert all(tensor.min() >= 0 and tensor.max() <= 1 for tensor in out.args[:5])
    assert len(out.ui["images"]) == 1
    assert node.validate_inputs(background="#12345g") != True  # noqa: E712  a sentence
    assert node.validate_inputs(pitches="1, 2, x") != True  # noqa: E712
    with pytest.raises(ValueError, match="Render Reference Views: .*2 pitches for 3 views"):
        node.execute(mesh, views=3, resolution=48, pitches="0, 20")
    with pytest.raises(ValueError, match="Render Reference Views: .*connect TRIMESH"):
        node.execute(torch.zeros(1, 8, 8, 3))


def test_rendering_stops_when_the_host_is_interrupted(pack) -> None:
    import comfy.model_management as management

    mesh = to_trimesh(load_asset(SPOT))
    node = pack.nodes["RefAny3D_RenderViews"]
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        node.execute(mesh, views=3, resolution=48)
    assert node.execute(mesh, views=1, resolution=48).args[0].shape[0] == 1


def test_heavy_packages_are_imported_only_when_used() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import refany3d_core.asset as a; "
        "heavy = {'trimesh', 'embreex', 'scipy', 'PIL', 'lxml', 'collada', 'DracoPy', 'pyrender', "
        "'OpenGL', 'comfy', 'torch'}; assert not heavy & set(sys.modules); "
        "a.render_reference_views(sys.argv[2], 1, 16); "
        "assert not {'OpenGL', 'pyrender', 'comfy', 'torch'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", script, str(ROOT), str(SPOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
