"""RefAny3D for ComfyUI: images of your own 3D asset. See README.md."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI's entry point of the pack."""
    from .nodes import RefAny3DExtension

    return RefAny3DExtension()
