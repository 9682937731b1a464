"""Load Example Photo: the photos that come with the pack, for its templates."""

import numpy as np
import torch
from comfy_api.latest import io, ui

from .mesh_files import EXAMPLES
from .sockets import CATEGORY


class ExamplePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_ExamplePhoto",
            display_name="Load Example Photo",
            category=CATEGORY,
            description="A photo that comes with the pack, to try Place in Photo. For your own "
            "photos take Load Image.",
            search_aliases=["refany3d", "sample photo", "example image"],
            inputs=[
                io.Combo.Input(
                    "photo",
                    options=sorted(file.name for file in EXAMPLES.glob("*.jpg")),
                    tooltip="meadow.jpg: a scene that the small model knows. coffee.jpg: a real "
                    "photo (CC0, Rachel Michetti).",
                )
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The photo.")],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, photo: str) -> io.NodeOutput:
        from PIL import Image

        file = EXAMPLES / photo
        if file.parent != EXAMPLES or not file.is_file():
            raise ValueError(
                f"Load Example Photo: photo {photo!r} is missing from the pack's folder "
                f"'{EXAMPLES.name}'; install the pack again"
            )
        pixels = np.asarray(Image.open(file).convert("RGB"), np.float32) / 255
        image = torch.from_numpy(pixels)[None]
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
