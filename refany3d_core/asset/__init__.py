"""The 3D asset: loading, normalised frame, cameras, reference views and point maps."""

from .cameras import Camera, look_at, orbit
from .load import FORMATS, load_asset
from .model import Asset, Part
from .render import View, render
from .sources import to_asset
from .views import RenderedViews, render_reference_views

__all__ = [
    "FORMATS",
    "Asset",
    "Camera",
    "Part",
    "RenderedViews",
    "View",
    "load_asset",
    "look_at",
    "orbit",
    "render",
    "render_reference_views",
    "to_asset",
]
