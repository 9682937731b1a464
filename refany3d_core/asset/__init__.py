"""The 3D asset: loading, normalised frame, cameras, reference views and point maps."""

from .cameras import Camera, look_at, orbit
from .load import FORMATS, load_asset, readable_formats
from .model import Asset, Moment, Part
from .render import View, render
from .sources import to_asset
from .views import RenderedViews, render_reference_views

__all__ = [
    "FORMATS",
    "Asset",
    "Camera",
    "Moment",
    "Part",
    "RenderedViews",
    "View",
    "load_asset",
    "look_at",
    "orbit",
    "readable_formats",
    "render",
    "render_reference_views",
    "to_asset",
]
