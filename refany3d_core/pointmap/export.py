"""Files for other programs: point clouds and cameras."""

from __future__ import annotations

import json

import numpy as np

from ..asset.cameras import NEAR, Camera
from .decode import DecodedMap


def point_cloud_ply(decoded: DecodedMap, colors: np.ndarray, min_confidence: float) -> bytes:
    """The map's points with the picture's colours, as a binary PLY file.

    Args:
        decoded: the map.
        colors: float [H, W, 3] in 0..1, sRGB, of the same size.
        min_confidence: pixels below are left out, 0..1.

    Raises:
        ValueError: another size, or no pixel is left.
    """
    if colors.shape[:2] != decoded.mask.shape:
        raise ValueError(
            f"image is {colors.shape[1]}x{colors.shape[0]}, but the point map "
            f"{decoded.mask.shape[1]}x{decoded.mask.shape[0]}; connect the two of one sampling"
        )
    keep = decoded.mask & (decoded.confidence >= min_confidence)
    if not keep.any():
        raise ValueError(
            "no pixel of the point map is left; lower min_confidence, or look whether the map "
            "has a subject"
        )
    rows = np.empty(int(keep.sum()), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows["xyz"] = decoded.xyz[keep]
    rows["rgb"] = np.clip(colors[keep][:, :3] * 255, 0, 255).round()
    header = "\n".join(
        [
            "ply",
            "format binary_little_endian 1.0",
            f"element vertex {len(rows)}",
            *(f"property float {axis}" for axis in "xyz"),
            *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
            "end_header\n",
        ]
    )
    return header.encode("ascii") + rows.tobytes()


def camera_gltf(camera: Camera, matrix: np.ndarray) -> bytes:
    """A glTF 2.0 file with nothing but the camera.

    Args:
        camera: its lens.
        matrix: float64 [4, 4], camera to world; glTF's cameras look along -Z with Y up, as ours.
    """
    document = {
        "asset": {"version": "2.0", "generator": "RefAny3D"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "RefAny3D camera", "camera": 0, "matrix": matrix.T.ravel().tolist()}],
        "cameras": [
            {
                "type": "perspective",
                "perspective": {
                    "yfov": float(np.radians(camera.fov)),
                    "aspectRatio": camera.width / camera.height,
                    "znear": NEAR,
                },
            }
        ],
    }
    return json.dumps(document, indent=1).encode()
