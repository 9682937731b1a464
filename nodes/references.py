"""Point Map Encode: reference views and point maps to latents."""

from comfy_api.latest import io

from ..refany3d_core.host.latents import encode_references
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
