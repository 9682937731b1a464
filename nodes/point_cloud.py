"""Point Cloud from Point Map."""

import io as streams

from comfy_api.latest import Types, io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.pointmap.decode import UNIT_BOX, decode, pictures
from ..refany3d_core.pointmap.export import point_cloud_ply
from .sockets import CATEGORY, PlyFileSocket, mesh_input


class PointCloud(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_PointCloud",
            display_name="Point Cloud from Point Map",
            category=CATEGORY,
            description="The generated picture's colours on the asset's surface, as a coloured "
            "point cloud (PLY) for Preview Point Cloud, Save 3D Model or other programs.",
            search_aliases=["refany3d", "ply", "export point cloud", "project image onto mesh"],
            inputs=[
                io.Image.Input("image", tooltip="The generated image."),
                io.Image.Input("point_map", tooltip="Its point map, of Point Map Decode."),
                io.Float.Input(
                    "min_confidence",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Leave out less reliable pixels: blurred edges and stray ones.",
                ),
                io.Int.Input(
                    "batch_index", default=0, min=0, max=4095, tooltip="Which picture of a batch."
                ),
                mesh_input(
                    "The asset: the points are then in the units and axes of its file and lie on "
                    "it. Without it: -1..1 along each side of its box.",
                    optional=True,
                ),
            ],
            outputs=[
                PlyFileSocket.Output(
                    "point_cloud", display_name="point_cloud", tooltip="Coloured points, PLY."
                )
            ],
        )

    @classmethod
    def execute(
        cls, image, point_map, min_confidence: float = 0.3, batch_index: int = 0, mesh=None
    ) -> io.NodeOutput:
        count = min(len(image), len(point_map))
        try:
            if batch_index >= count:
                raise ValueError(
                    f"batch_index is {batch_index}, but there are {count} pictures with a point "
                    "map; the first is 0"
                )
            box = UNIT_BOX if mesh is None else to_asset(mesh).bounds
            decoded = decode(pictures(point_map)[batch_index], box)
            ply = point_cloud_ply(decoded, pictures(image)[batch_index], min_confidence)
        except ValueError as error:
            raise ValueError(f"Point Cloud from Point Map: {error}") from error
        return io.NodeOutput(Types.File3D(streams.BytesIO(ply), "ply"))
