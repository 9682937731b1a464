"""Point clouds for other programs, and references as files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from refany3d_core.asset import Camera, look_at, render


@pytest.fixture(scope="module")
def cloud(pack):
    def run(image, point_map, **options):
        node = pack.nodes["RefAny3D_PointCloud"]
        tensors = [torch.from_numpy(np.stack(x)).float() for x in (image, point_map)]
        return node.execute(*tensors, **options).result[0]

    return run


def test_point_cloud_lies_on_the_mesh_in_its_colours(pack, cloud, assets, mesh_files):
    import trimesh

    asset = assets["truck"]
    view = render(asset, Camera(look_at((3, 1, 2)), 40, 160, 128))
    own = pack.core("asset").load_asset(mesh_files["truck"])
    file = cloud([view.color], [view.point_map], mesh=own, min_confidence=0.0)
    assert file.format == "ply"
    loaded = trimesh.load(file.get_data(), file_type="ply")
    assert 0.95 * view.mask.sum() < len(loaded.vertices) <= 1.02 * view.mask.sum()
    low, high = asset.bounds
    assert (loaded.vertices >= low - 1e-3).all() and (loaded.vertices <= high + 1e-3).all()
    true = view.points[view.mask] / asset.scale + asset.centre
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(true).query(loaded.vertices)
    assert np.quantile(distance, 0.99) < 1e-3 * (high - low).max()
    off = np.abs(loaded.colors[:, :3] / 255 - view.color[view.mask][nearest]).max(1)
    assert (off < 0.01).mean() > 0.99
    sure = cloud([view.color], [view.point_map], min_confidence=0.9)
    assert len(trimesh.load(sure.get_data(), file_type="ply").vertices) < len(loaded.vertices)


def test_core_takes_the_point_cloud(cloud, host_base):
    """Core's Preview Point Cloud writes it to its temp folder."""
    from comfy_extras.nodes_load_3d import PreviewPointCloud

    picture = np.ones((64, 64, 3))
    picture[16:48, 16:48] = 0.4
    file = cloud([picture], [picture])
    PreviewPointCloud.execute(file, {}, 512, 512)
    from pathlib import Path

    import folder_paths

    written = list(Path(folder_paths.get_temp_directory()).glob("preview_pointcloud_*.ply"))
    assert written and written[0].read_bytes().startswith(b"ply\nformat binary_little_endian")


def test_bad_clouds(cloud):
    white, grey = np.ones((64, 64, 3)), np.full((64, 64, 3), 0.5)
    with pytest.raises(ValueError, match="^Point Cloud from Point Map: no pixel .* is left"):
        cloud([grey], [white])
    with pytest.raises(ValueError, match="image is 32x64, but the point map 64x64"):
        cloud([grey[:, :32]], [grey])
    with pytest.raises(ValueError, match="batch_index is 1, but there are 1 pictures"):
        cloud([grey], [grey], batch_index=1)


@pytest.fixture(scope="module")
def references(pack):
    """Reference class, and the two nodes."""
    return (
        pack.core("reference").Reference,
        pack.nodes["RefAny3D_SaveReference"],
        pack.nodes["RefAny3D_LoadReference"],
    )


def make(Reference, seed=0, views=2):
    g = torch.Generator().manual_seed(seed)
    shapes = (views, 16, 8, 8), (views, 16, 8, 8), (1, 16, 8, 8)
    return Reference(*(torch.randn(shape, generator=g) for shape in shapes))


def test_reference_goes_to_a_file_and_back(references):
    Reference, save, load = references
    first, second = make(Reference), make(Reference, 1)
    save.execute(first, "my cow-1")
    assert "my cow-1" in load.define_schema().inputs[0].options
    assert load.validate_inputs("my cow-1") is True
    (again,) = load.execute("my cow-1").result
    for name in ("view_latents", "point_map_latents", "empty_latent"):
        assert torch.equal(getattr(again, name), getattr(first, name))
    before = load.fingerprint_inputs("my cow-1")
    save.execute(second, "my cow-1")
    assert load.fingerprint_inputs("my cow-1") != before
    assert torch.equal(load.execute("my cow-1").result[0].view_latents, second.view_latents)


def test_sampling_from_a_loaded_reference_is_the_same(golden, references):
    _, save, load = references
    reference = golden.golden_reference()
    save.execute(reference, "golden")
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    outs = [
        golden.sample(golden.apply(r), noise, sigmas, 2.0)
        for r in (reference, load.execute("golden").result[0])
    ]
    assert torch.equal(*outs)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "c:x"])
def test_names_that_are_no_file_names(references, name):
    Reference, save, load = references
    with pytest.raises(ValueError, match="Save Reference: name is"):
        save.execute(make(Reference), name)
    assert "there is no" in load.validate_inputs(name)


def test_damaged_and_foreign_files(references, host_base):
    Reference, save, load = references
    folder = host_base / "models" / "refany3d" / "references"
    save.execute(make(Reference), "cut")
    path = folder / "cut.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="'cut' cannot be read .* save the reference again"):
        load.execute("cut")
    save_file({"a": torch.zeros(1)}, folder / "lora.safetensors")
    with pytest.raises(ValueError, match="'lora' is no reference"):
        load.execute("lora")
    save.execute(Reference(*[torch.zeros(n, 16, 8, 8) for n in (2, 3, 1)]), "uneven")
    with pytest.raises(ValueError, match="shapes that do not belong together"):
        load.execute("uneven")
    save.execute(Reference(*[torch.full((1, 16, 8, 8), torch.nan)] * 3), "nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        load.execute("nan")
    with pytest.raises(ValueError, match="there is no 'nothing' in models/refany3d/references"):
        load.execute("nothing")
