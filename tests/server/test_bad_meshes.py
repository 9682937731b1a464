"""Broken mesh files through the server: a sentence, and the queue goes on."""

import re
import struct
from pathlib import Path

import pytest

from comfy_server import ServerError

pytestmark = pytest.mark.server

SPOT = Path(__file__).resolve().parents[2] / "assets" / "spot.glb"


def views_graph(mesh: str, **render: object) -> dict:
    """Load Mesh, Render Reference Views and a preview: no model needed."""
    sizes = {"views": 2, "resolution": 64, "radius": 4.0, "pitch": 0.0, "y_rotation": 0.0}
    return {
        "1": {"class_type": "RefAny3D_LoadMesh", "inputs": {"mesh_file": mesh}},
        "2": {
            "class_type": "RefAny3D_RenderViews",
            "inputs": {"mesh": ["1", 0], **sizes, **render},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 1]}},
    }


@pytest.fixture
def refusal(server):
    """`refusal(file name, content)`: how a mesh is refused; the next prompt must go through."""

    def run(name: str, content: bytes | None) -> str:
        if content is not None:
            (server.base / "input" / "3d" / name).write_bytes(content)
        with pytest.raises(ServerError) as error:
            server.run(views_graph(f"3d/{name}"))
        assert server.running()
        return str(error.value)

    yield run
    assert server.run(views_graph("3d/spot.glb"))["3"]["images"]


def obj(*lines: str) -> bytes:
    return "\n".join(lines).encode()


TRIANGLE = ("v 0 0 0", "v 1 0 0", "v 0 1 0", "f 1 2 3")
BROKEN = {
    "empty.glb": b"",
    "text.glb": b"this is not a mesh\n" * 50,
    "truncated.glb": SPOT.read_bytes()[: SPOT.stat().st_size // 3],
    "points.obj": obj("v 0 0 0", "v 1 0 0", "v 0 1 0"),
    "empty.stl": b"\0" * 80 + struct.pack("<I", 0),
    "index.obj": obj(*TRIANGLE, "f 1 2 77"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mesh_is_refused_in_words(refusal, name):
    message = refusal(name, BROKEN[name])
    assert message.startswith("RefAny3D_LoadMesh: Load Mesh:"), message
    assert name in message
    assert len(message.split()) > 8
    assert not re.search(r"\b(Index|Key|Type|Attribute)Error\b|struct\.error", message)


def test_a_missing_mesh_names_the_folder(refusal):
    message = refusal("nowhere.glb", None)
    assert "Load Mesh" in message and "nowhere.glb" in message and "input/3d" in message


def test_a_path_outside_is_refused(server, refusal, tmp_path):
    (server.base / "secret.obj").write_bytes(obj(*TRIANGLE))
    message = refusal("../../secret.obj", None)
    assert "Load Mesh" in message and "input" in message


def test_flat_and_damaged_but_drawable_meshes(server):
    """A flat axis must not divide by zero; a NaN vertex is dropped or refused in words."""
    folder = server.base / "input" / "3d"
    (folder / "flat.obj").write_bytes(
        obj("v -1 -1 0", "v 1 -1 0", "v 1 1 0", "v -1 1 0", "f 1 2 3", "f 1 3 4")
    )
    assert server.run(views_graph("3d/flat.obj"))["3"]["images"]
    (folder / "nan.obj").write_bytes(obj(*TRIANGLE, "v nan 0 0", "v 1 1 1", "f 1 2 4", "f 1 2 5"))
    try:
        assert server.run(views_graph("3d/nan.obj"))["3"]["images"]
    except ServerError as error:
        assert "Load Mesh" in str(error) and "nan" in str(error).lower()
    assert server.running()


def test_a_file_that_changes_on_disk_is_read_anew(server):
    """Load Mesh is cached by content: another mesh under the same name must be seen."""
    file = server.base / "input" / "3d" / "changing.obj"
    corners = ("v 0 0 0", "v 1 0 0", "v 1 1 1", "v 0 1 0")
    file.write_bytes(obj(*corners, "f 1 2 3"))
    first = server.run(views_graph("3d/changing.obj"))["2"]["images"]
    again = server.wait(server.queue(views_graph("3d/changing.obj")))
    cached = next(data["nodes"] for kind, data in again["status"]["messages"]
                  if kind == "execution_cached")  # fmt: skip
    assert "1" in cached
    file.write_bytes(obj(*corners, "f 1 2 3", "f 1 3 4"))
    changed = server.run(views_graph("3d/changing.obj"))["2"]["images"]

    def content(images: list[dict]) -> bytes:
        return server.get_bytes(f"/view?filename={images[0]['filename']}&type=temp")

    assert content(first) != content(changed)


def test_an_uploaded_mesh_is_found(server):
    """As the page's upload does it: POST to the input folder's 3d, then use the answer's name."""
    answer = server.upload(SPOT, subfolder="3d")
    name = f"{answer['subfolder']}/{answer['name']}"
    assert server.run(views_graph(name))["3"]["images"]
