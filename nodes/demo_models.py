"""Load Demo Models: the small trained model that comes with the pack."""

from comfy_api.latest import io

from ..refany3d_core.host.demo_models import load_demo_models
from .sockets import CATEGORY, AdaptersSocket


class LoadDemoModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_LoadDemoModels",
            display_name="Load Demo Models",
            category=CATEGORY,
            description="refany3d-small, a tiny model of simple shapes that comes with the pack: "
            "a whole RefAny3D graph without a download. Pictures of 96 x 96 px, four views.",
            search_aliases=["refany3d", "refany3d-small", "demo", "small model", "try"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="A small FLUX, for Apply RefAny3D or RefAny3D Sampler.",
                ),
                io.Clip.Output(
                    "clip", display_name="clip", tooltip="Its text encoder, for CLIP Text Encode."
                ),
                io.Vae.Output("vae", display_name="vae", tooltip="Its autoencoder."),
                AdaptersSocket.Output(
                    "adapters", display_name="adapters", tooltip="Its RefAny3D LoRAs."
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_models())
