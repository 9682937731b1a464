"""Bombs, ways out of the folder, and 200 mutated files: a sentence, never a crash or a hang."""

import io
import json
import random
import re
import struct
import time
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import made_gltf
import numpy as np
import pytest

from refany3d_core.asset import load_asset, render_reference_views
from refany3d_core.asset.model import MAX_FACES, Asset, Part

DATA = Path(__file__).resolve().parents[1] / "data" / "meshes"
SPOT = DATA.parents[2] / "assets" / "spot.glb"


def gltf(folder: Path, uri: str, image: str | None = None) -> Path:
    """A triangle whose buffer, and texture if any, lie where the URIs say."""
    tree = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "buffers": [{"uri": uri, "byteLength": 60}],
        "bufferViews": [{"buffer": 0, "byteLength": 60}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 0, "byteOffset": 36, "componentType": 5126, "count": 3, "type": "VEC2"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}}]}],
    }
    if image:
        tree["images"] = [{"uri": image}]
        tree["textures"] = [{"source": 0}]
        tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
        tree["meshes"][0]["primitives"][0]["material"] = 0
    path = folder / "triangle.gltf"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


TRIANGLE = struct.pack("<15f", 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size, with hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.bin",
        "%2e%2e/secret.bin",
        "..\\secret.bin",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:9/secret.bin",
        "C:/secret.bin",
        "inner/../../secret.bin",
    ],
)
def test_no_way_out_of_the_folder(uri: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(TRIANGLE)
    folder = tmp_path / "meshes"
    folder.mkdir()
    sentence = "outside its own folder|nothing is downloaded|not beside the mesh"
    with pytest.raises(ValueError, match=sentence):
        load_asset(gltf(folder, uri))
    (folder / "good.bin").write_bytes(TRIANGLE)
    assert len(load_asset(gltf(folder, "good.bin")).faces) == 1
    asset = load_asset(gltf(folder, "good.bin", image=uri))
    assert any(re.search(sentence, warning) for warning in asset.warnings)
    assert asset.parts[0].material.texture is None


def test_no_way_out_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(TRIANGLE)
    folder = tmp_path / "meshes"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ValueError, match="outside its own folder"):
        load_asset(gltf(folder, "link.bin"))


@pytest.mark.parametrize("line", ["mtllib ../secret.mtl", "mtllib /etc/passwd"])
def test_no_way_out_of_an_obj(line: str, tmp_path: Path) -> None:
    (tmp_path / "secret.mtl").write_text("newmtl a\nKd 1 0 0\n")
    folder = tmp_path / "meshes"
    folder.mkdir()
    path = folder / "a.obj"
    path.write_text(f"{line}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n")
    asset = load_asset(path)
    assert any("outside its own folder" in warning for warning in asset.warnings)
    assert asset.parts[0].material.base_color[0] != 1


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 10_000)])
def test_image_bombs_are_refused_before_they_are_decoded(size: tuple, tmp_path: Path) -> None:
    (tmp_path / "good.bin").write_bytes(TRIANGLE)
    (tmp_path / "bomb.png").write_bytes(png_of(*size))
    start = time.process_time()
    with pytest.raises(ValueError, match="the limit is .* megapixels"):
        load_asset(gltf(tmp_path, "good.bin", image="bomb.png"))
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd bomb.png\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3\n"
    )
    with pytest.raises(ValueError, match="the limit is .* megapixels"):
        load_asset(tmp_path / "a.obj")
    assert time.process_time() - start < 5


def test_archive_bombs_are_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", b"0" * (1 << 20))
    data = bytearray(packed.getvalue())
    where = data.rindex(b"PK\x01\x02")  # the directory's entry claims 3 GB
    data[where + 24 : where + 28] = struct.pack("<I", 3 << 30)
    (tmp_path / "bomb.3mf").write_bytes(data)
    with pytest.raises(ValueError, match="unpacks to 3.0 GiB, the limit is 2 GiB"):
        load_asset(tmp_path / "bomb.3mf")


def test_too_many_faces_are_counted_and_refused(tmp_path: Path) -> None:
    faces = np.broadcast_to(np.array([[0, 1, 2]], np.int32), (MAX_FACES + 1, 3))
    with pytest.raises(ValueError, match="20,000,001 faces, the limit is 20,000,000"):
        Asset([Part(np.eye(3), faces)])


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.glb"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # sparse: takes no room
    with pytest.raises(ValueError, match="huge.glb has 5.0 GiB, the limit is 4 GiB"):
        load_asset(path)


@pytest.mark.parametrize(
    "node, sentence",
    [
        ({"scale": [1e-320, 1e-320, 1e-320]}, "out of range|no size"),
        ({"scale": [0, 0, 0]}, "no size"),
        ({"rotation": [float("nan"), 0, 0, 1]}, "NaN is not a JSON number"),
        ({"translation": [1e400, 0, 0]}, "no triangles|not a JSON number"),
        ({"matrix": [1, 2, 3]}, "matrix with 3 numbers"),
        ({"mesh": 7}, "refers to meshes.7., but has 1"),
        ({"children": ["x"]}, "nodes.x"),
    ],
)
def test_absurd_nodes(node: dict, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "good.bin").write_bytes(TRIANGLE)
    path = gltf(tmp_path, "good.bin")
    tree = json.loads(path.read_text())
    tree["nodes"][0].update(node)
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=f"triangle.gltf: .*({sentence})"):
        load_asset(path)


def test_endless_node_hierarchies_end(tmp_path: Path) -> None:
    (tmp_path / "good.bin").write_bytes(TRIANGLE)
    path = gltf(tmp_path, "good.bin")
    tree = json.loads(path.read_text())
    tree["nodes"] = [{"children": [1]}, {"children": [0]}]
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match="endless"):
        load_asset(path)


def test_entities_in_xml_are_refused(tmp_path: Path) -> None:
    if find_spec("collada") is None:
        pytest.skip("DAE needs pycollada, which is not installed")
    path = tmp_path / "a.dae"
    path.write_text('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><COLLADA>&b;</COLLADA>')
    with pytest.raises(ValueError, match="XML entities"):
        load_asset(path)


SOURCES = [
    SPOT,
    DATA / "rgb_cube_primitives.gltf",
    DATA / "cube_vertexcolor.glb",
    DATA / "pins_basecolorfactor.glb",
    DATA / "touch_controller_quant.glb",
    DATA / "featuretype.stl",
    DATA / "spot_vertexcolor.ply",
    DATA / "broken" / "degenerate_nan.obj",
    DATA / "broken" / "flat_plane.obj",
    DATA / "spot_webp.glb",
    DATA / "spot_draco.glb",
    DATA / "spot_meshopt.glb",
    DATA / "spot_ktx2.glb",
]
MADE = [made_gltf.skin_bytes, made_gltf.morph_sparse, made_gltf.instancing, made_gltf.animated]
EXPORTED = ["box.3mf", "box.dae", "box.off"]
RULES = ("published", "gltf")
EACH = 50
"""Mutations of each of the twenty files: a thousand."""


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Other digits where digits were (numbers that still parse), or flipped bytes, mostly near the
    front, a cut, a repeated or removed stretch."""
    out = bytearray(data)
    if draw.random() < 0.5:
        digits = [i for i, byte in enumerate(out[:4000]) if 48 <= byte <= 57]
        for place in draw.sample(digits, min(len(digits), draw.choice((1, 2, 4)))):
            out[place] = draw.randrange(48, 58)
        return bytes(out)
    for _ in range(draw.choice((1, 3, 20, 200))):
        span = draw.choice((64, 2000, len(out)))
        out[draw.randrange(min(span, len(out)))] = draw.randrange(256)
    kind = draw.randrange(5)
    place = draw.randrange(len(out))
    if kind == 0:
        del out[place:]
    elif kind == 1:
        del out[place : place + draw.randrange(1, 64)]
    elif kind == 2:
        out[place:place] = out[: draw.randrange(1, 64)]
    return bytes(out)


def original(source: object, folder: Path) -> Path:
    """A file to mutate: a stored one, one of made_gltf, or a coloured box as trimesh writes it."""
    import trimesh

    if isinstance(source, Path):
        return source
    if callable(source):
        return made_gltf.make(source, folder)
    box = trimesh.creation.box()
    box.visual.face_colors = (10, 200, 30, 255)
    box.export(folder / source)
    return folder / source


@pytest.mark.parametrize(
    "source", [*SOURCES, *MADE, *EXPORTED], ids=lambda one: getattr(one, "name", None) or str(one)
)
def test_fuzz(source, tmp_path: Path, watched: list[str]) -> None:
    source = original(source, tmp_path)
    data = source.read_bytes()
    path = tmp_path / "meshes" / f"fuzz{source.suffix}"
    for seed in range(EACH):
        path.write_bytes(mutated(data, random.Random(f"{source.name}{seed}")))
        watched.clear()
        start = time.process_time()
        try:
            views = render_reference_views(load_asset(path), 1, 32, materials=RULES[seed % 2])
        except ValueError as error:
            assert len(str(error).split()) > 4, (seed, error)
        else:
            assert np.isfinite(views.point_maps).all() and np.isfinite(views.colors).all(), seed
            assert 0 <= views.point_maps.min() and views.point_maps.max() <= 1, seed
        assert time.process_time() - start < 20, seed
        assert watched == [], seed
