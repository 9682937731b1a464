"""The reference views of an asset: RGB pictures and point maps around it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .cameras import FOV, RADIUS, Camera, fitting_radius, orbit
from .limits import LimitError
from .render import AUTO, WHITE, caster, render
from .shade import PUBLISHED, UNLIT

logger = logging.getLogger(__name__)

UNSEEN_DIFFERENCE, UNSEEN_SHARE = 5 / 255, 0.95
"""More of the asset than this share, closer to the background than this: the user is told."""


@dataclass(frozen=True, eq=False)
class RenderedViews:
    """n views of an asset, rows top first; every picture of a view comes from the same hits.

    Attributes:
        colors: float32 [n, H, W, 3] in 0..1, sRGB.
        point_maps: float32 [n, H, W, 3] in 0..1, RGB = XYZ per axis, white background.
        masks: float32 [n, H, W], 1 on the asset.
        depth: float32 [n, H, W], normalised units along the optical axis; 0 on the background.
        normals: float32 [n, H, W, 3], unit, world space; 0 on the background.
        cameras: the n cameras.
        azimuths: degrees of each view, empty for explicit cameras.
        backend: what found the hits.
        warnings: sentences for the user.
    """

    colors: np.ndarray
    point_maps: np.ndarray
    masks: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    cameras: tuple[Camera, ...]
    azimuths: tuple[float, ...]
    backend: str
    warnings: tuple[str, ...]

    def depth_pictures(self) -> np.ndarray:
        """float32 [n, H, W, 3] in 0..1: nearest 1, farthest 0.2 over all views, background 0."""
        on = self.masks > 0
        near, far = (self.depth[on].min(), self.depth[on].max()) if on.any() else (0.0, 1.0)
        grey = 1.0 - 0.8 * (self.depth - near) / max(far - near, 1e-9)
        return np.repeat(np.where(on, grey, 0.0).astype(np.float32)[..., None], 3, axis=-1)

    def normal_pictures(self) -> np.ndarray:
        """float32 [n, H, W, 3] in 0..1: (n + 1) / 2, background 0."""
        return (self.normals + 1) / 2 * self.masks[..., None]


def render_reference_views(
    mesh: object,
    views: int = 8,
    resolution: int = 512,
    radius: float = RADIUS,
    pitch: float | Sequence[float] = 0.0,
    y_rotation: float = 0.0,
    *,
    fov: float = FOV,
    even_azimuths: bool = False,
    auto_fit: bool = False,
    cameras: Sequence[Camera] | None = None,
    backend: str = AUTO,
    supersampling: int = 1,
    materials: str = PUBLISHED,
    shading: str = UNLIT,
    background: tuple[float, float, float] = WHITE,
    progress: Callable[[int, int], None] | None = None,
) -> RenderedViews:
    """Render the reference views of a mesh, by default as published (METHOD facts 36-41).

    Args:
        mesh: an `Asset`, a path, a trimesh Trimesh or Scene, or any other kind that `to_asset`
            takes.
        views: how many, 1 to 60; the azimuths are i * (60 // views) * 6 degrees.
        resolution: width and height in pixels.
        radius: distance of the cameras from the origin; the asset's longest side is 2.
        pitch: elevation of the cameras in degrees, one for all or one for each view.
        y_rotation: degrees by which the point map's values turn about +Y (METHOD fact 39).
        fov: vertical field of view, degrees.
        even_azimuths: 360 / views degrees apart in place of the published spacing.
        auto_fit: replace the radius by the smallest at which nothing is cropped.
        cameras: explicit cameras; views, resolution, radius, pitch and fov are then unused.
        backend: "auto", "embree", "numpy", or "pyrender": lit colours without supersampling, by
            pyrender in a process of its own; the rest by "auto".
        supersampling, materials, shading, background: see `render`.
        progress: called as progress(done, total) before each view and at the end; may raise.

    Raises:
        ValueError: nothing to render, or an argument out of its range.
    """
    from .pyrender_backend import PYRENDER, lit_colors
    from .sources import to_asset

    asset = to_asset(mesh)
    azimuths: tuple[float, ...] = ()
    if cameras is None:
        cameras = orbit(views, resolution, radius, pitch, fov, even_azimuths)
        if auto_fit:
            distance = fitting_radius(asset.vertices, cameras)
            cameras = orbit(views, resolution, distance, pitch, fov, even_azimuths)
        azimuths = tuple(float(np.degrees(np.arctan2(c.eye[2], c.eye[0])) % 360) for c in cameras)
    if supersampling < 1:
        raise ValueError(f"supersampling is {supersampling}; it must be 1 or more")
    report = progress or (lambda done, total: None)
    report(0, len(cameras))
    hit_backend = AUTO if backend == PYRENDER else backend
    try:
        name = caster(asset, hit_backend).name
        logger.info("rendering %d views with the %s backend", len(cameras), name)
        size = (len(cameras), cameras[0].height, cameras[0].width)
        colors, point_maps, normals = (np.empty((*size, 3), np.float32) for _ in range(3))
        masks, depth = (np.empty(size, np.float32) for _ in range(2))
        for i, camera in enumerate(cameras):
            report(i, len(cameras))
            view = render(
                asset,
                camera,
                backend=hit_backend,
                supersampling=supersampling,
                materials=materials,
                shading=shading,
                background=background,
                y_rotation=y_rotation,
            )
            colors[i], point_maps[i], normals[i] = view.color, view.point_map, view.normal
            masks[i], depth[i] = view.mask, view.depth
        if backend == PYRENDER:
            lit, drawn = lit_colors(asset, cameras, background, lambda: report(i, len(cameras)))
            on = masks > 0
            colors = np.where(on[..., None], colors, np.asarray(background, np.float32))
            colors[on & drawn] = lit[on & drawn]  # the masks are ours: colour and map stay aligned
    except MemoryError as error:
        raise LimitError(
            f"{len(cameras)} views of {cameras[0].width} x {cameras[0].height} of this mesh do not "
            "fit into memory: lower views, resolution or supersampling, or decimate the mesh"
        ) from error
    report(len(cameras), len(cameras))
    return RenderedViews(
        colors=colors,
        point_maps=point_maps,
        masks=masks,
        depth=depth,
        normals=normals,
        cameras=tuple(cameras),
        azimuths=azimuths,
        backend=PYRENDER if backend == PYRENDER else name,
        warnings=tuple([*asset.warnings, *_cropped(masks), *_unseen(colors, masks, background)]),
    )


def _unseen(colors: np.ndarray, masks: np.ndarray, background: tuple) -> list[str]:
    """A sentence when hardly anything of the asset stands out from the background."""
    step = max(1, masks.shape[-1] // 128)  # a sample of the pixels tells as much
    shown = colors[:, ::step, ::step][masks[:, ::step, ::step] > 0]
    close = np.abs(shown - np.asarray(background, np.float32)).max(-1) <= UNSEEN_DIFFERENCE
    share = float(close.mean()) if len(close) else 0.0
    if share <= UNSEEN_SHARE:
        return []
    return [
        f"{share:.0%} of the asset has the colour of the background, so that the RGB references "
        "show next to nothing: set shading to headlight, or choose another background"
    ]


def _cropped(masks: np.ndarray) -> list[str]:
    """A sentence when the asset reaches the border of a picture, or misses it."""
    out = []
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty):
        out.append(
            f"nothing is seen in view {_numbers(empty)}: the asset is outside the picture, or is "
            "seen edge-on"
        )
    border = masks[:, [0, -1]].any((1, 2)) | masks[:, :, [0, -1]].any((1, 2))
    if border.any():
        out.append(
            f"the asset is cropped in view {_numbers(np.flatnonzero(border))}: raise the radius "
            "or turn on auto_fit"
        )
    return out


def _numbers(indices: np.ndarray) -> str:
    return ", ".join(str(i) for i in indices)
