"""Lock Pose: choose the camera of the generated picture."""

import comfy.model_management
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.asset.cameras import FOV, RADIUS
from ..refany3d_core.host.latents import check_size
from ..refany3d_core.host.locked_latent import locked_joint_latent, release_below
from ..refany3d_core.pointmap.camera import to_viewport
from ..refany3d_core.pointmap.posed_view import render_pose
from .pose_inputs import asked_camera, pose_inputs, viewport_inputs
from .sockets import CATEGORY, mesh_input, size_inputs, validate_size


class LockPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_LockPose",
            display_name="Lock Pose",
            category=CATEGORY,
            description="Choose the camera: renders the point map of the asset from there, and "
            "holds it while the image is made. Connect latent to RefAny3D Sampler or to a stock "
            "sampler in place of Apply RefAny3D's latent.",
            search_aliases=["refany3d", "camera control", "fix the camera", "viewpoint", "pose"],
            inputs=[
                io.Vae.Input("vae", tooltip="FLUX's VAE (ae.safetensors)."),
                mesh_input("The asset, the same as for Render Reference Views."),
                *size_inputs(),
                *pose_inputs(),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 holds the map exactly; less lets the model move it at every step.",
                ),
                io.Float.Input(
                    "release",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Noise level (1 first step, 0 last) below which the map is let go and "
                    "follows the image. 0: never. Above 0, connect model through this node.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=64, tooltip="How many images at once."
                ),
                *viewport_inputs(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Only for release: pass the model of the sampler (or of RefAny3D "
                    "Sampler) through here.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="Joint latent with the map held, for RefAny3D Sampler's latent or a "
                    "stock sampler.",
                ),
                io.Model.Output(
                    "model", display_name="model", tooltip="The model, with the release."
                ),
                io.Image.Output(
                    "point_map", display_name="point_map", tooltip="The map that is held."
                ),
                io.Mask.Output("mask", display_name="mask", tooltip="The asset's silhouette."),
                io.Image.Output("view", display_name="view", tooltip="The asset from there."),
                io.Load3DCamera.Output(
                    "camera_info",
                    display_name="camera_info",
                    tooltip="The camera, for Preview 3D (without the shift).",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None) -> bool | str:
        return validate_size("Lock Pose", width, height)

    @classmethod
    def execute(
        cls,
        vae,
        mesh,
        width: int,
        height: int,
        azimuth: float = 0.0,
        pitch: float = 0.0,
        distance: float = RADIUS,
        roll: float = 0.0,
        shift_x: float = 0.0,
        shift_y: float = 0.0,
        fov: float = FOV,
        strength: float = 1.0,
        release: float = 0.0,
        batch_size: int = 1,
        camera_info=None,
        model_3d_info=None,
        model=None,
    ) -> io.NodeOutput:
        check_size("Lock Pose", width, height)
        if release > 0 and model is None:
            raise ValueError(
                "Lock Pose: release is above 0, which needs the model: connect the sampler's model "
                "through this node, or set release to 0"
            )
        try:
            asset = to_asset(mesh)
            pose = {
                "azimuth": azimuth,
                "pitch": pitch,
                "distance": distance,
                "roll": roll,
                "shift_x": shift_x,
                "shift_y": shift_y,
                "fov": fov,
            }
            camera = asked_camera(asset, width, height, pose, camera_info, model_3d_info)
            view = render_pose(asset, camera)
        except ValueError as error:
            raise ValueError(f"Lock Pose: {error}") from error
        comfy.model_management.throw_exception_if_processing_interrupted()
        point_map = torch.from_numpy(view.point_map)[None]
        return io.NodeOutput(
            locked_joint_latent("Lock Pose", vae, point_map, strength, batch_size),
            release_below(model, release) if release > 0 else model,
            point_map,
            torch.from_numpy(view.mask)[None].float(),
            torch.from_numpy(view.color)[None],
            to_viewport(camera, asset),
        )
