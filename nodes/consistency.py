"""Check Consistency: does the picture show the asset's own surface? And which of a batch best?"""

import json

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.pointmap.consistency import (
    SurfaceColors,
    check_consistency,
    heat_picture,
)
from ..refany3d_core.pointmap.decode import pictures
from .sockets import CATEGORY, mesh_input


class CheckConsistency(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_CheckConsistency",
            display_name="Check Consistency",
            category=CATEGORY,
            description="Compare generated pictures with the asset: its colours at the points that "
            "the point map names, and through the recovered camera. Picks the best of a batch.",
            search_aliases=["refany3d", "best of n", "identity score", "quality", "reproject"],
            inputs=[
                io.Image.Input("image", tooltip="Generated images."),
                io.Image.Input("point_map", tooltip="Their point maps, of Point Map Decode."),
                mesh_input("The asset that they were made with."),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=170.0,
                    step=1.0,
                    tooltip="Vertical field of view in degrees, where it is known. 0: found.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "score",
                    display_name="score",
                    tooltip="Of the best picture: 1 the asset's very colours everywhere, 0 none.",
                ),
                io.Image.Output(
                    "heat_map",
                    display_name="heat_map",
                    tooltip="Green where the picture shows the asset's colours, red where not.",
                ),
                io.Image.Output(
                    "overlay",
                    display_name="overlay",
                    tooltip="The asset from the recovered camera in alternating squares of the "
                    "picture; without a camera the picture as it is.",
                ),
                io.Image.Output("best_image", display_name="best_image", tooltip="Best image."),
                io.Image.Output(
                    "best_point_map", display_name="best_point_map", tooltip="Its point map."
                ),
                io.Int.Output(
                    "best_index", display_name="best_index", tooltip="Its place in the batch."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Scores of every picture as JSON, and why there is no camera.",
                ),
                io.String.Output(
                    "weights",
                    display_name="weights",
                    tooltip="Every picture's score against the best one's, 0 to 1. Of reference "
                    "views that were edited: for view_weights of RefAny3D Sampler.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, point_map, mesh, fov: float = 0.0) -> io.NodeOutput:
        if len(image) != len(point_map):
            raise ValueError(
                f"Check Consistency: there are {len(image)} images but {len(point_map)} point "
                "maps; connect the two of one sampling"
            )
        bar = comfy.utils.ProgressBar(len(image))
        interrupt = comfy.model_management.throw_exception_if_processing_interrupted
        checks, report = [], []
        images, maps = pictures(image), pictures(point_map)
        try:
            asset = to_asset(mesh)
            surface = SurfaceColors(asset, interrupt)
        except ValueError as error:
            raise ValueError(f"Check Consistency: {error}") from error
        for i, (picture, values) in enumerate(zip(images, maps)):
            interrupt()
            try:
                checks.append(check_consistency(picture, values, asset, surface, fov or None))
            except ValueError as error:
                raise ValueError(f"Check Consistency: picture {i}: {error}") from error
            bar.update(1)
        if not any(check.mask.any() for check in checks):
            raise ValueError(
                "Check Consistency: the point map is white: there is no subject to compare; sample "
                "again with the asset in the prompt, or connect Point Map Decode's point_map"
            )
        for i, check in enumerate(checks):
            report.append(
                {
                    "index": i,
                    "score": round(check.score, 4),
                    "map_score": round(check.map_score, 4),
                    "camera_score": round(check.camera_score, 4),
                    "no_camera": check.refusal,
                }
            )
        best = int(np.argmax([check.score for check in checks]))
        heat = [heat_picture(picture, c.heat, c.mask) for picture, c in zip(images, checks)]
        return io.NodeOutput(
            checks[best].score,
            torch.from_numpy(np.stack(heat)),
            torch.from_numpy(np.stack([check.overlay for check in checks])),
            image[best : best + 1],
            point_map[best : best + 1],
            best,
            json.dumps(report, indent=1),
            relative_weights([check.score for check in checks]),
        )


def relative_weights(scores: list[float]) -> str:
    """Scores as parts of the best one, separated by commas; 1 each when the best is 0."""
    best = max(scores)
    return ", ".join(f"{score / best if best > 0 else 1.0:.3f}" for score in scores)
