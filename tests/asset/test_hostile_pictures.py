"""Textures that are no textures: nothing is launched, nothing beyond the limits is decoded."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from test_hostile_files import TRIANGLE, gltf, png_of

from refany3d_core.asset import load_asset, pictures, to_asset
from refany3d_core.asset.pictures import Pictures

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n{} loop\n"
DAE = """<?xml version="1.0"?><COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema"
version="1.4.1"><asset><up_axis>Y_UP</up_axis></asset>
<library_images><image id="i"><init_from>%s</init_from></image></library_images>
<library_effects><effect id="e"><profile_COMMON>
<newparam sid="s"><surface type="2D"><init_from>i</init_from></surface></newparam>
<newparam sid="t"><sampler2D><source>s</source></sampler2D></newparam>
<technique sid="c"><lambert><diffuse><texture texture="t" texcoord="UV"/></diffuse></lambert>
</technique></profile_COMMON></effect></library_effects>
<library_materials><material id="m"><instance_effect url="#e"/></material></library_materials>
<library_geometries><geometry id="g"><mesh>
<source id="p"><float_array id="pa" count="9">0 0 0 1 0 0 0 1 0</float_array><technique_common>
<accessor source="#pa" count="3" stride="3"><param name="X" type="float"/>
<param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common></source>
<source id="u"><float_array id="ua" count="6">0 0 1 0 0 1</float_array><technique_common>
<accessor source="#ua" count="3" stride="2"><param name="S" type="float"/>
<param name="T" type="float"/></accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles count="1" material="M"><input semantic="VERTEX" source="#v" offset="0"/>
<input semantic="TEXCOORD" source="#u" offset="1" set="0"/><p>0 0 1 1 2 2</p></triangles>
</mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="vs"><node><instance_geometry url="#g"><bind_material>
<technique_common><instance_material symbol="M" target="#m">
<bind_vertex_input semantic="UV" input_semantic="TEXCOORD" input_set="0"/></instance_material>
</technique_common></bind_material></instance_geometry></node></visual_scene>
</library_visual_scenes><scene><instance_visual_scene url="#vs"/></scene></COLLADA>"""
PLY = """ply
format ascii 1.0
comment TextureFile %s
element vertex 3
property float x
property float y
property float z
property float s
property float t
element face 1
property list uchar int vertex_indices
end_header
0 0 0 0 0
1 0 0 1 0
0 1 0 0 1
3 0 1 2
"""


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` on the path, as Pillow finds it. The file that it would write says that it ran."""
    if sys.platform == "win32":
        pytest.skip("a script is no program on Windows")
    ran, program = tmp_path / "gs-ran", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    picture = Image.open(io.BytesIO(EPS))
    with pytest.raises(OSError):
        picture.load()  # the program writes no picture
    assert ran.exists()
    ran.unlink()
    return ran


def textured(folder: Path, kind: str, picture: str, content: bytes) -> Path:
    """A triangle with a texture file, in one of the formats that name texture files."""
    (folder / picture).write_bytes(content)
    path = folder / f"a.{kind}"
    if kind == "gltf":
        (folder / "good.bin").write_bytes(TRIANGLE)
        return gltf(folder, "good.bin", image=picture)
    if kind == "obj":
        (folder / "a.mtl").write_text(f"newmtl a\nmap_Kd {picture}\n")
        path.write_text(
            "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl a\n"
            "f 1/1 2/2 3/3\n"
        )
    elif kind == "dae":
        path.write_text(DAE % picture)
    else:
        path.write_text(PLY % picture)
    return path


KINDS = ["gltf", "obj", "dae", "ply"]


@pytest.mark.parametrize("picture", ["a.png", "a.eps", "noending"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_texture_runs_ghostscript(kind, picture, tmp_path, watched, ghostscript) -> None:
    path = textured(tmp_path / "meshes", kind, picture, EPS)
    watched.clear()  # of this test's own files
    asset = load_asset(path)
    assert not ghostscript.exists()
    assert any("not a picture in a known format" in warning for warning in asset.warnings)
    assert all(part.material.texture is None for part in asset.parts)


def test_an_mtl_file_is_no_texture(tmp_path, watched, ghostscript) -> None:
    """A file that is PostScript and MTL at once, and names itself."""
    folder = tmp_path / "meshes"
    path = textured(folder, "obj", "a.mtl", b"")
    (folder / "a.mtl").write_bytes(EPS + b"newmtl a\nmap_Kd a.mtl\n")
    watched.clear()
    assert any("not a picture" in warning for warning in load_asset(path).warnings)
    assert not ghostscript.exists()


def test_postscript_on_another_packs_mesh(ghostscript) -> None:
    import trimesh

    visual = trimesh.visual.TextureVisuals(np.zeros((3, 2)), image=Image.open(io.BytesIO(EPS)))
    mesh = trimesh.Trimesh(np.eye(3), [[0, 1, 2]], visual=visual, process=False)
    assert any("EPS is not decoded" in warning for warning in to_asset(mesh).warnings)
    assert not ghostscript.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_texture_that_is_one_is_drawn(kind, tmp_path, watched) -> None:
    packed = io.BytesIO()
    Image.new("RGB", (5, 3), (250, 100, 0)).save(packed, "PNG")
    path = textured(tmp_path / "meshes", kind, "a.png", packed.getvalue())
    watched.clear()
    asset = load_asset(path)
    assert asset.warnings == [
        "the mesh is flat along Z: that axis of the point map is 0.5 everywhere"
    ]
    pixels = asset.parts[0].material.texture.pixels
    assert pixels.shape == (3, 5, 4) and (pixels == (250, 100, 0, 255)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["../secret.png", "..\\textures\\secret.png", "C:\\art\\secret.png", "/home/me/secret.png",
     "file:///home/me/secret.png", "http://127.0.0.1:9/secret.png"],
)  # fmt: skip
def test_a_texture_path_of_another_machine(kind, name, tmp_path, watched) -> None:
    """Taken by its name from beside the mesh; told where it is not there."""
    packed = io.BytesIO()
    Image.new("RGB", (4, 4), (0, 100, 200)).save(packed, "PNG")
    (tmp_path / "secret.png").write_bytes(packed.getvalue())
    folder = tmp_path / "meshes"
    path = textured(folder, kind, "t.png", b"")
    for file in (path, folder / "a.mtl"):
        if file.exists():
            quoted = name.replace("\\", "\\\\") if kind == "gltf" else name
            file.write_text(file.read_text().replace("t.png", quoted))
    watched.clear()
    lost = load_asset(path)
    assert lost.parts[0].material.texture is None
    assert any("secret.png" in warning for warning in lost.warnings)
    if "http" not in name:
        (folder / "secret.png").write_bytes(packed.getvalue())
        watched.clear()
        found = load_asset(path)
        assert (found.parts[0].material.texture.pixels == (0, 100, 200, 255)).all()


def test_many_textures_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_KEPT_PIXELS", 2000)
    monkeypatch.setattr(pictures, "MAX_DECODED_PIXELS", 4000)
    packed = io.BytesIO()
    Image.new("RGB", (32, 31), (1, 2, 3)).save(packed, "PNG")
    decoder = Pictures()
    sizes = [decoder.decode(packed.getvalue(), f"the texture {i}").shape[:2] for i in range(4)]
    assert sizes[0] == (31, 32) and sizes[1] == (16, 16) and sizes[3] == (16, 16)
    assert "the texture 1 is drawn 2 times smaller" in decoder.warnings[0]
    with pytest.raises(pictures.LimitError, match="megapixels together"):
        decoder.decode(packed.getvalue(), "the texture 4")


def test_grey_of_16_bits_keeps_its_brightness(tmp_path: Path) -> None:
    packed = io.BytesIO()
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(packed, "PNG")
    for kind in KINDS:
        asset = load_asset(textured(tmp_path, kind, "a.png", packed.getvalue()))
        assert (asset.parts[0].material.texture.pixels[..., :3] == 128).all(), kind


def test_a_bomb_is_refused_in_every_format(tmp_path: Path) -> None:
    for kind in KINDS:
        with pytest.raises(ValueError, match="the limit is 170 megapixels"):
            load_asset(textured(tmp_path, kind, "a.png", png_of(20_000, 10_000)))
