"""Save Reference and Load Reference."""

from comfy_api.latest import io

from ..refany3d_core.host.reference_files import (
    file_state,
    find_reference,
    load_reference,
    reference_names,
    save_reference,
    saved_state,
)
from .notes import notes
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
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **links) -> str:
        return saved_state((name or "").strip())

    @classmethod
    def execute(cls, reference, name: str) -> io.NodeOutput:
        name = name.strip()
        lines = []
        if save_reference(reference, name) and _loaded_apart(cls.hidden, name):
            lines.append(
                f"'{name}' has just been replaced, and Load Reference of this graph may have read "
                "it before. Connect Save Reference to its input 'after', or queue once more."
            )
        return io.NodeOutput(reference, ui=notes(cls, lines))


def _loaded_apart(hidden: io.HiddenHolder | None, name: str) -> bool:
    """Whether the graph loads this name without waiting for a node that saves."""
    prompt = hidden.prompt if hidden else None
    return any(
        node["class_type"] == "RefAny3D_LoadReference"
        and node["inputs"].get("name") == name
        and "after" not in node["inputs"]
        for node in (prompt or {}).values()
    )


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
                ),
                ReferenceSocket.Input(
                    "after",
                    optional=True,
                    tooltip="Only where Save Reference is in the same graph: its output, so that "
                    "the file is read after it was saved.",
                ),
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
    def validate_inputs(cls, name=None, **links) -> bool | str:
        if name is None or "after" in links:  # linked or missing; or the file is still to be saved
            return True
        try:
            find_reference(name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **links) -> str:
        return "" if "after" in links else file_state(name)

    @classmethod
    def execute(cls, name: str, after=None) -> io.NodeOutput:
        return io.NodeOutput(load_reference(name))
