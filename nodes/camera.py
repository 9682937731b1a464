"""Camera from Point Map."""

import io as streams
import json

import torch
from comfy_api.latest import Types, io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.pointmap.camera import (
    file_matrix,
    intrinsics_json,
    normals,
    recover_camera,
    to_viewport,
)
from ..refany3d_core.pointmap.decode import pictures
from ..refany3d_core.pointmap.export import camera_gltf
from .sockets import CATEGORY, mesh_input


class CameraFromPointMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_CameraFromPointMap",
            display_name="Camera from Point Map",
            category=CATEGORY,
            description="Find the camera that the generated picture was taken with, out of its "
            "point map.",
            search_aliases=["refany3d", "camera pose", "pnp", "match camera", "camera solve"],
            inputs=[
                io.Image.Input("point_map", tooltip="Of Point Map Decode."),
                mesh_input("The asset that the picture was made with."),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=170.0,
                    step=1.0,
                    tooltip="Vertical field of view in degrees, where it is known. 0: found too.",
                ),
                io.Int.Input(
                    "batch_index", default=0, min=0, max=4095, tooltip="Which picture of a batch."
                ),
            ],
            outputs=[
                io.Load3DCamera.Output(
                    "camera_info",
                    display_name="camera_info",
                    tooltip="For Preview 3D, Lock Pose or Render Reference Views.",
                ),
                io.String.Output(
                    "matrix",
                    display_name="matrix",
                    tooltip="Camera to world, 4 x 4 by rows as JSON, in the units and axes of the "
                    "mesh file (Y up); the camera looks along its -Z.",
                ),
                io.String.Output(
                    "intrinsics",
                    display_name="intrinsics",
                    tooltip="width, height, fx, fy, cx, cy in pixels and fov_y in degrees as JSON.",
                ),
                io.Float.Output(
                    "inlier_ratio",
                    display_name="inlier_ratio",
                    tooltip="Part of the map's reliable pixels that the camera explains.",
                ),
                io.Float.Output(
                    "rmse",
                    display_name="rmse",
                    tooltip="Root mean square of the reprojection error, pixels.",
                ),
                io.Image.Output(
                    "depth",
                    display_name="depth",
                    tooltip="Depth of the map's points: white nearest, grey farthest; black "
                    "background.",
                ),
                io.Image.Output(
                    "normals",
                    display_name="normals",
                    tooltip="Normals of the map's surface in the camera's axes (x right, y up, z "
                    "towards the camera), (n + 1) / 2; black background.",
                ),
                io.File3DGLTF.Output(
                    "camera_gltf",
                    display_name="camera_gltf",
                    tooltip="The camera as a glTF file: import it beside the mesh in Blender.",
                ),
            ],
        )

    @classmethod
    def execute(cls, point_map, mesh, fov: float = 0.0, batch_index: int = 0) -> io.NodeOutput:
        if batch_index >= len(point_map):
            raise ValueError(
                f"Camera from Point Map: batch_index is {batch_index}, but there are "
                f"{len(point_map)} point maps; the first is 0"
            )
        try:
            asset = to_asset(mesh)
            found = recover_camera(pictures(point_map)[batch_index], asset, fov or None)
        except ValueError as error:
            raise ValueError(f"Camera from Point Map: {error}") from error
        matrix = file_matrix(found.camera, asset)
        return io.NodeOutput(
            to_viewport(found.camera, asset),
            json.dumps(matrix.tolist()),
            intrinsics_json(found.camera),
            found.inlier_ratio,
            found.rmse,
            torch.from_numpy(found.depth_picture())[None],
            torch.from_numpy(normals(found) / 2 + 0.5)[None] * _mask(found),
            Types.File3D(streams.BytesIO(camera_gltf(found.camera, matrix)), "gltf"),
        )


def _mask(found) -> torch.Tensor:
    return torch.from_numpy(found.decoded.mask)[None, ..., None]
