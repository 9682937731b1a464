"""Split Joint Latent, Join Joint Latent and Point Map Decode."""

import numpy as np
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.host.joint import join_latents
from ..refany3d_core.host.latents import split_joint_latent
from ..refany3d_core.pointmap.decode import UNIT_BOX, decode, pictures
from .sockets import CATEGORY, MESH_KINDS, panel_outputs


class SplitLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_SplitLatent",
            display_name="Split Joint Latent",
            category=CATEGORY,
            description="Split what a stock sampler made from Apply RefAny3D's latent into image "
            "and point map.",
            search_aliases=["refany3d", "split panels", "unpack joint latent"],
            inputs=[
                io.Latent.Input("latent", tooltip="Joint latent: image left, point map right.")
            ],
            outputs=panel_outputs(),
        )

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        return io.NodeOutput(*split_joint_latent(latent))


class JoinLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_JoinLatent",
            display_name="Join Joint Latent",
            category=CATEGORY,
            description="Join an image and a point map, each from VAE Encode, to a joint latent "
            "for RefAny3D Sampler or a stock sampler. Set Latent Noise Mask before it says what of "
            "each may change.",
            search_aliases=["refany3d", "join panels", "inpaint", "image to image", "img2img"],
            inputs=[
                io.Latent.Input(
                    "image",
                    tooltip="The image, from VAE Encode; with a noise mask only what is white "
                    "there changes.",
                ),
                io.Latent.Input(
                    "point_map",
                    tooltip="The point map, likewise; a black noise mask (Solid Mask of 0) holds "
                    "it.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="Joint latent: image left, point map right.",
                )
            ],
        )

    @classmethod
    def execute(cls, image, point_map) -> io.NodeOutput:
        return io.NodeOutput(join_latents(image, point_map))


class DecodePointMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_DecodePointMap",
            display_name="Point Map Decode",
            category=CATEGORY,
            description="Decode a point map: for every pixel, where on the asset it lies, and the "
            "asset's mask.",
            search_aliases=["refany3d", "vae decode point map", "subject mask", "coordinates"],
            inputs=[
                io.Vae.Input("vae", tooltip="FLUX's VAE (ae.safetensors)."),
                io.Latent.Input("point_map", tooltip="Of RefAny3D Sampler or Split Joint Latent."),
                io.MultiType.Input(
                    "mesh",
                    types=MESH_KINDS,
                    optional=True,
                    tooltip="The asset: xyz is then in the units and axes of its file (Y up).",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "point_map",
                    display_name="point_map",
                    tooltip="x, y, z in the asset's box as red, green, blue in 0..1; white where "
                    "there is none.",
                ),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="1 on the object, 0 on the background."
                ),
                io.Image.Output(
                    "xyz",
                    display_name="xyz",
                    tooltip="The point on the asset as three floats a pixel: in the mesh's units, "
                    "or -1..1 along each side of its box when no mesh is connected; 0 on the "
                    "background.",
                ),
                io.Mask.Output(
                    "confidence",
                    display_name="confidence",
                    tooltip="1 well inside a surface, down to 0 at edges and stray pixels.",
                ),
            ],
        )

    @classmethod
    def execute(cls, vae, point_map, mesh=None) -> io.NodeOutput:
        image = vae.decode(point_map["samples"]).clamp(0.0, 1.0)
        try:
            box = UNIT_BOX if mesh is None else to_asset(mesh).bounds
            maps = [decode(picture, box) for picture in pictures(image)]
        except ValueError as error:
            raise ValueError(f"Point Map Decode: {error}") from error
        mask, xyz, confidence = (
            torch.from_numpy(np.stack([getattr(m, name) for m in maps])).to(image)
            for name in ("mask", "xyz", "confidence")
        )
        return io.NodeOutput(image, mask, xyz, confidence)
