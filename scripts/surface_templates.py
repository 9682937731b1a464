"""The templates between pictures and the mesh's own surface, on the bundled small model."""

from __future__ import annotations

from template_parts import (
    BLUE,
    BROWN,
    GREEN,
    MESH_LINKS,
    SAMPLE_LINKS,
    SIZE,
    VIEWS,
    Box,
    Link,
    Template,
    node,
    note,
    small_sampler,
)

COW = "examples/spot.glb"
PROMPT = "a duck on grass in front of snowy mountains"
DETAIL_NOTE = """\
**Transfer Surface Detail** gives the picture the mesh's own texture in full sharpness: labels and \
fine patterns come from the mesh, light and colour from the picture.

It is last, after any upscaler: put yours in the place of **Upscale Image By**. With FLUX.1-dev \
the same nodes follow its picture and point map.

The small model has never seen a cow; it calls it a duck.
"""
PAINT_NOTE = """\
Four pictures from locked cameras, and **Paint Mesh** puts them back on the mesh as its texture. \
What no picture shows keeps the old one.

Ask for another look in the prompt, with flat, even light. For a real one: FLUX.1-dev in place of \
the small model, 512 pixels, 8 views. A mesh without texture coordinates needs \
`pip install xatlas`.
"""


def mesh_nodes(text: str, title: str) -> dict:
    return {
        "note": note(text, (0, 0), (360, 340), title),
        "models": node("RefAny3D_LoadDemoModels", (0, 390), (360, 110)),
        "mesh": node("RefAny3D_LoadMesh", (0, 620), (360, 310), mesh_file=COW),
        "prompt": node("CLIPTextEncode", (920, 0), (360, 150), "Prompt", text=PROMPT),
        "views": node("RefAny3D_RenderViews", views=VIEWS, resolution=SIZE),
        "encode": node("RefAny3D_EncodeReferences"),
        "sampler": small_sampler(),
        "decode": node("VAEDecode"),
        "decode_map": node("RefAny3D_DecodePointMap"),
    }


def surface_detail() -> Template:
    nodes = mesh_nodes(DETAIL_NOTE, "The mesh's own detail") | {
        "pose": node("RefAny3D_LockPose", (400, 0), (480, 930), azimuth=55.0, pitch=15.0,
                     distance=3.2, width=SIZE, height=SIZE),
        "upscale": node("ImageScaleBy", (920, 590), (360, 110), upscale_method="lanczos",
                        scale_by=4.0),
        "detail": node("RefAny3D_TransferDetail", (920, 750), (360, 180), detail_size=32.0),
        "before": node("SaveImage", (1320, 490), (400, 440), "Before",
                       filename_prefix="RefAny3D/before"),
        "image": node("SaveImage", (1320, 0), (400, 440), "With the mesh's detail",
                      filename_prefix="RefAny3D/detail"),
    }  # fmt: skip
    links: list[Link] = [
        *MESH_LINKS, *SAMPLE_LINKS,
        ("models", "vae", "pose", "vae"),
        ("mesh", "mesh", "pose", "mesh"),
        ("pose", "latent", "sampler", "latent"),
        ("decode", "IMAGE", "upscale", "image"),
        ("upscale", "IMAGE", "detail", "image"),
        ("decode_map", "point_map", "detail", "point_map"),
        ("mesh", "mesh", "detail", "mesh"),
        ("pose", "camera_info", "detail", "camera_info"),
        ("upscale", "IMAGE", "before", "images"),
        ("detail", "image", "image", "images"),
    ]  # fmt: skip
    box = Box(
        "Make the picture and its point map, then upscale and give it detail",
        ("views", "encode", "sampler", "decode", "decode_map", "upscale", "detail"),
        (920, 220), (360, 330),
        (("sampler", "seed", "seed"), ("sampler", "steps", "steps"),
         ("sampler", "image_guidance", "image_guidance"), ("upscale", "scale_by", "upscale_by"),
         ("detail", "strength", "detail_strength"), ("detail", "detail_size", "detail_size")),
        {"IMAGE": "upscaled", "positive": "prompt"},
    )  # fmt: skip
    return Template(
        nodes=nodes,
        links=links,
        boxes={"make": box},
        groups=[
            ("Your mesh", [-20, 540, 400, 410], GREEN),
            ("The camera", [385, -80, 510, 1030], BROWN),
            ("The pictures", [1305, -80, 435, 1030], BLUE),
        ],
        thumbnail=("image", "before"),
    )


def paint_mesh() -> Template:
    nodes = mesh_nodes(PAINT_NOTE, "Pictures as the texture") | {
        "path": node("RefAny3D_LockCameraPath", (400, 0), (480, 930), azimuths="45, 135, 225, 315",
                     pitches="15", distances="3.2", width=SIZE, height=SIZE),
        "paint": node("RefAny3D_PaintMesh", texture_size=512),
        "around": node("RefAny3D_RenderViews", views=4, resolution=512, pitch=15.0),
        "image": node("SaveImage", (1320, 0), (400, 440), "The painted mesh from four sides",
                      filename_prefix="RefAny3D/painted"),
        "save": node("SaveGLB", (1320, 490), (400, 440), "Save the mesh",
                     filename_prefix="RefAny3D/painted"),
    }  # fmt: skip
    links: list[Link] = [
        *MESH_LINKS, *SAMPLE_LINKS,
        ("models", "vae", "path", "vae"),
        ("mesh", "mesh", "path", "mesh"),
        ("path", "latent", "sampler", "latent"),
        ("mesh", "mesh", "paint", "mesh"),
        ("decode", "IMAGE", "paint", "images"),
        ("decode_map", "point_map", "paint", "point_maps"),
        ("path", "cameras", "paint", "cameras"),
        ("paint", "model_3d", "save", "mesh"),
        ("paint", "mesh", "around", "mesh"),
        ("around", "views", "image", "images"),
    ]  # fmt: skip
    box = Box(
        "Make four pictures and paint the mesh",
        ("views", "encode", "sampler", "decode", "decode_map", "paint", "around"),
        (920, 220), (360, 330),
        (("sampler", "seed", "seed"), ("sampler", "steps", "steps"),
         ("sampler", "image_guidance", "image_guidance"),
         ("paint", "texture_size", "texture_size"), ("paint", "holes", "holes")),
        {"positive": "prompt"},
    )  # fmt: skip
    return Template(
        nodes=nodes,
        links=links,
        boxes={"make": box},
        groups=[
            ("Your mesh", [-20, 540, 400, 410], GREEN),
            ("The cameras", [385, -80, 510, 1030], BROWN),
            ("The painted mesh", [1305, -80, 435, 1030], BLUE),
        ],
        thumbnail=("image",),
    )


TEMPLATES = {
    "Keep the label of my 3D mesh sharp - surface detail after an upscaler": surface_detail,
    "Paint my 3D mesh with its own pictures - new texture, GLB": paint_mesh,
}
