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

        low, high = vertices[faces.reshape(-1)].min(0), vertices[faces.reshape(-1)].max(0)
        self._box = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(8, 3)
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
        if beyond is None:
            pixel, start = camera.frame_of(self._box), np.array(NEAR)
        else:
            pixel = np.flatnonzero(np.isfinite(beyond.ravel()))
            start = beyond.ravel()[pixel, None]
        found = np.full(camera.width * camera.height, -1, np.int32)
        if len(pixel):
            directions = camera.directions(pixel)
            origins = camera.eye + start * directions
            found[pixel] = self._scene.run(
                origins.astype(np.float32), directions.astype(np.float32)
            )
        return found.reshape(camera.height, camera.width)
