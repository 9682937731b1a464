"""RefAny3D for ComfyUI: images of your own 3D asset. See README.md."""

from .refany3d_core.host.versions import check_host

WEB_DIRECTORY = "./web"

check_host()


async def comfy_entrypoint():
    """ComfyUI's entry point of the pack."""
    from .nodes import RefAny3DExtension

    return RefAny3DExtension()
