"""Both backends see the same faces, also where meshes are nasty; cameras and options."""

import pickle

import numpy as np
import pytest

from refany3d_core.asset import Asset, Camera, Part, look_at, orbit, render, render_reference_views
from refany3d_core.asset.cameras import azimuths, from_viewport, orbit_pose
from refany3d_core.asset.material import Material, Texture
from refany3d_core.asset.raycast_embree import EmbreeCaster
from refany3d_core.asset.zbuffer import ZBufferCaster


def soup(count: int, seed: int, size: float = 0.5) -> Asset:
    """Random overlapping triangles."""
    random = np.random.default_rng(seed)
    middle = random.uniform(-1, 1, (count, 1, 3))
    vertices = (middle + random.normal(0, size, (count, 3, 3))).reshape(-1, 3)
    colors = np.ones((len(vertices), 4), np.float32)
    colors[:, :3] = random.random((len(vertices), 3))
    return Asset([Part(vertices, np.arange(len(vertices)).reshape(-1, 3), colors=colors)])


def brute_force(asset: Asset, camera: Camera, near: float = 0.1) -> np.ndarray:
    """Depth of the nearest face for every pixel, every ray against every face."""
    a, b, c = (asset.vertices[asset.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    direction = camera.directions().reshape(-1, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = ((a - camera.eye) * normal).sum(1) / (direction @ normal.T)
    point = camera.eye + t[..., None] * direction[:, None]
    inside = (t > near) & np.isfinite(t)
    for p, q in ((a, b), (b, c), (c, a)):
        inside &= (np.cross(q - p, point - p) * normal).sum(-1) >= 0
    return np.where(inside, t, np.inf).min(1).reshape(camera.height, camera.width)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", ["embree", "numpy"])
def test_against_brute_force(backend: str, seed: int) -> None:
    asset = soup(60, seed)
    random = np.random.default_rng(seed)
    # inside the mesh as well: triangles cross the camera plane
    pose = look_at(random.normal(0, 0.7 + seed, 3), random.normal(0, 0.1, 3))
    camera = Camera(pose, 60, 40, 30, shift=(3.5, -2.0))
    depth = brute_force(asset, camera)
    view = render(asset, camera, backend=backend)
    differs = view.mask != np.isfinite(depth)
    assert np.count_nonzero(differs) <= 2
    both = view.mask & np.isfinite(depth)
    assert np.count_nonzero(np.abs(view.depth - depth)[both] > 1e-4) <= 2


def test_backends_agree_on_large_and_small_triangles() -> None:
    for asset, size in ((soup(300, 1, 0.5), 200), (soup(20_000, 2, 0.01), 100)):
        for camera in orbit(3, size, pitch=20):
            first = render(asset, camera, backend="embree")
            second = render(asset, camera, backend="numpy")
            assert np.count_nonzero(first.mask != second.mask) <= 3
            other = np.abs(first.point_map - second.point_map).max(-1) > 1e-5
            assert np.count_nonzero(other) <= 12


def test_shared_edges_leave_no_pixel_uncovered() -> None:
    """A finely cut square, unwelded: no hole may show between its triangles."""
    n = 37
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    grid = np.stack([x, y, 0 * x], -1)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    triangles = np.stack([a, b, c, a, c, d], axis=2).reshape(-1, 3)
    asset = Asset([Part(triangles, np.arange(len(triangles)).reshape(-1, 3))])
    for angle in (0, 7, 30):
        eye = (np.sin(angle), 0.3, 2.0)
        for caster in (EmbreeCaster, ZBufferCaster):
            rays = caster(asset.vertices, asset.faces)
            faces = rays.first_faces(Camera(look_at(eye), 20, 150, 150))
            assert (faces >= 0).all()


def test_a_hit_behind_is_found_beyond_the_first() -> None:
    cube = box()
    camera = Camera(orbit_pose(0), 45, 16, 16)
    for caster in (EmbreeCaster, ZBufferCaster):
        rays = caster(cube.vertices, cube.faces)
        beyond = np.full((16, 16), np.inf)
        beyond[8, 8] = 3.5
        found = rays.first_faces(camera, beyond)
        assert np.count_nonzero(found >= 0) == 1
        assert cube.vertices[cube.faces[found[8, 8]]][:, 0].max() == -1


def box(material: Material = Material(), colors: np.ndarray | None = None) -> Asset:
    import trimesh

    mesh = trimesh.creation.box((2, 2, 2))
    faces = np.array(mesh.faces, np.int32)
    return Asset([Part(np.array(mesh.vertices), faces, material, None, colors)])


def test_published_azimuths() -> None:
    assert azimuths(8) == pytest.approx([0, 42, 84, 126, 168, 210, 252, 294])
    assert azimuths(7) == pytest.approx([48 * i for i in range(7)])
    assert azimuths(3) == pytest.approx([0, 120, 240])
    assert azimuths(8, even=True) == pytest.approx([45 * i for i in range(8)])
    with pytest.raises(ValueError, match="1 to 60"):
        azimuths(61)


def test_supersampling_smooths_colours_only() -> None:
    plain = render_reference_views(box(), 2, 64, pitch=20)
    smooth = render_reference_views(box(), 2, 64, pitch=20, supersampling=3)
    assert np.array_equal(plain.point_maps, smooth.point_maps)
    assert np.array_equal(plain.masks, smooth.masks)
    assert len(np.unique(plain.colors)) == 2 < len(np.unique(smooth.colors))


def test_headlight_background_and_fov() -> None:
    views = render_reference_views(
        box(Material((1, 1, 1, 1))), 1, 64, shading="headlight", background=(0, 0.5, 1), fov=60
    )
    on = views.masks > 0
    assert np.allclose(views.colors[~on], (0, 0.5, 1))
    assert np.allclose(views.colors[0, 32, 32], 1, atol=1e-3)
    assert views.colors[on].min() < 0.99
    assert views.masks.sum() < render_reference_views(box(), 1, 64).masks.sum()
    assert (views.point_maps[~on] == 1).all()


def test_y_rotation_turns_the_colours_of_the_map_only() -> None:
    plain = render_reference_views(box(), 2, 48)
    turned = render_reference_views(box(), 2, 48, y_rotation=90)
    assert np.array_equal(plain.colors, turned.colors)
    on = plain.masks > 0
    # x' = z, z' = -x in [-1, 1]
    before, after = plain.point_maps[on], turned.point_maps[on]
    np.testing.assert_allclose(after[:, 0], before[:, 2], atol=1e-6)
    np.testing.assert_allclose(after[:, 2], 1 - before[:, 0], atol=1e-6)
    clamped = render_reference_views(box(), 2, 48, y_rotation=45).point_maps
    assert clamped.min() >= 0 and clamped.max() <= 1


def test_pitches_and_auto_fit() -> None:
    views = render_reference_views(box(), 2, 64, pitch=[0, 30])
    assert views.cameras[1].eye[1] == pytest.approx(4 * np.sin(np.radians(30)))
    cropped = render_reference_views(box(), 8, 64, pitch=20)
    assert any("cropped" in warning for warning in cropped.warnings)
    fitted = render_reference_views(box(), 8, 64, pitch=20, auto_fit=True)
    assert not fitted.warnings
    covered = fitted.masks.any((0, 1)).sum(), fitted.masks.any((0, 2)).sum()
    assert max(covered) > 48  # close, too
    with pytest.raises(ValueError, match="3 pitches for 2 views"):
        render_reference_views(box(), 2, 64, pitch=[0, 1, 2])


def test_gltf_materials_honour_alpha_and_factors() -> None:
    import trimesh

    def layer(z: float, material: Material) -> Part:
        corners = np.array([[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]], np.float64)
        uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
        return Part(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), material, uv)

    half = np.full((2, 2, 4), 255, np.uint8)
    half[:, 0, 3] = 0  # the left half is cut out
    asset = Asset(
        [
            layer(0.4, Material((1, 1, 1, 1), Texture(half, ("clamp", "clamp")), "MASK", 0.5)),
            layer(0.2, Material((1, 0, 0, 0.5), None, "BLEND")),
            layer(-0.4, Material((0, 0, 1, 1))),
        ]
    )
    camera = Camera(look_at((0, 0, 4)), 30, 32, 32)
    published = render(asset, camera)
    assert np.allclose(published.color[16], 1)
    for backend in ("embree", "numpy"):
        view = render(asset, camera, backend=backend, materials="gltf")
        left, right = view.color[16, 8], view.color[16, 24]
        np.testing.assert_allclose(left, (0.5, 0, 0.5), atol=1e-3)
        np.testing.assert_allclose(right, 1, atol=1e-3)
        assert view.mask.all()
    inside_out = trimesh.creation.box((2, 2, 2))
    inside_out.invert()
    material = Material((1, 0, 0, 1), double_sided=False)
    part = Part(np.array(inside_out.vertices), np.array(inside_out.faces, np.int32), material)
    seen = render(Asset([part]), Camera(orbit_pose(0), 45, 16, 16), materials="gltf")
    assert seen.points[8, 8, 0] == pytest.approx(-1)  # through the back faces, to the far side


def test_texture_wrap_modes() -> None:
    pixels = np.zeros((1, 4, 4), np.uint8)
    pixels[0, :, 0] = (0, 80, 160, 240)
    u = np.array([[0.125, 0.5], [1.125, 0.5], [-0.125, 0.5], [1.25, 0.5]])

    def red(wrap: str) -> list[float]:
        return (Texture(pixels, (wrap, wrap)).sample(u)[:, 0] * 255).round(3).tolist()

    assert red("repeat") == [0, 0, 240, 40]
    assert red("clamp") == [0, 240, 0, 240]
    assert red("mirror") == [0, 240, 0, 200]


def test_the_viewports_camera_lands_in_our_frame() -> None:
    """A box of 4 x 2 x 4 around (1, 1, 1), seen from 8 before its middle."""
    import trimesh

    mesh = trimesh.creation.box((4, 2, 4))
    asset = Asset([Part(np.array(mesh.vertices) + 1, np.array(mesh.faces, np.int32))])
    info = {
        "position": {"x": 1, "y": 1, "z": 9}, "target": {"x": 1, "y": 1, "z": 1}, "zoom": 1,
        "cameraType": "perspective", "fov": 35, "quaternion": {"x": 0, "y": 0, "z": 0, "w": 1},
    }  # fmt: skip
    camera = from_viewport(info, asset, 64, 64)
    np.testing.assert_allclose(camera.eye, (0, 0, 4), atol=1e-12)
    np.testing.assert_allclose(camera.pose[:3, 2], (0, 0, 1), atol=1e-12)
    assert from_viewport(info | {"zoom": 2}, asset, 64, 64).fov < 20
    with pytest.raises(ValueError, match="orthographic"):
        from_viewport(info | {"cameraType": "orthographic"}, asset, 64, 64)
    # half as large, a quarter turn about Y (its +X towards the camera), and moved
    quarter = {"x": 0, "y": -(0.5**0.5), "z": 0, "w": 0.5**0.5}
    placed = {"position": {"x": 1, "y": 0, "z": 0}, "quaternion": quarter}
    placed["scale"] = dict.fromkeys("xyz", 0.5)
    # the file's middle (1, 1, 1) is then at (1, 0, 0) + (-1, 1, 1) / 2, and it is 2 long
    near = {"position": {"x": 0.5, "y": 0.5, "z": 4.5}, "target": {"x": 0.5, "y": 0.5, "z": 0.5}}
    camera = from_viewport(info | near, asset, 64, 64, [placed])
    np.testing.assert_allclose(camera.eye, (4, 0, 0), atol=1e-12)
    np.testing.assert_allclose(camera.pose[:3, 2], (1, 0, 0), atol=1e-12)
    with pytest.raises(ValueError, match="unevenly"):
        placed["scale"] = {"x": 1, "y": 2, "z": 1}
        from_viewport(info, asset, 64, 64, [placed])


def test_the_camera_of_an_older_page_lands_in_our_frame() -> None:
    """Up to frontend 1.43 a model of 4 x 2 x 4 stands 5 x 2.5 x 5 on the floor at the origin."""
    import trimesh

    mesh = trimesh.creation.box((4, 2, 4))
    asset = Asset([Part(np.array(mesh.vertices) + 1, np.array(mesh.faces, np.int32))])
    info = {"position": {"x": 0, "y": 1.25, "z": 10}, "target": {"x": 0, "y": 1.25, "z": 0}}
    camera = from_viewport(info, asset, 64, 64)
    np.testing.assert_allclose(camera.eye, (0, 0, 4), atol=1e-12)
    np.testing.assert_allclose(camera.pose[:3, 2], (0, 0, 1), atol=1e-12)


def test_progress_is_told_for_each_view_and_can_stop() -> None:
    told = []
    render_reference_views(box(), 3, 16, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 3) and told[-1] == (3, 3) and {d for d, _ in told} == {0, 1, 2, 3}

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        render_reference_views(box(), 3, 16, progress=stop)


def test_an_asset_that_was_rendered_goes_to_another_process():
    asset = soup(20, 0)
    camera = Camera(look_at((1, 2, 4)), 45.0, 32, 32)
    here = render(asset, camera).color
    assert np.array_equal(render(pickle.loads(pickle.dumps(asset)), camera).color, here)
