"""PLY, OFF, 3MF and DAE as programs write them: nothing turns grey, nothing is taken for empty."""

import io
import struct
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refany3d_core.asset import load_asset, render_reference_views

CORNERS = "-1 -1 0\n1 -1 0\n1 1 0\n-1 1 0\n"


def seen_colors(path: Path) -> set[tuple[int, int, int]]:
    """The colours of four views, in steps of 1 / 10."""
    views = render_reference_views(load_asset(path), 4, 48, even_azimuths=True, pitch=40.0)
    on = views.masks > 0
    assert on.any()
    return set(map(tuple, (views.colors[on] * 10).round().astype(int)))


def ply(path: Path, vertex: str, rows: list[str], face: str, faces: list[str], more="") -> Path:
    path.write_text(
        f"ply\nformat ascii 1.0\n{more}element vertex {len(rows)}\nproperty float x\n"
        f"property float y\nproperty float z\n{vertex}element face {len(faces)}\n{face}end_header\n"
        + "\n".join([*rows, *faces])
        + "\n"
    )
    return path


LIST = "property list uchar int vertex_indices\n"
RGB = "property uchar red\nproperty uchar green\nproperty uchar blue\n"
UV = "property float s\nproperty float t\n"


def rows_with(*extra: str) -> list[str]:
    return [f"{x} {y} 0 {e}" for (x, y), e in zip(((-1, -1), (1, -1), (1, 1), (-1, 1)), extra)]


def test_ply_with_coordinates_and_colours_but_no_texture_keeps_its_colours(tmp_path: Path) -> None:
    rows = rows_with(*["0 0 255 0 0"] * 4)
    assert seen_colors(ply(tmp_path / "a.ply", UV + RGB, rows, LIST, ["4 0 1 2 3"])) == {(10, 0, 0)}


def test_ply_with_white_vertices_and_coloured_faces_keeps_the_faces(tmp_path: Path) -> None:
    rows = rows_with(*["255 255 255"] * 4)
    faces = ["3 0 1 2 0 255 0", "3 0 2 3 0 0 255"]
    assert seen_colors(ply(tmp_path / "a.ply", RGB, rows, LIST + RGB, faces)) == {
        (0, 10, 0), (0, 0, 10),
    }  # fmt: skip


def test_ply_with_a_texture_by_vertex_and_by_corner(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4], pixels[4:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "t.png")
    name = "comment TextureFile t.png\n"
    rows = rows_with("0 0.9", "0 0.9", "0 0.9", "0 0.9")  # v counts from below: the upper half
    assert seen_colors(ply(tmp_path / "a.ply", UV, rows, LIST, ["4 0 1 2 3"], name)) == {(10, 0, 0)}
    corner = LIST + "property list uchar float texcoord\n"
    faces = ["4 0 1 2 3 8 0 .1 0 .1 0 .1 0 .1"]
    assert seen_colors(ply(tmp_path / "b.ply", "", rows_with(*[""] * 4), corner, faces, name)) == {
        (0, 0, 10)
    }


def test_ply_of_strips(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 6\nproperty float x\nproperty float y\n"
        "property float z\nelement tristrips 1\nproperty list int int vertex_indices\nend_header\n"
        "0 0 0\n0 1 0\n1 0 0\n1 1 0\n2 0 0\n2 1 0\n8 0 1 2 3 -1 2 3 4\n"
    )
    asset = load_asset(path)
    assert asset.faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4]]


@pytest.mark.parametrize("order", "<>")
def test_binary_ply_of_mixed_polygons(order: str, tmp_path: Path) -> None:
    """Lists of three lengths, in runs and alternating, against the same as triangles."""
    draw = np.random.default_rng(0)
    points = draw.normal(size=(50, 3))
    lengths = [3] * 200 + [4] * 200 + [3, 4, 5] * 50
    faces = [draw.integers(0, 50, n) for n in lengths]
    kind = "binary_little_endian" if order == "<" else "binary_big_endian"
    head = (
        f"ply\nformat {kind} 1.0\nelement vertex 50\nproperty double x\nproperty double y\n"
        f"property double z\nelement face {len(faces)}\nproperty uchar flags\n{LIST}end_header\n"
    )
    body = points.astype(order + "f8").tobytes()
    for face in faces:
        body += struct.pack("BB", 7, len(face)) + face.astype(order + "i4").tobytes()
    path = tmp_path / "a.ply"
    path.write_bytes(head.encode() + body)
    asset = load_asset(path)
    expected = [(f[0], f[i], f[i + 1]) for f in faces for i in range(1, len(f) - 1)]
    assert sorted(map(tuple, asset.parts[0].faces)) == sorted(map(tuple, np.array(expected)))
    np.testing.assert_array_equal(asset.parts[0].vertices, points)
    for cut in (1, len(body) // 2, len(body) - 20):
        path.write_bytes((head.encode() + body)[:-cut])
        with pytest.raises(ValueError, match="a.ply: it is not a readable PLY file: it ends"):
            load_asset(path)


def test_packed_splats_are_called_splats(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    names = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
    fields = "".join(f"property uint {name}\n" for name in names)
    path.write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement chunk 1\nproperty float min_x\n"
        b"element vertex 1\n" + fields.encode() + b"end_header\n" + b"\0" * 20
    )
    with pytest.raises(ValueError, match="a.ply: it is a gaussian splat"):
        load_asset(path)


OFFS = {
    "plain": ("OFF\n4 2 0\n" + CORNERS + "3 0 1 2\n3 0 2 3\n", 2, (4, 4, 4)),
    "an index a line": ("OFF\n4\n1\n0\n" + CORNERS + "4\n0\n1\n2\n3\n", 2, (4, 4, 4)),
    "all on one line": ("OFF 4 1 0 " + CORNERS.replace("\n", " ") + "4 0 1 2 3", 2, (4, 4, 4)),
    "no header": ("4 1 0\n" + CORNERS + "4 0 1 2 3\n", 2, (4, 4, 4)),
    "comments": ("OFF # a\n# b\n4 1 0 # c\n" + CORNERS + "4 0 1 2 3 # d\n", 2, (4, 4, 4)),
    "faces": ("OFF\n4 2 0\n" + CORNERS + "3 0 1 2 0 0 255\n3 0 2 3 0 0 255\n", 2, (0, 0, 10)),
    "vertices": (
        "COFF\n4 1 0\n" + CORNERS.replace("\n", " 0 255 0 255\n") + "4 0 1 2 3\n", 2, (0, 10, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OFFS)
def test_off(name: str, tmp_path: Path) -> None:
    text, faces, color = OFFS[name]
    path = tmp_path / "a.off"
    path.write_text(text)
    assert len(load_asset(path).faces) == faces
    assert seen_colors(path) == {color}


BOX = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x in (0, 1) for y in (0, 1) for z in (0, 1))
SIDES = [(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6),
         (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)]  # fmt: skip


def model(resources: str, build: str) -> str:
    return (
        '<?xml version="1.0"?><model unit="millimeter" '
        'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" '
        'xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02" '
        'xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06">'
        f"<resources>{resources}</resources><build>{build}</build></model>"
    )


def body(properties: str = "", number: int = 1, own: str = "") -> str:
    sides = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}" {properties}/>' for a, b, c in SIDES)
    return (
        f'<object id="{number}" {own}><mesh><vertices>{BOX}</vertices>'
        f"<triangles>{sides}</triangles></mesh></object>"
    )


def package(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


ITEM = '<item objectid="1"/>'
BASE = '<basematerials id="5"><base name="a" displaycolor="#0000FF"/></basematerials>'
COLORS = '<m:colorgroup id="5"><m:color color="#00FF00FF"/></m:colorgroup>'
TEXTURE = (
    '<m:texture2d id="7" path="/3D/Textures/t.png" contenttype="image/png"/>'
    '<m:texture2dgroup id="5" texid="7"><m:tex2coord u="0.5" v="0.9"/></m:texture2dgroup>'
)


@pytest.mark.parametrize(
    "resources, color",
    [
        (BASE + body(own='pid="5" pindex="0"'), (0, 0, 10)),
        (BASE + body('pid="5" p1="0"'), (0, 0, 10)),
        (COLORS + body('pid="5" p1="0" p2="0" p3="0"'), (0, 10, 0)),
        (TEXTURE + body('pid="5" p1="0" p2="0" p3="0"'), (10, 0, 0)),
        (body(), (4, 4, 4)),
    ],
)
def test_3mf_colours(resources: str, color: tuple, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4], pixels[4:] = (255, 0, 0), (0, 0, 255)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    files = {"3D/3dmodel.model": model(resources, ITEM), "3D/Textures/t.png": packed.getvalue()}
    path = package(tmp_path / "a.3mf", files)
    assert seen_colors(path) == {color}
    assert load_asset(path).warnings == []


def test_3mf_of_the_production_extension(tmp_path: Path) -> None:
    """As slicers write it: the build refers to objects of other parts, moved and turned."""
    components = (
        '<object id="9"><components><component p:path="/3D/Objects/o.model" objectid="1" '
        'transform="0 1 0 -1 0 0 0 0 1 5 0 0"/><component p:path="/3D/Objects/o.model" '
        'objectid="1"/></components></object>'
    )
    item = '<item objectid="9" transform="2 0 0 0 2 0 0 0 2 0 0 1"/>'
    path = package(
        tmp_path / "a.3mf",
        {
            "3D/3dmodel.model": model(components, item),
            "3D/Objects/o.model": model(body(), ""),
        },
    )  # fmt: skip
    asset = load_asset(path)
    assert len(asset.faces) == 24
    np.testing.assert_allclose(asset.bounds, [[0, 0, 1], [10, 2, 3]])


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({"3D/3dmodel.model": "<model"}, "damaged"),
        ({"readme.txt": "x"}, "no 3D model"),
        ({"3D/3dmodel.model": model(body(), '<item objectid="8"/>')}, "object 8"),
        ({"3D/3dmodel.model": model("", "")}, "no triangles"),
        ({"3D/3dmodel.model": model(body().replace('v1="4"', 'v1="99"'), ITEM)}, "vertex 99"),
        ({"3D/3dmodel.model": '<!DOCTYPE a [<!ENTITY b "c">]>' + model(body(), ITEM)[21:]},
         "XML entities"),
        ({"3D/3dmodel.model": model(
            '<object id="1"><components><component objectid="1"/></components></object>', ITEM)},
         "endless"),
    ],
)  # fmt: skip
def test_broken_3mf(files: dict, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"a.3mf: .*{sentence}"):
        load_asset(package(tmp_path / "a.3mf", files))


def test_a_skinned_dae_is_drawn_in_its_bind_pose(tmp_path: Path) -> None:
    if find_spec("collada") is None:
        pytest.skip("DAE needs pycollada, which is not installed")
    from test_hostile_pictures import DAE

    Image.new("RGB", (4, 4), (0, 255, 0)).save(tmp_path / "t.png")
    text = DAE % "t.png"
    (tmp_path / "plain.dae").write_text(text)
    controller = (
        '<library_controllers><controller id="k"><skin source="#g">'
        "<bind_shape_matrix>2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1</bind_shape_matrix>"
        "</skin></controller></library_controllers><library_visual_scenes>"
    )
    skinned = text.replace("<library_visual_scenes>", controller)
    skinned = skinned.replace('<instance_geometry url="#g">', '<instance_controller url="#k">')
    skinned = skinned.replace("</instance_geometry>", "</instance_controller>")
    (tmp_path / "skinned.dae").write_text(skinned)
    plain, posed = load_asset(tmp_path / "plain.dae"), load_asset(tmp_path / "skinned.dae")
    np.testing.assert_allclose(posed.extent, 2 * plain.extent)
    assert posed.parts[0].material.texture is not None
    assert any("bind pose" in warning for warning in posed.warnings)


def test_texture_options_of_an_mtl_file(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (0, 0, 255)).save(tmp_path / "my t.png")
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd -s 1 1 1 -clamp on my t.png\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3\n"
    )
    assert load_asset(tmp_path / "a.obj").parts[0].material.texture is not None
