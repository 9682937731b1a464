"""Estimate Pose: the camera of a picture of a known mesh."""

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.pointmap.camera import to_viewport
from ..refany3d_core.pointmap.decode import pictures
from .sockets import CATEGORY, mesh_input

NODE = "Estimate Pose"


class EstimatePose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_EstimatePose",
            display_name=NODE,
            category=CATEGORY,
            description="Match the mesh to a picture of it: finds the camera that the picture was "
            "taken with, from the picture and the mask of the object. Then Lock Pose, Place in "
            "Photo, or Save Triplet.",
            search_aliases=["refany3d", "6d pose", "match photo", "camera match", "pose search"],
            inputs=[
                mesh_input("The object that the picture shows, or a reconstruction of it."),
                io.Image.Input("image", tooltip="The picture, of any size, not cropped."),
                io.Mask.Input(
                    "mask",
                    tooltip="White where the object is visible, of the picture's size, as a "
                    "segmenter gives it (SAM). What something hides is left out.",
                ),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Vertical field of view in degrees, within about 25 %; it is refined. "
                    "0: unknown, found too.",
                ),
                io.Int.Input(
                    "batch_index",
                    default=0,
                    min=0,
                    max=4095,
                    optional=True,
                    advanced=True,
                    tooltip="Which picture of a batch.",
                ),
            ],
            outputs=[
                io.Load3DCamera.Output(
                    "camera_info",
                    display_name="camera_info",
                    tooltip="For Lock Pose, Place in Photo, Save Triplet, Preview 3D or Render "
                    "Reference Views.",
                ),
                io.Image.Output(
                    "overlay",
                    display_name="overlay",
                    tooltip="The picture with the mesh laid on it: its outline green, the mask's "
                    "magenta.",
                ),
                io.Float.Output(
                    "iou",
                    display_name="iou",
                    tooltip="Agreement of the mesh's silhouette with the mask, 0 to 1, where "
                    "nothing hides the object. Under 0.85: do not trust the camera.",
                ),
                io.Float.Output(
                    "ambiguity",
                    display_name="ambiguity",
                    tooltip="0 sure, 1 a coin toss between views, or a mesh that does not belong. "
                    "Above 0.5: do not trust the camera.",
                ),
                io.String.Output("info", display_name="info", tooltip="What was found, in words."),
            ],
        )

    @classmethod
    def execute(cls, mesh, image, mask, fov: float = 0.0, batch_index: int = 0) -> io.NodeOutput:
        from ..refany3d_core.pose_search import estimate_pose, overlay

        if batch_index >= len(image):
            raise ValueError(
                f"{NODE}: batch_index is {batch_index}, but there are {len(image)} pictures; the "
                "first is 0"
            )
        bar = comfy.utils.ProgressBar(100)

        def progress(done: int, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(round(100 * done / total), 100)

        picture = pictures(image)[batch_index]
        masks = mask.reshape(-1, *mask.shape[-2:]).cpu().float().numpy()
        try:
            asset = to_asset(mesh)
            found = estimate_pose(asset, picture, masks[batch_index % len(masks)], fov, progress)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        laid = overlay(asset, picture, masks[batch_index % len(masks)], found.camera)
        return io.NodeOutput(
            to_viewport(found.camera, asset),
            torch.from_numpy(laid)[None],
            found.iou,
            found.ambiguity,
            found.describe(),
        )
