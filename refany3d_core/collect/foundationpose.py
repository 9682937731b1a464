"""FoundationPose by the command line of the user's own checkout. Nothing of it is bundled.

Its demo reads a folder with rgb, depth (16 bit, millimetres), masks and cam_K.txt, and a mesh in
metres, and writes ob_in_cam/*.txt: mesh to camera, with the camera's y down and z forward. Depth
comes from a metric depth estimator of transformers; the mesh gets the size that the depth and the
mask say.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ..asset import Asset, Camera
from ..networks import load
from .asset import mesh_path
from .config import Config
from .pose import PoseStage, checked_camera, scores_of
from .stages import Lazy, Unreachable
from .store import Record, Refused

log = logging.getLogger(__name__)

_SECONDS = 600
_TURNS = 64
"""Random directions over which the asset's apparent size is averaged."""


class FoundationPose(PoseStage):
    """Runs the command for every picture."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for setting in ("command", "depth_model"):
            if not getattr(config.pose, setting):
                raise ValueError(f"[pose] method foundationpose needs the setting {setting}")
        self._network = Lazy(
            lambda: load(
                config.model(config.pose.depth_model),
                "AutoModelForDepthEstimation",
                "AutoImageProcessor",
                config.run.device,
            )
        )

    def find(self, record: Record, index: int, asset: Asset, image: np.ndarray, mask: np.ndarray):
        height, width = mask.shape
        fov = self.fov(record)
        if not fov:
            raise Refused("FoundationPose needs a fov: a column of the source, or under [pose]")
        focal = Camera(np.eye(4), fov, width, height).focal
        depth = self.depth(image)
        near = float(np.median(depth[mask]))
        if not np.isfinite(near) or near <= 0:
            raise Refused("the depth estimate is not positive on the object")
        size = half_size(asset, mask, near / focal)
        # its reader replaces "rgb" in whole paths, so the scene lies where no name is ours
        with tempfile.TemporaryDirectory(prefix="scene") as folder:
            scene, output = Path(folder) / "scene", Path(folder) / "output"
            write_scene(scene, image, mask, depth, focal)
            mesh = write_mesh(mesh_path(record), asset, size, Path(folder) / "mesh")
            matrix = self.run(mesh, scene, output)
        pose = camera_to_world(matrix, size)
        camera = checked_camera(pose, fov, width, height)
        return camera, scores_of(asset, camera, image, mask)

    def depth(self, image: np.ndarray) -> np.ndarray:
        """float [H, W], metres."""
        import torch

        picture = Image.fromarray((image * 255).astype(np.uint8))
        with self._network as (network, processor), torch.no_grad():
            inputs = processor(images=picture, return_tensors="pt").to(network.device)
            found = processor.post_process_depth_estimation(
                network(**inputs), target_sizes=[image.shape[:2]]
            )
        return found[0]["predicted_depth"].float().cpu().numpy()

    def run(self, mesh: Path, scene: Path, output: Path) -> np.ndarray:
        """The command's pose, float [4, 4].

        Raises:
            Unreachable: the command failed.
            Refused: it wrote no pose.
        """
        output.mkdir()
        places = {"mesh": str(mesh), "scene": str(scene), "output": str(output)}
        command = [word.format(**places) for word in self.config.command]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"'{command[0]}' did not run: {error}") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Unreachable(f"'{command[0]}' ended with {done.returncode}: {last}")
        poses = sorted((output / "ob_in_cam").glob("*.txt"))
        if not poses:
            raise Refused("FoundationPose wrote no pose")
        return np.loadtxt(poses[0]).reshape(4, 4)


def half_size(asset: Asset, mask: np.ndarray, metres: float) -> float:
    """Metres of the normalised frame's unit, from the mask's size; `metres`: of a pixel there."""
    rows, columns = np.nonzero(mask)
    seen = max(np.ptp(rows), np.ptp(columns)) + 1
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.normal(size=(_TURNS, 3, 3)))[0]
    spread = np.ptp(asset.vertices @ turns, axis=1)[:, :2].max(1).mean()
    return float(seen * metres / spread)


def write_scene(
    scene: Path, image: np.ndarray, mask: np.ndarray, depth: np.ndarray, focal: float
) -> None:
    """The folder that its reader takes."""
    millimetres = np.clip(depth * 1000, 0, 65535).astype(np.uint16)
    pictures = {
        "rgb": (image * 255).astype(np.uint8),
        "masks": mask.astype(np.uint8) * 255,
        "depth": millimetres,
    }
    for name, pixels in pictures.items():
        (scene / name).mkdir(parents=True)
        Image.fromarray(pixels).save(scene / name / "0000000.png")
    height, width = mask.shape
    matrix = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    np.savetxt(scene / "cam_K.txt", np.asarray(matrix))


def write_mesh(path: Path, asset: Asset, size: float, folder: Path) -> Path:
    """The mesh in metres about its box's centre, as one OBJ with its texture."""
    import trimesh

    mesh = trimesh.load(path, force="mesh")
    mesh.apply_translation(-np.asarray(asset.centre))
    mesh.apply_scale(asset.scale * size)
    folder.mkdir()
    mesh.export(folder / "mesh.obj")
    return folder / "mesh.obj"


def camera_to_world(object_to_camera: np.ndarray, size: float) -> np.ndarray:
    """Pose [4, 4] in the normalised frame from mesh to camera in metres, y down and z forward."""
    matrix = np.array(object_to_camera, np.float64)
    matrix[:3, 3] /= size
    pose = np.linalg.inv(matrix)
    pose[:3, 1:3] *= -1
    return pose
