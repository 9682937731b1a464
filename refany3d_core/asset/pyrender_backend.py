"""pyrender as an opt-in backend: lit PBR colours, from a process of its own.

pyrender needs OpenGL, and ComfyUI's process already holds another one (ANGLE) that pyrender's
set-up would break. So it is never imported here: the scene goes to a child process through its
standard input, and the pictures come back through its standard output, as .npz without pickles.
"""

import io
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .cameras import Camera
from .model import Asset, Part
from .worker import run_worker

PYRENDER = "pyrender"
WORKER = Path(__file__).with_name("pyrender_worker.py")
START_SECONDS, SECONDS_PER_VIEW = 60, 10


def lit_colors(
    asset: Asset,
    cameras: Sequence[Camera],
    background: tuple[float, float, float],
    progress: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Render all views with pyrender.

    Args:
        asset: what to render.
        cameras: all of one size.
        background: RGB in 0..1.
        progress: called a few times a second; may raise, which ends the child.

    Returns:
        colours float32 [n, H, W, 3] in 0..1, and bool [n, H, W], where pyrender drew the asset.

    Raises:
        ValueError: pyrender is not installed, or finds no OpenGL.
    """
    if find_spec("pyrender") is None:
        raise ValueError(
            "the pyrender backend needs the package pyrender: run `pip install "
            "pyrender-maintained` in ComfyUI's Python (3.11 or newer), or choose auto"
        )
    scene = _packed(asset, cameras, background)
    reasons = []
    for platform in ("egl", "osmesa") if sys.platform == "linux" else ("",):
        environment = {"PYOPENGL_PLATFORM": platform} if platform else {}
        seconds = START_SECONDS + len(cameras) * SECONDS_PER_VIEW
        output, reason = run_worker(WORKER, scene, seconds, environment, progress)
        if output is not None:
            with np.load(io.BytesIO(output), allow_pickle=False) as pictures:
                return pictures["color"].astype(np.float32) / 255.0, pictures["drawn"]
        reasons.append(f"{platform or 'default'}: {reason}")
    raise ValueError(
        f"pyrender found no usable OpenGL ({'; '.join(reasons)}); on Linux install Mesa's "
        "libosmesa6 or an EGL driver, or choose the backend auto"
    )


def _packed(asset: Asset, cameras: Sequence[Camera], background: tuple) -> bytes:
    first = cameras[0]
    arrays: dict[str, np.ndarray] = {
        "size": np.array([first.width, first.height]),
        "background": np.asarray(background, np.float32),
        "poses": np.stack([camera.pose for camera in cameras]),
        "lenses": np.array([(camera.focal, *camera.principal_point) for camera in cameras]),
        "parts": np.array(len(asset.parts)),
    }
    for index, part in enumerate(asset.parts):
        start = int(asset.first_vertex[index])
        vertices = asset.vertices[start : start + len(part.vertices)]
        for name, values in _part_arrays(part, vertices).items():
            arrays[f"{index}.{name}"] = values
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    return packed.getvalue()


def _part_arrays(part: Part, vertices: np.ndarray) -> dict[str, np.ndarray]:
    material = part.material
    out = {
        "vertices": vertices.astype(np.float32),
        "faces": part.faces,
        "normals": _vertex_normals(vertices, part.faces),
        "factor": np.asarray(material.base_color, np.float32),
        "surface": np.array([material.metallic, material.roughness], np.float32),
    }
    if part.uv is not None and material.texture is not None:
        out["uv"] = np.nan_to_num(part.uv)
        out["texture"] = material.texture.pixels
    elif part.colors is not None:
        out["colors"] = np.nan_to_num(part.colors)
    return out


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals, float32 [V, 3]; vertices split in the file stay sharp."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    weighted = np.cross(b - a, c - a)
    normals = np.stack(
        [
            np.bincount(faces.reshape(-1), np.repeat(weighted[:, axis], 3), len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.broadcast_to([0.0, 1.0, 0.0], normals.shape)
    return np.where(length > 0, normals / np.where(length > 0, length, 1), up).astype(np.float32)
