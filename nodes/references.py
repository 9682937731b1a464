"""Point Map Encode: reference views and point maps to latents; Choose Views among them."""

from comfy_api.latest import io

from ..refany3d_core.host.latents import encode_references
from ..refany3d_core.pointmap.view_choice import nearest_views
from ..refany3d_core.reference import Reference
from .sockets import CATEGORY, ReferenceSocket


class EncodeReferences(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_EncodeReferences",
            display_name="Point Map Encode",
            category=CATEGORY,
            description="Encode the rendered views and their point maps as the reference of "
            "RefAny3D.",
            search_aliases=["refany3d", "encode reference views", "vae encode point map"],
            inputs=[
                io.Vae.Input("vae", tooltip="FLUX's VAE (ae.safetensors)."),
                io.Image.Input("views", tooltip="RGB views of Render Reference Views."),
                io.Image.Input(
                    "point_maps", tooltip="Point maps of the same views, in the same order."
                ),
            ],
            outputs=[
                ReferenceSocket.Output(
                    "reference",
                    display_name="reference",
                    tooltip="Encoded views, point maps and the black image of the unconditional "
                    "pass.",
                )
            ],
        )

    @classmethod
    def execute(cls, vae, views, point_maps) -> io.NodeOutput:
        return io.NodeOutput(encode_references(vae, views, point_maps))


class ChooseViews(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_ChooseViews",
            display_name="Choose Views",
            category=CATEGORY,
            description="Keep the reference views that are nearest to an asked camera: fewer views "
            "make every step cheaper, and far sides of the asset do not matter there.",
            search_aliases=["refany3d", "nearest views", "select references", "fewer views"],
            inputs=[
                ReferenceSocket.Input("reference", tooltip="From Point Map Encode."),
                io.String.Input(
                    "cameras", force_input=True, tooltip="cameras of Render Reference Views."
                ),
                io.Load3DCamera.Input(
                    "camera_info",
                    tooltip="The asked camera: of Lock Pose, Place in Photo, Load 3D or Estimate "
                    "Pose.",
                ),
                io.Int.Input("count", default=4, min=1, max=60, tooltip="How many views to keep."),
            ],
            outputs=[
                ReferenceSocket.Output(
                    "reference", display_name="reference", tooltip="With the nearest views only."
                ),
                io.String.Output(
                    "indices",
                    display_name="indices",
                    tooltip="Which views were kept, counted from 0.",
                ),
            ],
        )

    @classmethod
    def execute(cls, reference, cameras: str, camera_info, count: int = 4) -> io.NodeOutput:
        try:
            kept = nearest_views(cameras, camera_info, count)
            if max(kept) >= len(reference.view_latents):
                raise ValueError(
                    f"'reference' has {len(reference.view_latents)} views, 'cameras' more; connect "
                    "both of one Render Reference Views"
                )
        except ValueError as error:
            raise ValueError(f"Choose Views: {error}") from error
        chosen = Reference(
            reference.view_latents[kept],
            reference.point_map_latents[kept],
            reference.empty_latent,
            None if reference.object_tokens is None else reference.object_tokens[kept],
        )
        return io.NodeOutput(chosen, ", ".join(map(str, kept)))
