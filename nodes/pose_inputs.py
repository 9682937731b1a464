"""The camera of a picture, from widgets or from the page's 3D viewport."""

from typing import Any

from comfy_api.latest import io

from ..refany3d_core.asset.cameras import FOV, RADIUS, Camera, from_viewport
from ..refany3d_core.asset.model import Asset
from ..refany3d_core.pointmap.posed_view import orbit_camera


def _degrees(name: str, low: float, high: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.0, min=low, max=high, step=1.0, tooltip=tooltip)


def _shift(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.0, min=-1.0, max=1.0, step=0.01, tooltip=tooltip)


def pose_inputs() -> list[io.Input]:
    """Azimuth, pitch, distance, roll, shift and field of view."""
    return [
        _degrees(
            "azimuth",
            -360.0,
            360.0,
            "Degrees around the asset: 0 stands on its +X side, 90 on +Z, as the reference views "
            "do.",
        ),
        _degrees("pitch", -90.0, 90.0, "Degrees above the horizon."),
        io.Float.Input(
            "distance",
            default=RADIUS,
            min=0.1,
            max=100.0,
            step=0.1,
            tooltip="From the asset's middle; its longest side is 2.",
        ),
        _degrees(
            "roll", -360.0, 360.0, "Degrees by which the asset turns clockwise in the picture."
        ),
        _shift("shift_x", "Moves the asset right, in widths of the picture."),
        _shift("shift_y", "Moves the asset up, in heights of the picture."),
        io.Float.Input(
            "fov",
            default=FOV,
            min=1.0,
            max=170.0,
            step=1.0,
            tooltip="Vertical field of view in degrees. Reference views: 45.",
        ),
    ]


def viewport_inputs() -> list[io.Input]:
    """The optional sockets for a camera of the page, in place of the widgets."""
    return [
        io.Load3DCamera.Input(
            "camera_info",
            optional=True,
            tooltip="The camera of Load 3D, Preview 3D, Estimate Pose or Camera from Point Map, in "
            "place of azimuth, pitch, distance, roll, shift and fov.",
        ),
        io.Custom("LOAD3D_MODEL_INFO").Input(
            "model_3d_info",
            optional=True,
            advanced=True,
            tooltip="Of Load 3D: needed when the model was moved, turned or fitted in the "
            "viewport.",
        ),
    ]


def asked_camera(
    asset: Asset, width: int, height: int, pose: dict[str, Any], camera_info=None, model_info=None
) -> Camera:
    """The camera of the sockets where they are connected, else that of the widgets.

    Args:
        asset: what it looks at.
        width, height: of the whole picture, pixels.
        pose: the values of `pose_inputs` by name; their defaults where they are missing.
        camera_info: LOAD3D_CAMERA or None.
        model_info: LOAD3D_MODEL_INFO or None.

    Raises:
        ValueError: the viewport's camera cannot be used; says why.
    """
    if camera_info:
        return from_viewport(camera_info, asset, width, height, model_info)
    pose = {i.id: i.default for i in pose_inputs()} | pose
    shift = (pose["shift_x"], pose["shift_y"])
    return orbit_camera(
        pose["azimuth"],
        pose["pitch"],
        pose["distance"],
        pose["roll"],
        shift,
        pose["fov"],
        width,
        height,
    )
