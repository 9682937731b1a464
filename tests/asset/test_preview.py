"""A preview picture that cannot be written takes no finished work with it."""

import folder_paths


def test_views_survive_a_temp_folder_that_refuses(pack, tmp_path, monkeypatch, signpost):
    blocked = tmp_path / "file"
    blocked.write_text("where the temp folder should be")
    monkeypatch.setattr(folder_paths, "temp_directory", str(blocked))
    node = pack.nodes["RefAny3D_RenderViews"]
    out = node.execute(signpost, views=2, resolution=32)
    assert out.result[0].shape == (2, 32, 32, 3)
    assert "images" not in out.ui
    (line,) = [line for line in out.ui["notes"] if "preview" in line]
    assert line.startswith("No preview, the outputs are whole; a file is where a folder should be")
