"""Small files that ask for much: each ends in a sentence or a picture, within seconds and 2 GB.

Each runs in a process of its own, whose time and memory are its own.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_gltf import Gltf, box
from test_hostile_files import png_of

ROOT = Path(__file__).resolve().parents[2]
GIGABYTES = 2.0  # of resident memory
HANG_SECONDS = 60.0  # of processor time; each takes under 5 on an idle machine
CHILD = """
import json, re, sys, time
sys.path.insert(0, {root!r})
from refany3d_core.asset import load_asset, render_reference_views
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")  # starts the peak of memory anew
    start = time.process_time()
    try:
        views = render_reference_views(load_asset(path), 2, 256)
        out = "drawn: " + "; ".join(views.warnings)
    except ValueError as error:
        out = str(error)
    seconds = time.process_time() - start
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
    print(json.dumps([path, out, seconds, int(peak) / 2**20]), flush=True)
"""


def triangle(gltf: Gltf, count: int = 1) -> int:
    return gltf.mesh(np.eye(3), np.tile([[0, 1, 2]], (count, 1)))


def sparse(folder: Path) -> Path:
    gltf = Gltf()
    gltf.node(mesh=triangle(gltf))
    gltf.tree["accessors"][0] = {
        "componentType": 5126, "count": 200_000_000, "type": "VEC3",
        "sparse": {
            "count": 1,
            "indices": {"bufferView": 1, "componentType": 5125},
            "values": {"bufferView": 0},
        },
    }  # fmt: skip
    return gltf.save(folder / "sparse.glb")


def many_images(folder: Path) -> Path:
    """One picture of 100 megapixels, taken for 40 textures."""
    from PIL import Image

    gltf = Gltf()
    with open(folder / "a.png", "wb") as file:
        Image.new("L", (10_000, 10_000)).save(file, compress_level=1)
    view = gltf.view((folder / "a.png").read_bytes())
    for i in range(40):
        gltf.add("images", {"bufferView": view, "mimeType": "image/png"})
        gltf.add("textures", {"source": i})
        gltf.material()
        gltf.tree["materials"][i]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": i}
        mesh = gltf.mesh(np.eye(3), [[0, 1, 2]], i, TEXCOORD_0=gltf.array(np.zeros((3, 2))))
        gltf.node(mesh=mesh)
    return gltf.save(folder / "images.glb")


def one_image(folder: Path) -> Path:
    gltf = Gltf()
    view = gltf.view(png_of(50_000, 3_000))
    gltf.add("images", {"bufferView": view, "mimeType": "image/png"})
    gltf.add("textures", {"source": 0})
    gltf.material()
    gltf.tree["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    gltf.node(mesh=gltf.mesh(np.eye(3), [[0, 1, 2]], 0, TEXCOORD_0=gltf.array(np.zeros((3, 2)))))
    return gltf.save(folder / "image.glb")


def branching(folder: Path) -> Path:
    """Twenty nodes, each twice the child of the one before: 524,288 parts."""
    gltf = Gltf()
    gltf.node(mesh=triangle(gltf))
    for i in range(1, 20):
        gltf.add("nodes", {"children": [i - 1, i - 1]})
    gltf.tree["scenes"][0]["nodes"] = [19]
    return gltf.save(folder / "branching.glb")


def coincident(folder: Path) -> Path:
    gltf = Gltf()
    corners = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    gltf.node(mesh=gltf.mesh(corners, np.tile([[0, 1, 2]], (100_000, 1))))
    return gltf.save(folder / "coincident.glb")


def nearly_coincident(folder: Path) -> Path:
    gltf = Gltf()
    corners = np.tile([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]], (100_000, 1))
    corners += np.random.default_rng(0).normal(size=corners.shape) * 1e-6
    gltf.node(mesh=gltf.mesh(corners, np.arange(300_000)))
    return gltf.save(folder / "near.glb")


def many_nodes(folder: Path) -> Path:
    gltf = Gltf()
    mesh = triangle(gltf)
    for i in range(40_000):
        gltf.node(mesh=mesh, translation=[i % 200, i // 200, 0])
    return gltf.save(folder / "nodes.glb")


def many_parts(folder: Path) -> Path:
    gltf = Gltf()
    vertices, faces = box((0.5, 0.5, 0.5))
    where, index = gltf.array(vertices), gltf.array(np.ravel(faces), "I")
    for i in range(20_000):
        material = gltf.material((i % 7 / 7, i % 11 / 11, i % 13 / 13, 1))
        primitive = {"attributes": {"POSITION": where}, "indices": index, "material": material}
        mesh = gltf.add("meshes", {"primitives": [primitive]})
        gltf.node(mesh=mesh, translation=[i % 25, i // 25 % 25, i // 625])
    return gltf.save(folder / "parts.glb")


def shared_vertices(folder: Path) -> Path:
    """Two thousand primitives over one buffer of 200,000 vertices."""
    gltf = Gltf()
    where = gltf.array(np.random.default_rng(0).normal(size=(200_000, 3)))
    primitives = [
        {"attributes": {"POSITION": where}, "indices": gltf.array([i, i + 1, i + 2], "I")}
        for i in range(2000)
    ]
    gltf.node(mesh=gltf.add("meshes", {"primitives": primitives}))
    return gltf.save(folder / "shared.glb")


def instances(folder: Path) -> Path:
    """A million instances of a mesh of a hundred faces."""
    gltf = Gltf()
    scale = gltf.array(np.ones((1_000_000, 3), np.int8), "b")
    gltf.node(
        mesh=triangle(gltf, 100),
        extensions={"EXT_mesh_gpu_instancing": {"attributes": {"SCALE": scale}}},
    )
    gltf.tree["extensionsUsed"] = ["EXT_mesh_gpu_instancing"]
    return gltf.save(folder / "instances.glb")


def stl_header(folder: Path) -> Path:
    (folder / "header.stl").write_bytes(b"\0" * 80 + b"\xff\xff\xff\xff" + b"\0" * 50)
    return folder / "header.stl"


def ply_header(folder: Path) -> Path:
    (folder / "header.ply").write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 2000000000\nproperty float x\n"
        b"property float y\nproperty float z\nelement face 2000000000\n"
        b"property list uchar int vertex_indices\nend_header\n" + b"\0" * 100
    )
    return folder / "header.ply"


def off_header(folder: Path) -> Path:
    (folder / "header.off").write_text("OFF\n2000000000 2000000000 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2")
    return folder / "header.off"


BOMBS = {
    sparse: "200,000,000 elements without data, the limit is",
    many_images: "megapixels together, the limit is|drawn",
    one_image: "drawn: .*damaged",
    branching: "endless",
    coincident: "faces lie on one another",
    nearly_coincident: "faces lie on one another",
    many_nodes: "drawn",
    many_parts: "drawn",
    shared_vertices: "drawn",
    instances: "more than 20,000,000 faces",
    stl_header: "no triangles",
    ply_header: "PLY",
    off_header: "OFF",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, float]]:
    """By generator: what was said, seconds, gigabytes. All in one process, which must survive."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = {str(make(folder)): make.__name__ for make in BOMBS}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(root=str(ROOT)), *paths],
        capture_output=True, text=True, timeout=600, env=environment,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    lines = map(json.loads, child.stdout.splitlines())
    return {paths[path]: tuple(rest) for path, *rest in lines}


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")
@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_bomb(make, answers) -> None:
    sentence, seconds, gigabytes = answers[make.__name__]
    print(f"{make.__name__}: {sentence[:100]} ({seconds:.2f} s, {gigabytes:.2f} GB)")  # noqa: T201
    assert re.search(BOMBS[make], sentence), sentence
    assert gigabytes < GIGABYTES and seconds < HANG_SECONDS
