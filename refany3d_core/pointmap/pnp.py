"""Perspective-n-point: the camera that sees given points at given pixels.

A pose is R, t of x = R X + t with x right, y down, z forward. The rotation comes from the
quadratic object-space cost of SQPnP (Terzakis and Lourakis, ECCV 2020), minimised over the
rotations from many starts: no first guess is needed, and a flat scene serves. Samples are drawn as
in RANSAC (Fischler and Bolles, 1981), and the best is refined by Levenberg-Marquardt with Cauchy
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

SAMPLES = 48
SAMPLE_SIZE = 12
SCORED = 1500
"""Points on which hypotheses are scored."""
START_FOVS = (12.0, 25.0, 40.0, 60.0, 85.0)
"""Diagonal fields of view, in degrees, from which an unknown focal length is searched."""
ROTATION_STEPS = 12
REFINE_STEPS = 40
MIN_SCALE = 0.2
"""Cauchy scale in pixels, at least: a pixel's own size."""


@dataclass(frozen=True)
class Pose:
    """x = R X + t; pixel = focal * x[:2] / x[2] from the principal point, right and down.

    Attributes:
        rotation: float64 [3, 3].
        translation: float64 [3].
        focal: pixels.
    """

    rotation: np.ndarray
    translation: np.ndarray
    focal: float

    def errors(self, points: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Reprojection errors [N] in pixels; infinite behind the camera."""
        x = points @ self.rotation.T + self.translation
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.linalg.norm(self.focal * x[:, :2] / x[:, 2:] - pixels, axis=1)
        return np.where(x[:, 2] > 0, error, np.inf)


def solve_pnp(
    points: np.ndarray,
    pixels: np.ndarray,
    size: float,
    threshold: float,
    focal: float | None = None,
    seed: int = 0,
) -> Pose | None:
    """The camera that sees points at pixels, in spite of outliers.

    Args:
        points: float64 [N, 3], N at least SAMPLE_SIZE.
        pixels: float64 [N, 2], from the principal point, right and down.
        size: length of the picture's diagonal, pixels.
        threshold: reprojection error of an inlier, pixels.
        focal: in pixels, or None to search it.
        seed: of the sampling.

    Returns:
        None when no hypothesis has the points in front of the camera.
    """
    centre, spread = points.mean(0), points.std() or 1.0
    points = (points - centre) / spread
    rng = np.random.default_rng(seed)
    fovs = np.radians(START_FOVS) / 2
    focals = [focal] if focal is not None else list(size / 2 / np.tan(fovs))
    samples = rng.integers(0, len(points), (SAMPLES, SAMPLE_SIZE))
    few = rng.permutation(len(points))[:SCORED]
    best, best_score = None, -1.0
    for f in focals:
        for pose in _hypotheses(points[samples], pixels[samples], f):
            errors = pose.errors(points[few], pixels[few])
            score = np.maximum(1 - (errors / (2 * threshold)) ** 2, 0).sum()
            if score > best_score:
                best, best_score = pose, score
    if best is None:
        return None
    best = _refine(best, points[few], pixels[few], focal is None, threshold)
    best = _refine(best, points, pixels, focal is None, threshold)
    translation = spread * best.translation - best.rotation @ centre
    return Pose(best.rotation, translation, best.focal)


def _starts() -> np.ndarray:
    """float64 [24, 3, 3], the rotations of a cube: none farther than 63 degrees from any."""
    out = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = signs
        if np.linalg.det(matrix) > 0:
            out.append(matrix)
    return np.array(out)


def _hypotheses(points: np.ndarray, pixels: np.ndarray, focal: float) -> list[Pose]:
    """The best pose for each sample; points [S, n, 3], pixels [S, n, 2]."""
    rays = np.concatenate([pixels / focal, np.ones((*pixels.shape[:2], 1))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]
    # Sum of |across (R X + t)|^2 over the points, with the best t put in, is r' omega r.
    total = across.sum(1)
    mixed = np.einsum("snab,snc->sabc", across, points).reshape(-1, 3, 9)
    square = np.einsum("snab,snc,snd->sacbd", across, points, points).reshape(-1, 9, 9)
    to_translation = -np.linalg.solve(total + 1e-12 * np.eye(3), mixed)
    omega = square + mixed.transpose(0, 2, 1) @ to_translation
    rotations = np.repeat(_starts()[None], len(points), axis=0)
    for _ in range(ROTATION_STEPS):
        flat = rotations.reshape(len(points), -1, 9)
        # Columns: d vec(exp([w]) R) / dw.
        tangent = np.einsum("kab,smbc->smkac", _GENERATORS, rotations)
        tangent = tangent.reshape(*flat.shape[:2], 3, 9)
        pulled = tangent @ omega[:, None]
        gradient = np.einsum("smkr,smr->smk", pulled, flat)
        hessian = pulled @ tangent.transpose(0, 1, 3, 2)
        damping = 1e-6 * np.trace(hessian, axis1=2, axis2=3)[..., None, None] + 1e-12
        step = -np.linalg.solve(hessian + damping * np.eye(3), gradient[..., None])[..., 0]
        rotations = _exp(step) @ rotations
    flat = rotations.reshape(len(points), -1, 9)
    cost = np.einsum("smr,srq,smq->sm", flat, omega, flat)
    translations = np.einsum("sar,smr->sma", to_translation, flat)
    depth = np.einsum("smb,snb->smn", rotations[:, :, 2], points) + translations[:, :, 2, None]
    cost = np.where((depth > 0).mean(-1) > 0.5, cost, np.inf)
    chosen = cost.argmin(1)
    return [
        Pose(rotations[s, m], translations[s, m], focal)
        for s, m in enumerate(chosen)
        if np.isfinite(cost[s, m])
    ]


_GENERATORS = np.array(
    [
        [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 0], [-1, 0, 0]],
        [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
    ],
    np.float64,
)
"""Of the rotations about x, y and z."""


def _exp(w: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] (Rodrigues)."""
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    cross = np.einsum("...k,kab->...ab", w, _GENERATORS)
    return (
        np.eye(3)
        + np.sinc(angle / np.pi) * cross
        + (np.sinc(angle / 2 / np.pi) ** 2 / 2) * (cross @ cross)
    )


def _refine(
    pose: Pose, points: np.ndarray, pixels: np.ndarray, free_focal: bool, threshold: float
) -> Pose:
    """Levenberg-Marquardt on the reprojection errors with Cauchy weights."""
    damping = 1e-3
    errors = pose.errors(points, pixels)
    for _ in range(REFINE_STEPS):
        near = errors[errors < 3 * threshold]
        scale = max(1.4826 * np.median(near), MIN_SCALE) if len(near) else threshold
        ahead = np.isfinite(errors)
        gradient, hessian = _normal_equations(
            pose, points[ahead], pixels[ahead], errors[ahead], scale, free_focal
        )
        before = _cauchy(errors, scale)
        for _ in range(6):
            step = -np.linalg.solve(hessian + damping * np.diag(np.diag(hessian) + 1e-12), gradient)
            after = moved(pose, step)
            new = after.errors(points, pixels)
            if _cauchy(new, scale) <= before:
                pose, errors, damping = after, new, damping / 5
                break
            damping *= 5
        else:
            break
        if np.abs(step).max() < 1e-8:
            break
    return pose


def _cauchy(errors: np.ndarray, scale: float) -> float:
    return float(np.log1p((np.minimum(errors, 1e6) / scale) ** 2).sum())


def _normal_equations(
    pose: Pose, points: np.ndarray, pixels: np.ndarray, errors: np.ndarray, scale: float,
    free_focal: bool,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Gradient [6 or 7] and Gauss-Newton Hessian: rotation about the camera, shift, log focal."""
    seen, jacobian = projection(pose, points)
    if not free_focal:
        jacobian = jacobian[..., :6]
    weighted = jacobian / (1 + (errors / scale) ** 2)[:, None, None]
    gradient = np.einsum("nak,na->k", weighted, seen - pixels)
    return gradient, np.einsum("nak,nal->kl", weighted, jacobian)


def projection(pose: Pose, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 2] from the principal point, and how they change [N, 2, 7] with a rotation about
    the camera, a shift of it, and the logarithm of the focal length; see `moved`."""
    x = points @ pose.rotation.T + pose.translation
    depth = x[:, 2]
    seen = pose.focal * x[:, :2] / x[:, 2:]
    by_point = np.zeros((len(x), 2, 3))
    by_point[:, 0, 0] = by_point[:, 1, 1] = pose.focal / depth
    by_point[:, :, 2] = -seen / depth[:, None]
    by_rotation = np.einsum("nab,kbc,nc->nak", by_point, _GENERATORS, x)
    return seen, np.concatenate([by_rotation, by_point, seen[:, :, None]], axis=2)


def moved(pose: Pose, step: np.ndarray) -> Pose:
    """The pose after a step [6 or 7]: rotation vector, shift, logarithm of the focal length."""
    turn = _exp(step[:3])
    focal = pose.focal
    if len(step) > 6:
        focal *= float(np.exp(np.clip(step[6], -0.5, 0.5)))
    return Pose(turn @ pose.rotation, turn @ pose.translation + step[3:6], focal)
