"""The pose of a glTF scene: node transforms, morph weights and skin matrices, at rest or at a time
of one of its animations. Formulas of the Khronos glTF 2.0 specification, sections 3.7.3 and 3.11
and appendix C.
"""

from collections.abc import Sequence

import numpy as np

from .gltf_file import GltfFile
from .limits import LimitError
from .model import Moment

MAX_DEPTH = 256
"""Deepest node hierarchy."""
_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3}


class Pose:
    """Where the nodes of a file are."""

    def __init__(self, file: GltfFile, moment: Moment | None = None) -> None:
        """At rest, or at a moment. Raises ValueError when there is no such animation."""
        self.warnings: list[str] = []
        self._file = file
        self._animated: dict[tuple[int, str], np.ndarray] = {}
        self._world: dict[int, np.ndarray] = {}
        self._parents: dict[int, int] | None = None
        if moment is not None:
            self._play(moment)

    def local(self, index: int) -> np.ndarray:
        """Transform float64 [4, 4] of a node to its parent."""
        node = self._file.item("nodes", index)
        moved = {path: self._animated.get((index, path)) for path in _WIDTHS}
        if "matrix" in node and all(value is None for value in moved.values()):
            if len(node["matrix"]) != 16:
                raise ValueError(f"a node has a matrix with {len(node['matrix'])} numbers, not 16")
            return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
        values = {path: node.get(path) if moved[path] is None else moved[path] for path in _WIDTHS}
        return transforms(**{path: [v] for path, v in values.items() if v is not None})[0]

    def weights(self, index: int, mesh: dict) -> tuple[float, ...]:
        """Weights of the morph targets of a node's mesh."""
        animated = self._animated.get((index, "weights"))
        if animated is not None:
            return tuple(float(w) for w in animated)
        node = self._file.item("nodes", index)
        return tuple(float(w) for w in node.get("weights", mesh.get("weights", ())))

    def joints(self, skin: int) -> np.ndarray:
        """Matrices float64 [joints, 4, 4] from a skin's bind pose to the world."""
        entry = self._file.item("skins", skin)
        joints = entry["joints"]
        worlds = np.stack([self._world_of(joint) for joint in joints])
        if "inverseBindMatrices" not in entry:
            return worlds
        inverse = self._file.accessor(entry["inverseBindMatrices"]).astype(np.float64)
        if len(inverse) < len(joints) or inverse.shape[1] != 16:
            raise ValueError(f"skins[{skin}] has {len(inverse)} matrices for {len(joints)} joints")
        return worlds @ inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)

    def _world_of(self, index: int) -> np.ndarray:
        if self._parents is None:
            self._parents = {}
            for number, node in enumerate(self._file.items("nodes")):
                for child in node.get("children", []):
                    self._parents.setdefault(child, number)
        parents = self._parents
        path = [index]
        while path[-1] not in self._world and path[-1] in parents:
            path.append(parents[path[-1]])
            if len(path) > MAX_DEPTH:
                raise LimitError("its node hierarchy is endless (a node is its own ancestor)")
        for step in reversed(path):
            if step not in self._world:
                parent = self._world.get(parents.get(step, -1), np.eye(4))
                self._world[step] = parent @ self.local(step)
        return self._world[index]

    def _play(self, moment: Moment) -> None:
        animations = self._file.items("animations")
        animation = animations[moment.choose([entry.get("name") for entry in animations])]
        for channel in animation["channels"]:
            target, sampler = channel["target"], animation["samplers"][channel["sampler"]]
            node, path = target.get("node"), target.get("path")
            if node is None or path not in (*_WIDTHS, "weights"):
                self.warnings.append(f"the animation of a {path} is not played")
                continue
            self._animated[node, path] = self._sample(sampler, path, moment.time)

    def _sample(self, sampler: dict, path: str, time: float) -> np.ndarray:
        times = self._file.accessor(sampler["input"])[:, 0].astype(np.float64)
        values = self._file.accessor(sampler["output"]).astype(np.float64)
        kind = sampler.get("interpolation", "LINEAR")
        steps = len(times) * (3 if kind == "CUBICSPLINE" else 1)
        if not steps or values.size % steps or not values.size:
            raise ValueError(f"an animation has {len(values)} values for {len(times)} times")
        values = values.reshape(steps, -1)
        if values.shape[1] != _WIDTHS.get(path, values.shape[1]):
            raise ValueError(f"an animation has values of {values.shape[1]} numbers for {path}")
        return interpolated(times, values, kind, path == "rotation", time)


def interpolated(
    times: np.ndarray, values: np.ndarray, kind: str, rotation: bool, time: float
) -> np.ndarray:
    """An animation sampler's value float64 [C] at a time, clamped to its first and last key.

    Args:
        times: float [K], seconds, rising.
        values: float [K, C]; [3 K, C] for CUBICSPLINE (in-tangent, value, out-tangent).
        kind: "LINEAR", "STEP" or "CUBICSPLINE".
        rotation: the values are quaternions (x, y, z, w).
    """
    cubic = kind == "CUBICSPLINE"
    keys = values[1::3] if cubic else values
    after = int(np.searchsorted(times, time, side="right"))
    if after == 0 or after == len(times) or kind == "STEP":
        return keys[max(after - 1, 0)]
    low, span = after - 1, times[after] - times[after - 1]
    t = (time - times[low]) / span
    start, end = keys[low], keys[after]
    if cubic:
        out, into = values[3 * low + 2] * span, values[3 * after] * span
        value = (
            (2 * t**3 - 3 * t**2 + 1) * start
            + (t**3 - 2 * t**2 + t) * out
            + (-2 * t**3 + 3 * t**2) * end
            + (t**3 - t**2) * into
        )
        return value / (np.linalg.norm(value) or 1.0) if rotation else value
    if not rotation:
        return start + t * (end - start)
    cosine = float(start @ end)
    if cosine < 0:
        end, cosine = -end, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        return start + t * (end - start)
    return (np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)


def transforms(
    translation: Sequence = (), rotation: Sequence = (), scale: Sequence = ()
) -> np.ndarray:
    """Matrices float64 [N, 4, 4] of translations [N, 3], quaternions (x, y, z, w) [N, 4] and
    scales [N, 3]; what is empty is the identity."""
    count = max(len(translation), len(rotation), len(scale), 1)
    out = np.tile(np.eye(4), (count, 1, 1))
    if len(rotation):
        x, y, z, w = _rows(rotation, 4, "rotation").T
        norm = np.sqrt(x * x + y * y + z * z + w * w)
        x, y, z, w = np.array([x, y, z, w]) / np.where(norm > 0, norm, 1.0)
        out[:, 0, :3] = np.stack(
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1
        )
        out[:, 1, :3] = np.stack(
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1
        )
        out[:, 2, :3] = np.stack(
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1
        )
    if len(scale):
        out[:, :3, :3] *= _rows(scale, 3, "scale")[:, None, :]
    if len(translation):
        out[:, :3, 3] = _rows(translation, 3, "translation")
    return out


def _rows(values: Sequence, width: int, what: str) -> np.ndarray:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"a node has a {what} that is not {width} numbers")
    return rows
