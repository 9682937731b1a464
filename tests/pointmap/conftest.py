"""Real meshes, and point maps of them as bad as a VAE makes them."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from refany3d_core.asset import Camera, load_asset, look_at, render

ROOT = Path(__file__).resolve().parent.parent.parent
MESHES = {
    "spot": ROOT / "assets" / "spot.glb",
    "controller": ROOT / "tests/data/meshes/touch_controller.glb",
    "truck": ROOT / "tests/data/meshes/cesium_milk_truck.glb",
    "cube": ROOT / "tests/data/meshes/rgb_cube_primitives.gltf",
}


@pytest.fixture(scope="session")
def assets():
    return {name: load_asset(path) for name, path in MESHES.items()}


def spoiled_map(asset, camera: Camera, seed: int = 0, blur: float = 1.2) -> np.ndarray:
    """The true map with VAE-like blur, 8 bits a channel and 2 % of random pixels."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    out = ndimage.gaussian_filter(render(asset, camera).point_map, (blur, blur, 0))
    out = np.round(out * 255) / 255
    wrong = rng.random(out.shape[:2]) < 0.02
    out[wrong] = rng.random((int(wrong.sum()), 3))
    return out


def random_camera(seed: int, size: int = 256) -> Camera:
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    eye = direction / np.linalg.norm(direction) * rng.uniform(3.5, 5)
    pose = look_at(eye, rng.uniform(-0.2, 0.2, 3), rng.normal(size=3))
    return Camera(pose, rng.uniform(35, 55), size, size)


@pytest.fixture(scope="session")
def spoil():
    return spoiled_map


@pytest.fixture(scope="session")
def any_camera():
    return random_camera


@pytest.fixture(scope="session")
def golden(pack, host_base):
    """The golden tiny Flux of the parity tests, with the pack's nodes around it."""
    path = ROOT / "tests" / "parity" / "conftest.py"
    spec = importlib.util.spec_from_file_location("parity_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for folder, name in (
        ("loras", "default.safetensors"),
        ("loras", "coord.safetensors"),
        ("refany3d", "domain_embedder.pth"),
    ):
        target = host_base / "models" / folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(module.GOLDEN / name, target)
    return module.Golden(pack)


@pytest.fixture(scope="session")
def vae(standin_models):
    """The stand-in autoencoder, 16 channels, through the stock loader."""
    import comfy.sd
    import comfy.utils

    path = str(standin_models / "vae" / "standin_vae.safetensors")
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(path))


@pytest.fixture(scope="session")
def mesh_files():
    return MESHES
