"""First hits by Embree: one ray through each pixel's centre."""

import numpy as np

from .cameras import NEAR, Camera


class EmbreeCaster:
    """The acceleration structure of a mesh, and the faces that its rays meet."""

    name = "embree"

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        """Build the structure. `vertices`: float [V, 3]; `faces`: int [F, 3]."""
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(
            self._scene, vertices.astype(np.float32), np.ascontiguousarray(faces, np.int32)
        )

    def first_faces(self, camera: Camera, beyond: np.ndarray | None = None) -> np.ndarray:
        """Index of the face that each pixel sees, -1 where none.

        Args:
            camera: the view.
            beyond: float64 [H, W], skip hits up to this depth; infinite where no ray is wanted.

        Returns:
            int32 [H, W], row 0 at the top.
        """
        directions = camera.directions().reshape(-1, 3)
        start = np.full(len(directions), NEAR) if beyond is None else beyond.ravel()
        wanted = np.isfinite(start)
        found = np.full(len(directions), -1, np.int32)
        if wanted.any():
            directions, start = directions[wanted], start[wanted]
            origins = camera.eye + start[:, None] * directions
            found[wanted] = self._scene.run(
                np.ascontiguousarray(origins, np.float32),
                np.ascontiguousarray(directions, np.float32),
            )
        return found.reshape(camera.height, camera.width)
