"""Sockets of our own and of the community, and inputs and outputs that several nodes share."""

from collections.abc import Iterator
from contextlib import contextmanager

from comfy_api.latest import io

from ..refany3d_core.host.latents import MAX_PIXELS, MIN_PIXELS, TOKEN_PIXELS, check_size

CATEGORY = "RefAny3D"

AdaptersSocket = io.Custom("REFANY3D_ADAPTERS")
ReferenceSocket = io.Custom("REFANY3D_REFERENCE")
PasteSocket = io.Custom("REFANY3D_PASTE")
TrimeshSocket = io.Custom("TRIMESH")
# By name: io.File3DPLY is younger than the oldest ComfyUI that the pack supports, whose Save 3D
# Model takes a PLY as any 3D file.
PlyFileSocket = io.Custom("FILE_3D_PLY,FILE_3D")
MESH_KINDS = [
    TrimeshSocket,
    io.Mesh,
    *(
        io.Custom(f"FILE_3D{kind}")
        for kind in ("", "_GLB", "_GLTF", "_OBJ", "_STL", "_PLY", "_FBX", "_USDZ")
    ),
]


def mesh_input(tooltip: str, optional: bool = False) -> io.Input:
    """A socket for any kind of mesh."""
    return io.MultiType.Input("mesh", types=MESH_KINDS, optional=optional, tooltip=tooltip)


def method_inputs() -> list[io.Input]:
    """What every run of the method needs: model, adapters, reference and prompt."""
    return [
        io.Model.Input(
            "model", tooltip="FLUX.1-dev in bf16, fp8 or GGUF, with or without style LoRAs."
        ),
        AdaptersSocket.Input("adapters", tooltip="From Load RefAny3D LoRAs."),
        ReferenceSocket.Input("reference", tooltip="From Point Map Encode."),
        io.Conditioning.Input("positive", tooltip="The prompt; FluxGuidance works as usual (3.5)."),
    ]


def size_inputs() -> list[io.Input]:
    """Width and height of the generated image."""
    return [
        io.Int.Input(
            name,
            default=512,
            min=MIN_PIXELS,
            max=MAX_PIXELS,
            step=TOKEN_PIXELS,
            tooltip=f"{name.capitalize()} of the image and of its point map, in pixels. Trained "
            "at 512.",
        )
        for name in ("width", "height")
    ]


def validate_size(node: str, width: object, height: object) -> bool | str:
    """What a node's validate_inputs answers: True, or a sentence about width or height.

    None is a linked one, which is checked in the run; the host itself tells of what is missing or
    no number.
    """
    width, height = (x if isinstance(x, int) else MIN_PIXELS for x in (width, height))
    try:
        check_size(node, width, height)
    except ValueError as error:
        return str(error)
    return True


@contextmanager
def titled(node: str) -> Iterator[None]:
    """Put the node's title before what the core refuses."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(node):
            raise
        raise ValueError(f"{node}: {error}") from error


def panel_outputs() -> list[io.Output]:
    """The two panels of a joint latent."""
    return [
        io.Latent.Output("image", display_name="image", tooltip="RGB image, for VAE Decode."),
        io.Latent.Output("point_map", display_name="point_map", tooltip="For Point Map Decode."),
    ]
