"""Place in Photo and Paste Back."""

import comfy.model_management
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.host.latents import check_size
from ..refany3d_core.host.locked_latent import placed_joint_latent
from ..refany3d_core.pointmap.camera import to_viewport
from ..refany3d_core.pointmap.paste import check_photo, cut_out, paste_back
from ..refany3d_core.pointmap.placement import place
from .pose_inputs import asked_camera, pose_inputs, viewport_inputs
from .sockets import CATEGORY, PasteSocket, mesh_input, size_inputs, validate_size

NODE = "Place in Photo"


class PlaceInPhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_PlaceInPhoto",
            display_name=NODE,
            category=CATEGORY,
            description="Put the asset into a photo: the part of the photo around it is sampled "
            "anew inside its silhouette and a margin, with its point map held. Connect latent to "
            "RefAny3D Sampler, and paste to Paste Back.",
            search_aliases=["refany3d", "product placement", "inpaint", "composite", "insert"],
            inputs=[
                io.Image.Input("photo", tooltip="The photo, of any size."),
                mesh_input("The asset, the same as for Render Reference Views."),
                io.Vae.Input("vae", tooltip="FLUX's VAE (ae.safetensors)."),
                io.Int.Input(
                    "grow",
                    default=32,
                    min=0,
                    max=2048,
                    tooltip="Pixels of the generated picture around the silhouette that may change "
                    "too, for shadows and reflections. Nothing of the photo beyond changes.",
                ),
                *pose_inputs(),
                *size_inputs(),
                io.Float.Input(
                    "context",
                    default=2.0,
                    min=1.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Width of the part of the photo that is sampled, in widths of the "
                    "asset. More shows the model more of the scene, less gives the asset more "
                    "pixels.",
                ),
                *viewport_inputs(),
                PasteSocket.Input(
                    "placed",
                    optional=True,
                    tooltip="paste of the object that was placed before: where the two meet, the "
                    "nearer one is in front.",
                ),
                io.Int.Input(
                    "feather",
                    default=16,
                    min=0,
                    max=2048,
                    optional=True,
                    advanced=True,
                    tooltip="The outermost pixels of the margin over which the photo comes back.",
                ),
                io.Float.Input(
                    "scene_size",
                    default=0.0,
                    min=0.0,
                    max=1e6,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Longest side of the asset in the scene, in any unit that all placed "
                    "objects share: says which is nearer. 0: as in the mesh file.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="1 holds the point map exactly; less lets the model move it.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="How many pictures at once.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="Joint latent, for RefAny3D Sampler's latent or a stock sampler.",
                ),
                PasteSocket.Output(
                    "paste", display_name="paste", tooltip="Where it belongs, for Paste Back."
                ),
                io.Image.Output(
                    "preview",
                    display_name="preview",
                    tooltip="The part of the photo that is sampled, with the asset's own colours: "
                    "where sampling starts from when denoise is below 1.",
                ),
                io.Image.Output(
                    "point_map", display_name="point_map", tooltip="The map that is held."
                ),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="What of that part may change."
                ),
                io.Load3DCamera.Output(
                    "camera_info",
                    display_name="camera_info",
                    tooltip="The photo's camera, for Preview 3D (without the shift).",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None) -> bool | str:
        return validate_size(NODE, width, height)

    @classmethod
    def execute(
        cls,
        photo,
        mesh,
        vae,
        grow: int = 32,
        width: int = 512,
        height: int = 512,
        context: float = 2.0,
        camera_info=None,
        model_3d_info=None,
        placed=None,
        feather: int = 16,
        scene_size: float = 0.0,
        strength: float = 1.0,
        batch_size: int = 1,
        **pose: float,
    ) -> io.NodeOutput:
        check_size(NODE, width, height)
        try:
            check_photo(photo)
            asset = to_asset(mesh)
            size = (photo.shape[2], photo.shape[1])
            camera = asked_camera(asset, *size, pose, camera_info, model_3d_info)
            earlier = (*placed.earlier, placed) if placed is not None else ()
            if any(paste.photo_size != size for paste in earlier):
                raise ValueError(
                    f"'photo' is {size[0]}x{size[1]}, but 'placed' belongs to a photo of "
                    f"{placed.photo_size[0]}x{placed.photo_size[1]}; connect the result of its "
                    "Paste Back"
                )
            placement = place(
                asset, camera, (width, height), context, grow, feather, scene_size, earlier
            )
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        comfy.model_management.throw_exception_if_processing_interrupted()
        paste = placement.paste
        part = cut_out(photo, paste.window, width, height)
        start = torch.from_numpy(placement.over(part[0].cpu().numpy()))[None]
        point_map = torch.from_numpy(placement.point_map)[None]
        mask = torch.from_numpy(paste.mask)
        return io.NodeOutput(
            placed_joint_latent(NODE, vae, start, mask, point_map, strength, batch_size),
            paste,
            start,
            point_map,
            mask[None],
            to_viewport(camera, asset),
        )


class PasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_PasteBack",
            display_name="Paste Back",
            category=CATEGORY,
            description="Lay the sampled picture over its place in the photo, at the photo's full "
            "size. Outside the margin of Place in Photo the photo stays as it is, bit for bit.",
            search_aliases=["refany3d", "uncrop", "stitch", "inpaint stitch", "composite"],
            inputs=[
                io.Image.Input(
                    "photo", tooltip="The photo of Place in Photo, or the last Paste Back's result."
                ),
                io.Image.Input(
                    "image", tooltip="The sampled picture, from VAE Decode, upscaled or not."
                ),
                PasteSocket.Input("paste", tooltip="Of Place in Photo."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The photo with the asset."),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="What of the photo was replaced."
                ),
            ],
        )

    @classmethod
    def execute(cls, photo, image, paste) -> io.NodeOutput:
        try:
            out, mask = paste_back(photo, image, paste)
        except ValueError as error:
            raise ValueError(f"Paste Back: {error}") from error
        return io.NodeOutput(out, mask[None])
