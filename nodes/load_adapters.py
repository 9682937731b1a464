"""Load RefAny3D LoRAs."""

from comfy_api.latest import io

from ..refany3d_core.host import model_files
from .sockets import CATEGORY, AdaptersSocket


class LoadAdapters(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = model_files.file_names()
        return io.Schema(
            node_id="RefAny3D_LoadAdapters",
            display_name="Load RefAny3D LoRAs",
            category=CATEGORY,
            description="Load RefAny3D's three files from models/refany3d or models/loras.",
            search_aliases=[
                "refany3d",
                "reference lora",
                "domain lora",
                "domain embedder",
                "adapters",
            ],
            inputs=[
                io.Combo.Input(
                    "reference_lora",
                    options=files,
                    tooltip="Reference-LoRA: makes the model read the reference views. "
                    "Published as default.safetensors.",
                ),
                io.Combo.Input(
                    "domain_lora",
                    options=files,
                    tooltip="Domain-LoRA: makes the model read and draw point maps. "
                    "Published as coord.safetensors.",
                ),
                io.Combo.Input(
                    "domain_embedder",
                    options=files,
                    tooltip="Domain token: tells RGB from point map. Published as "
                    "domain_embedder.pth.",
                ),
            ],
            outputs=[
                AdaptersSocket.Output(
                    "adapters",
                    display_name="adapters",
                    tooltip="For Apply RefAny3D or RefAny3D Sampler.",
                )
            ],
        )

    @classmethod
    def validate_inputs(
        cls, reference_lora=None, domain_lora=None, domain_embedder=None
    ) -> bool | str:
        """In place of the list: a file of that name counts wherever it lies."""
        roles = {
            "reference_lora": reference_lora,
            "domain_lora": domain_lora,
            "domain_embedder": domain_embedder,
        }
        try:
            for role, name in roles.items():
                if isinstance(name, str):
                    model_files.find_file(name, role)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, reference_lora: str, domain_lora: str, domain_embedder: str) -> io.NodeOutput:
        return io.NodeOutput(
            model_files.load_adapters(reference_lora, domain_lora, domain_embedder)
        )
