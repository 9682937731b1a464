"""Point clouds for other programs."""

import numpy as np
import pytest
import torch

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
