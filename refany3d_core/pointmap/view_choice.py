"""Which reference views are nearest to a camera."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..asset.cameras import viewport_rotation


def nearest_views(cameras: str, info: Mapping[str, Any], count: int) -> list[int]:
    """Indices of the views whose cameras look most nearly as another one does, in their order.

    Args:
        cameras: of the views, the text of a transforms.json.
        info: the asked camera, LOAD3D_CAMERA; both stand in the mesh file's axes.
        count: how many views.

    Raises:
        ValueError: the cameras cannot be read, or are fewer.
    """
    try:
        frames = json.loads(cameras)["frames"]
        axes = np.array([frame["transform_matrix"] for frame in frames], np.float64)[:, :3, 2]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            "'cameras' is not a transforms.json; connect cameras of Render Reference Views"
        ) from error
    if not 1 <= count <= len(axes):
        raise ValueError(f"count is {count}, but there are {len(axes)} views; take 1 to that many")
    asked = viewport_rotation(info)[:, 2]
    cosines = axes @ asked / np.linalg.norm(axes, axis=1)
    return sorted(int(i) for i in np.argsort(-cosines, kind="stable")[:count])
