"""One view of an asset from any camera: colour, point, mask, depth and normal of the same hit."""

import logging
from functools import cache, cached_property
from importlib.util import find_spec

import numpy as np

from .cameras import Camera
from .model import Asset
from .shade import GLTF, PUBLISHED, UNLIT, Hits, front_faces, locate, shade

logger = logging.getLogger(__name__)

AUTO, EMBREE, NUMPY = "auto", "embree", "numpy"
MAX_LAYERS = 16
"""Transparent surfaces composited behind one another, at most."""
SOLID = 0.5
"""Alpha from which a surface owns the pixel's point, mask, depth and normal."""
WHITE = (1.0, 1.0, 1.0)


class View:
    """A rendered view, row 0 at the top. What is not asked for is not computed.

    Attributes:
        color: float32 [H, W, 3] in 0..1, sRGB.
        camera: the camera.
        hits: the surface that the pixels' centres see.
    """

    def __init__(self, color: np.ndarray, hits: Hits, y_rotation: float) -> None:
        self.color = color
        self.camera: Camera = hits.camera
        self.hits = hits
        self._y_rotation = y_rotation

    def _picture(self, values: np.ndarray, empty: float) -> np.ndarray:
        shape = (self.camera.height, self.camera.width)
        out = np.full((shape[0] * shape[1], *values.shape[1:]), empty, np.float32)
        out[self.hits.pixel] = values
        return out.reshape(*shape, *values.shape[1:])

    @cached_property
    def mask(self) -> np.ndarray:
        """bool [H, W], whether the asset covers the pixel's centre."""
        return self._picture(np.ones(len(self.hits.pixel)), 0.0) > 0

    @cached_property
    def points(self) -> np.ndarray:
        """float32 [H, W, 3], the point seen, normalised frame; NaN on the background."""
        return self._picture(self.hits.interpolate(self.hits.asset.vertices), np.nan)

    @cached_property
    def point_map(self) -> np.ndarray:
        """float32 [H, W, 3] in 0..1, RGB = XYZ per axis; 1 (white) on the background."""
        values = self.hits.asset.point_map_cached(self._y_rotation)
        return self._picture(self.hits.interpolate(values), 1.0)

    @cached_property
    def depth(self) -> np.ndarray:
        """float32 [H, W], along the optical axis; 0 on the background."""
        return self._picture(self.hits.depth, 0.0)

    @cached_property
    def normal(self) -> np.ndarray:
        """float32 [H, W, 3], unit, world space, towards the camera; 0 on the background."""
        toward = np.where(self.hits.facing < 0, -1.0, 1.0)[:, None]
        return self._picture(self.hits.normals * toward, 0.0)


@cache
def embree_available() -> bool:
    """Whether embreex is installed and loads here."""
    if find_spec("embreex") is None:
        return False
    try:
        import embreex.rtcore_scene  # noqa: F401
    except ImportError as error:
        logger.warning("embreex is installed but does not load (%s)", error)
        return False
    return True


def choose_backend(backend: str = AUTO) -> str:
    """ "embree" or "numpy" for the given choice.

    Raises:
        ValueError: Embree is asked for and not installed, or the name is unknown.
    """
    if backend == AUTO:
        return EMBREE if embree_available() else NUMPY
    if backend == EMBREE and not embree_available():
        raise ValueError(
            "the Embree backend needs the package embreex, which is not installed or has no wheel "
            "for this machine; choose auto or numpy"
        )
    if backend not in (EMBREE, NUMPY):
        raise ValueError(f"{backend!r} is no rendering backend; choose auto, embree or numpy")
    return backend


def caster(asset: Asset, backend: str = AUTO):
    """The asset's ray caster, built on first use."""
    name = choose_backend(backend)
    if name not in asset.casters:
        asset.casters[name] = _build(name, asset.vertices, asset.faces)
    return asset.casters[name]


def _build(name: str, vertices: np.ndarray, faces: np.ndarray):
    if name == EMBREE:
        from .raycast_embree import EmbreeCaster

        return EmbreeCaster(vertices, faces)
    from .zbuffer import ZBufferCaster

    return ZBufferCaster(vertices, faces)


class _FrontFaces:
    """A caster over the faces that glTF shows to one camera.

    Culled faces must not be there at all: a hit that is culled afterwards may hide a face in front
    of or upon it, which would open a hole.
    """

    def __init__(self, asset: Asset, camera: Camera, name: str) -> None:
        self.name = name
        self._face = np.flatnonzero(front_faces(asset, camera)).astype(np.int32)
        faces = asset.faces[self._face]
        self._rays = _build(name, asset.vertices, faces) if len(faces) else None

    def first_faces(self, camera: Camera, beyond: np.ndarray | None = None) -> np.ndarray:
        if self._rays is None:
            return np.full((camera.height, camera.width), -1, np.int32)
        found = self._rays.first_faces(camera, beyond)
        return np.where(found >= 0, self._face[found], -1)


def render(
    asset: Asset,
    camera: Camera,
    *,
    backend: str = AUTO,
    supersampling: int = 1,
    materials: str = PUBLISHED,
    shading: str = UNLIT,
    background: tuple[float, float, float] = WHITE,
    y_rotation: float = 0.0,
) -> View:
    """Render one view. The defaults are the published renderer's (METHOD facts 37-41).

    Args:
        asset: what to render.
        camera: from where, and how large.
        backend: "auto", "embree" or "numpy"; both give the same picture.
        supersampling: s x s colour samples a pixel; everything else is of the pixel's centre.
        materials: "published" or "gltf", see `shade`.
        shading: "unlit" or "headlight".
        background: RGB behind the colours, 0..1. The point map's background is always white.
        y_rotation: degrees, see `Asset.point_map_values`.

    Raises:
        ValueError: an unknown or missing backend.
    """
    rays = caster(asset, backend)
    color, hits = _color(asset, camera, rays, materials, shading, background)
    if supersampling > 1:
        fine, _ = _color(asset, camera.scaled(supersampling), rays, materials, shading, background)
        s = supersampling
        color = fine.reshape(camera.height, s, camera.width, s, 3).mean((1, 3))
    return View(color, hits, y_rotation)


def _color(
    asset: Asset, camera: Camera, rays, materials: str, shading: str, background: tuple
) -> tuple[np.ndarray, Hits]:
    """Colours float32 [H, W, 3] over the background, and the hits that own their pixels."""
    hits = locate(asset, camera, rays.first_faces(camera))
    if materials == GLTF:
        single = ~asset.surface.double_sided[asset.face_part[hits.face]]
        if (single & (hits.facing < 0)).any():
            rays = _FrontFaces(asset, camera, rays.name)
            hits = locate(asset, camera, rays.first_faces(camera))
    rgba = shade(hits, materials, shading)
    shape = (camera.height, camera.width, 3)
    color = np.empty((camera.height * camera.width, 3), np.float32)
    color[:] = background
    if (rgba[:, 3] == 1).all():
        color[hits.pixel] = rgba[:, :3]
        return color.reshape(shape), hits
    light = np.zeros(color.shape)
    light[hits.pixel] = rgba[:, :3] * rgba[:, 3:]
    through = np.ones(len(color))
    through[hits.pixel] = 1.0 - rgba[:, 3]
    hits = _composite(asset, camera, rays, shading, (hits, rgba), light, through)
    color = (light + through[:, None] * np.asarray(background)).astype(np.float32)
    return color.reshape(shape), hits


def _composite(
    asset: Asset, camera: Camera, rays, shading: str, first: tuple,
    color: np.ndarray, through: np.ndarray,
) -> Hits:  # fmt: skip
    """Add what is seen through transparent hits, in place; return the first solid hits."""
    hits, rgba = first
    shape = (camera.height, camera.width)
    owner = np.full(color.shape[0], -1, np.int32)
    for _ in range(MAX_LAYERS):
        free = owner[hits.pixel] < 0
        solid = free & (rgba[:, 3] >= SOLID)
        owner[hits.pixel[solid]] = hits.face[solid]
        beyond = np.full(color.shape[0], np.inf)
        clear = through[hits.pixel] > 1e-3
        step = 1e-5 * np.maximum(hits.depth, 1.0)
        beyond[hits.pixel[clear]] = (hits.depth + step)[clear]
        if not clear.any():
            break
        hits = locate(asset, camera, rays.first_faces(camera, beyond.reshape(shape)))
        rgba = shade(hits, GLTF, shading)
        color[hits.pixel] += through[hits.pixel, None] * rgba[:, 3:] * rgba[:, :3]
        through[hits.pixel] *= 1.0 - rgba[:, 3]
    return locate(asset, camera, owner.reshape(shape))
