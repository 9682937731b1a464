"""The pack in the real server."""

import pytest

pytestmark = pytest.mark.server

FIXED_NODES = {
    "RefAny3D_LoadMesh",
    "RefAny3D_RenderViews",
    "RefAny3D_LoadAdapters",
    "RefAny3D_EncodeReferences",
    "RefAny3D_Apply",
    "RefAny3D_Sampler",
    "RefAny3D_SplitLatent",
    "RefAny3D_DecodePointMap",
}


def test_the_server_offers_the_nodes(server):
    info = server.get("/object_info")
    assert FIXED_NODES <= set(info)
    assert "IMPORT FAILED" not in server.log()


def test_every_input_and_output_has_a_tooltip(server):
    info = server.get("/object_info")
    lacking = []
    for name in (name for name in info if name.startswith("RefAny3D_")):
        node = info[name]
        assert node["category"] == "RefAny3D"
        for group in ("required", "optional"):
            for key, definition in node["input"].get(group, {}).items():
                if len(definition) < 2 or not definition[1].get("tooltip"):
                    lacking.append(f"{name}.{key}")
        tips = node.get("output_tooltips") or [None] * len(node["output"])
        lacking += [
            f"{name} -> {out}"
            for out, tip in zip(node["output_name"], tips, strict=True) if not tip
        ]  # fmt: skip
    assert lacking == []


def test_no_opengl_in_the_process(server):
    """Headless machines: our rendering needs no GL, and must not bring any into the process."""
    maps = f"/proc/{server.process.pid}/maps"
    try:
        text = open(maps).read()
    except OSError:
        pytest.skip("no /proc on this system")
    for library in ("libOSMesa", "nvdiffrast", "pyrender"):
        assert library not in text
