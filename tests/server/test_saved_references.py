"""Save and Load Reference in the real server: the host's cache must not speak for them."""

import pytest

from comfy_server import ServerError

pytestmark = pytest.mark.server


def link(key: str, output: int = 0) -> list:
    return [key, output]


def graph_of(pitch: float, **more: dict) -> dict:
    """The bundled mesh rendered once, encoded and saved as "kept"; a pitch is an asset."""
    return {
        "models": {"class_type": "RefAny3D_LoadDemoModels", "inputs": {}},
        "mesh": {
            "class_type": "RefAny3D_LoadMesh",
            "inputs": {"mesh_file": "examples/mushroom.glb"},
        },
        "render": {
            "class_type": "RefAny3D_RenderViews",
            "inputs": {"mesh": link("mesh"), "views": 1, "resolution": 96, "radius": 4.0,
                       "pitch": pitch, "y_rotation": 0.0},
        },
        "encode": {
            "class_type": "RefAny3D_EncodeReferences",
            "inputs": {"vae": link("models", 2), "views": link("render"),
                       "point_maps": link("render", 1)},
        },
        "save": {
            "class_type": "RefAny3D_SaveReference",
            "inputs": {"reference": link("encode"), "name": "kept"},
        },
        **more,
    }  # fmt: skip


def load_and_copy(**after: list) -> dict:
    return {
        "load": {"class_type": "RefAny3D_LoadReference", "inputs": {"name": "kept", **after}},
        "copy": {
            "class_type": "RefAny3D_SaveReference",
            "inputs": {"reference": link("load"), "name": "copy"},
        },
    }


@pytest.fixture
def files(server):
    """Paths of "kept" and "copy", neither of them there."""
    folder = server.base / "models" / "refany3d" / "references"
    found = [folder / "kept.safetensors", folder / "copy.safetensors"]
    for file in found:
        file.unlink(missing_ok=True)
    return found


def test_a_removed_or_replaced_file_is_saved_again(server, files):
    kept, _ = files
    server.run(graph_of(10.0))
    saved = kept.read_bytes()
    kept.unlink()
    server.run(graph_of(10.0))
    assert kept.read_bytes() == saved
    kept.write_bytes(b"of another program")
    server.run(graph_of(10.0))
    assert kept.read_bytes() == saved


def test_the_name_holds_the_asset_of_the_last_run(server, files):
    kept, _ = files
    contents = []
    for pitch in (10.0, 20.0, 10.0, 20.0):
        server.run(graph_of(pitch))
        contents.append(kept.read_bytes())
    assert contents[0] == contents[2] != contents[1] == contents[3]


def test_saving_and_loading_in_one_graph(server, files):
    """With `after`, the very first run works, and a change of the asset arrives at once."""
    kept, copy = files
    server.run(graph_of(10.0, **load_and_copy(after=link("save"))))
    first = kept.read_bytes()
    assert copy.read_bytes() == first
    server.run(graph_of(20.0, **load_and_copy(after=link("save"))))
    assert copy.read_bytes() == kept.read_bytes() != first


def test_loading_what_another_node_replaces_is_told(server, files):
    with pytest.raises(ServerError, match="there is no 'kept' in models/refany3d/references"):
        server.run({"load": {**load_and_copy()["load"]}, "copy": load_and_copy()["copy"]})
    server.run(graph_of(10.0))
    said = "'kept' has just been replaced, and Load Reference of this graph may have read it"
    before = server.log().count(said)
    server.run(graph_of(20.0, **load_and_copy()))
    assert server.log().count(said) == before + 1
