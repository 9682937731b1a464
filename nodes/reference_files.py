"""Save Reference and Load Reference."""

from comfy_api.latest import io

from ..refany3d_core.host.reference_files import (
    find_reference,
    load_reference,
    reference_names,
    save_reference,
)
from .sockets import CATEGORY, ReferenceSocket


class SaveReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_SaveReference",
            display_name="Save Reference",
            category=CATEGORY,
            description="Save an encoded reference below models/refany3d/references, so that the "
            "asset need not be rendered and encoded again.",
            search_aliases=["refany3d", "export reference", "cache asset"],
            is_output_node=True,
            inputs=[
                ReferenceSocket.Input("reference", tooltip="From Point Map Encode."),
                io.String.Input(
                    "name",
                    default="my_asset",
                    tooltip="Name in Load Reference. A reference of the same name is replaced.",
                ),
            ],
            outputs=[
                ReferenceSocket.Output(
                    "reference", display_name="reference", tooltip="The same reference."
                )
            ],
        )

    @classmethod
    def execute(cls, reference, name: str) -> io.NodeOutput:
        save_reference(reference, name.strip())
        return io.NodeOutput(reference)


class LoadReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_LoadReference",
            display_name="Load Reference",
            category=CATEGORY,
            description="Load a reference that Save Reference wrote: no mesh, no rendering and no "
            "VAE encoding needed.",
            search_aliases=["refany3d", "import reference", "cached asset"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=reference_names(),
                    tooltip="A file in models/refany3d/references.",
                )
            ],
            outputs=[
                ReferenceSocket.Output(
                    "reference",
                    display_name="reference",
                    tooltip="For Apply RefAny3D and RefAny3D Sampler.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        try:
            find_reference(name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, name: str) -> str:
        status = find_reference(name).stat()
        return f"{status.st_mtime_ns} {status.st_size}"

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(load_reference(name))
