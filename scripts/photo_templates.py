"""Templates with photos: a mesh put into one, two meshes, many cameras, and a photo as the mesh."""

from __future__ import annotations

from typing import Any

from flux_models import FLUX, FLUX_FP8, file_list

import flux_templates
from template_parts import (
    BLUE,
    BROWN,
    EXAMPLE,
    GREEN,
    MESH_LINKS,
    PROMPT,
    SAMPLE_LINKS,
    SIZE,
    VIEWS,
    Box,
    Link,
    Node,
    Template,
    node,
    note,
    small_sampler,
)

PLACE_NOTE = """\
**Place in Photo** samples only the part of the photo around your mesh, and of that only its \
silhouette and a margin; **Paste Back** lays it over the photo. Everything else stays as it is, \
bit for bit, whatever the photo's size.

Your own photo: **Load Image** in place of Load Example Photo. The camera: turn the widgets on the \
box, or connect `camera_info` of Load 3D or Estimate Pose.
"""
FLUX_PLACE_NOTE = f"""\
Your mesh in your photo, at the photo's full size; only the silhouette and a margin around it \
change. Your own photo: **Load Image** in place of Load Example Photo.

`denoise` about 0.6 keeps labels and patterns closer to the mesh, 1 paints anew.

{file_list(FLUX)}
"""
TWO_NOTE = """\
The farther object first, the nearer one into the result. Where they meet, depth decides: the \
second node knows the first one's `paste`.

`scene_size` says how large each is in the scene; without it the units of the mesh files count.
"""
PATH_NOTE = """\
One run, many cameras: lists separated by commas, or `frames` along the way from one to the next. \
All start from the same noise.

The folder `RefAny3D/path_...` gets the pictures, maps, masks, depth and `transforms.json`; your \
own object: another mesh in **Load Mesh**.
"""
SPLAT_NOTE_HEAD = """\
No mesh at hand: TripoSplat makes a gaussian splat of one photo of the object, **Extract Mesh from \
Splat** a coloured mesh, and that is drawn from eight sides.
"""

PLACE_LINKS: list[Link] = [
    ("photo", "image", "place", "photo"),
    ("mesh", "mesh", "place", "mesh"),
    ("models", "vae", "place", "vae"),
    ("place", "latent", "sampler", "latent"),
    ("photo", "image", "paste", "photo"),
    ("decode", "IMAGE", "paste", "image"),
    ("place", "paste", "paste", "paste"),
]
# A picture of the object without its map.
PICTURE_LINKS = [link for link in SAMPLE_LINKS if link[2] != "decode_map"]
CAMERA = tuple(("place", name, name) for name in ("azimuth", "pitch", "distance"))
SHIFTS = tuple(("place", name, name) for name in ("shift_x", "shift_y"))
# The camera of meadow.jpg: 9 degrees above the ground, 31 degrees of view.
MEADOW: dict[str, Any] = {"pitch": 9.0, "fov": 31.0, "grow": 10, "feather": 6, "context": 1.7,
          "width": SIZE, "height": SIZE}  # fmt: skip


def photo_node(name: str, pos: tuple[int, int], size: tuple[int, int] = (480, 390)) -> Node:
    return node("RefAny3D_ExamplePhoto", pos, size, "Your photo", photo=name)


def place_in_photo() -> Template:
    nodes = {
        "note": note(PLACE_NOTE, (0, 0), (360, 340), "Your mesh in a photo"),
        "models": node("RefAny3D_LoadDemoModels", (0, 390), (360, 110)),
        "mesh": node("RefAny3D_LoadMesh", (0, 620), (360, 310), mesh_file=EXAMPLE),
        "photo": photo_node("meadow.jpg", (400, 0)),
        "seen": node("PreviewImage", (400, 440), (480, 490), "What is asked for"),
        "prompt": node("CLIPTextEncode", (920, 0), (360, 150), "Prompt", text=PROMPT),
        "views": node("RefAny3D_RenderViews", views=VIEWS, resolution=SIZE),
        "encode": node("RefAny3D_EncodeReferences"),
        "place": node("RefAny3D_PlaceInPhoto", azimuth=60.0, distance=7.5, shift_x=-0.12,
                      shift_y=-0.06, **MEADOW),
        "sampler": small_sampler(),
        "decode": node("VAEDecode"),
        "paste": node("RefAny3D_PasteBack"),
        "image": node("SaveImage", (1320, 0), (600, 930), "The photo with your mesh",
                      filename_prefix="RefAny3D/photo"),
    }  # fmt: skip
    box = Box(
        "Place, make, paste back",
        ("views", "encode", "place", "sampler", "decode", "paste"),
        (920, 220), (360, 480),
        (*CAMERA, *SHIFTS, ("place", "grow", "grow"), ("sampler", "seed", "seed"),
         ("sampler", "steps", "steps"), ("sampler", "denoise", "denoise")),
        {"IMAGE": "image", "positive": "prompt"},
    )  # fmt: skip
    return Template(
        nodes=nodes,
        links=[*MESH_LINKS, *PICTURE_LINKS, *PLACE_LINKS,
               ("place", "preview", "seen", "images"), ("paste", "image", "image", "images")],
        boxes={"make": box},
        groups=[
            ("Your mesh", [-20, 540, 400, 410], GREEN),
            ("Your photo", [385, -80, 510, 1030], BROWN),
            ("The picture", [1305, -80, 635, 1030], BLUE),
        ],
        thumbnail=("image", "seen"),
    )  # fmt: skip


def one_of_two(number: int, title: str, y: int, text: str, **camera: Any) -> tuple:
    """Nodes, links and the box of one object of several; keys end in the number."""
    n = str(number)
    nodes = {
        f"prompt{n}": node("CLIPTextEncode", text=text),
        f"views{n}": node("RefAny3D_RenderViews", views=VIEWS, resolution=SIZE),
        f"encode{n}": node("RefAny3D_EncodeReferences"),
        f"place{n}": node("RefAny3D_PlaceInPhoto", azimuth=60.0, scene_size=2.0,
                          **MEADOW, **camera),
        f"sampler{n}": small_sampler(),
        f"decode{n}": node("VAEDecode"),
        f"paste{n}": node("RefAny3D_PasteBack"),
    }  # fmt: skip
    shared = ("models", "photo")
    links = [
        (a if a in shared else a + n, output, b + n, into)
        for a, output, b, into in (*MESH_LINKS, *PICTURE_LINKS, *PLACE_LINKS)
    ]
    camera_widgets = ("azimuth", "distance", "shift_x", "shift_y", "scene_size")
    box = Box(
        title, tuple(nodes), (400, y), (480, 440),
        ((f"prompt{n}", "text", "prompt"),
         *((f"place{n}", name, name) for name in camera_widgets),
         (f"sampler{n}", "seed", "seed")),
        {"IMAGE": "image"},
    )  # fmt: skip
    return nodes, links, box


def two_meshes() -> Template:
    far = one_of_two(1, "The farther one", 0, PROMPT, distance=7.5, shift_x=-0.12, shift_y=-0.06)
    near = one_of_two(2, "The nearer one, in front", 490, PROMPT.replace("mushroom", "snowman"),
                      distance=6.0, shift_x=0.08, shift_y=-0.16)  # fmt: skip
    nodes = {
        "note": note(TWO_NOTE, (0, 0), (360, 240), "Two meshes in one photo"),
        "models": node("RefAny3D_LoadDemoModels", (0, 290), (360, 110)),
        "mesh1": node("RefAny3D_LoadMesh", (0, 450), (360, 220), "The farther mesh",
                      mesh_file=EXAMPLE),
        "mesh2": node("RefAny3D_LoadMesh", (0, 720), (360, 220), "The nearer mesh",
                      mesh_file="examples/snowman.glb"),
        "photo": photo_node("meadow.jpg", (920, 0), (480, 330)),
        "image": node("SaveImage", (920, 380), (600, 560), "The photo with both",
                      filename_prefix="RefAny3D/two"),
    }  # fmt: skip
    second = [
        ("paste1", "image", into, socket) if start == "photo" else (start, output, into, socket)
        for start, output, into, socket in near[1]
    ]
    return Template(
        nodes={**nodes, **far[0], **near[0]},
        links=[*far[1], *second, ("place1", "paste", "place2", "placed"),
               ("paste2", "image", "image", "images")],
        boxes={"far": far[2], "near": near[2]},
        thumbnail=("image",),
    )  # fmt: skip


def camera_path() -> Template:
    nodes = {
        "note": note(PATH_NOTE, (0, 0), (360, 340), "Many cameras in one run"),
        "models": node("RefAny3D_LoadDemoModels", (0, 390), (360, 110)),
        "mesh": node("RefAny3D_LoadMesh", (0, 620), (360, 310), mesh_file=EXAMPLE),
        "path": node("RefAny3D_LockCameraPath", (400, 0), (480, 420), azimuths="0, 315",
                     pitches="15", distances="3.4", frames=8, width=SIZE, height=SIZE),
        "sheet": node("PreviewImage", (400, 470), (480, 460), "What is asked for"),
        "prompt": node("CLIPTextEncode", (920, 0), (360, 150), "Prompt", text=PROMPT),
        "views": node("RefAny3D_RenderViews", views=VIEWS, resolution=SIZE),
        "encode": node("RefAny3D_EncodeReferences"),
        "sampler": small_sampler(),
        "decode": node("VAEDecode"),
        "save": node("RefAny3D_SaveCameraPath", caption=PROMPT),
        "image": node("SaveImage", (1320, 0), (600, 930), "The pictures",
                      filename_prefix="RefAny3D/turntable"),
    }  # fmt: skip
    links: list[Link] = [
        *MESH_LINKS, *PICTURE_LINKS,
        ("models", "vae", "path", "vae"),
        ("mesh", "mesh", "path", "mesh"),
        ("path", "latent", "sampler", "latent"),
        ("path", "contact_sheet", "sheet", "images"),
        ("decode", "IMAGE", "image", "images"),
        ("path", "cameras", "save", "cameras"),
        ("path", "point_maps", "save", "point_maps"),
        ("path", "masks", "save", "masks"),
        ("path", "depth", "save", "depth"),
        ("decode", "IMAGE", "save", "images"),
        ("views", "views", "save", "views"),
        ("views", "point_maps", "save", "view_point_maps"),
    ]  # fmt: skip
    box = Box(
        "Make the pictures and save them all",
        ("views", "encode", "sampler", "decode", "save"),
        (920, 220), (360, 330),
        (("sampler", "seed", "seed"), ("sampler", "steps", "steps"),
         ("sampler", "image_guidance", "image_guidance"), ("save", "caption", "caption"),
         ("save", "filename_prefix", "folder")),
        {"IMAGE": "image", "positive": "prompt"},
    )  # fmt: skip
    return Template(
        nodes=nodes,
        links=links,
        boxes={"make": box},
        groups=[
            ("Your mesh", [-20, 540, 400, 410], GREEN),
            ("The cameras", [385, -80, 510, 1030], BROWN),
            ("The pictures", [1305, -80, 635, 1030], BLUE),
        ],
        thumbnail=("image", "sheet"),
    )


def flux_place() -> Template:
    nodes = flux_templates.mesh_nodes(FLUX_PLACE_NOTE, "Your product in your photo")
    nodes |= flux_templates.model_nodes()
    nodes["views"] = node("RefAny3D_RenderViews", views=8, resolution=512)
    nodes["prompt"] = node("CLIPTextEncode", (920, 0), (360, 170), "Prompt",
                           text="A small spotted toy cow on the saucer of a coffee cup, on a "
                           "wooden table, photo")  # fmt: skip
    nodes |= {
        "photo": photo_node("coffee.jpg", (400, 0)),
        "seen": node("PreviewImage", (400, 440), (480, 500), "What is asked for"),
        "encode": node("RefAny3D_EncodeReferences"),
        "place": node("RefAny3D_PlaceInPhoto", azimuth=120.0, pitch=35.0, distance=8.0, fov=45.0,
                      shift_x=-0.28, shift_y=0.1, width=512, height=512),
        "sampler": flux_templates.flux_sampler(),
        "decode": node("VAEDecode"),
        "paste": node("RefAny3D_PasteBack"),
        "image": node("SaveImage", (1320, 0), (600, 940), "The photo with your product",
                      filename_prefix="RefAny3D/photo"),
    }  # fmt: skip
    links = flux_templates.flux_links([*MESH_LINKS, *PICTURE_LINKS, *PLACE_LINKS])
    box = Box(
        "Place, make, paste back",
        ("views", "encode", "guidance", "place", "sampler", "decode", "paste"),
        (920, 240), (360, 480),
        (*CAMERA, *SHIFTS, ("place", "grow", "grow"), ("sampler", "seed", "seed"),
         ("sampler", "steps", "steps"), ("sampler", "denoise", "denoise")),
        {"IMAGE": "image", "conditioning": "prompt"},
    )  # fmt: skip
    return Template(
        nodes=nodes,
        links=[*flux_templates.MODEL_LINKS, *links, ("place", "preview", "seen", "images"),
               ("paste", "image", "image", "images")],
        boxes={"models": flux_templates.models_box(), "make": box},
        groups=[
            ("Your mesh", [-20, 630, 400, 330], GREEN),
            ("Your photo", [385, -80, 510, 1040], BROWN),
            ("The picture", [1305, -80, 635, 1040], BLUE),
        ],
        thumbnail=("photo", "views"),
        models=FLUX,
        blueprints={"make": "RefAny3D - 3D object placed in a photo"},
    )  # fmt: skip


HF_SPLAT = "https://huggingface.co/VAST-AI/TripoSplat/resolve/main"
SPLAT = {
    "LoadBackgroundRemovalModel": [
        ("birefnet.safetensors", "background_removal",
         "https://huggingface.co/Comfy-Org/BiRefNet/resolve/main/background_removal/"
         "birefnet.safetensors"),
    ],
    "splat_model": [
        ("triposplat_fp16.safetensors", "diffusion_models",
         f"{HF_SPLAT}/diffusion_models/triposplat_fp16.safetensors"),
    ],
    "CLIPVisionLoader": [
        ("dino_v3_vit_h.safetensors", "clip_vision",
         f"{HF_SPLAT}/clip_vision/dino_v3_vit_h.safetensors"),
    ],
    "splat_vae": [
        ("triposplat_vae_decoder_fp16.safetensors", "vae",
         f"{HF_SPLAT}/vae/triposplat_vae_decoder_fp16.safetensors"),
    ],
    "image_vae": [
        ("flux2-vae.safetensors", "vae", f"{HF_SPLAT}/vae/flux2-vae.safetensors"),
    ],
}  # fmt: skip
SPLAT_FILES = SPLAT | FLUX_FP8


def photo_to_mesh() -> Template:
    """TripoSplat's settings are those of ComfyUI's own template for it."""
    text = f"{SPLAT_NOTE_HEAD}\n{flux_templates.file_list(SPLAT_FILES)}\n"
    nodes = {
        "note": note(text, (0, 0), (360, 380), "A photo is enough"),
        "photo": photo_node("coffee.jpg", (0, 830), (360, 110)),
        "views": node("RefAny3D_RenderViews", (400, 0), (480, 940), views=8, resolution=512),
        "prompt": node("CLIPTextEncode", (920, 0), (360, 170), "Prompt",
                       text="A red coffee cup on its saucer on a beach at sunset, photo"),
        "guidance": node("FluxGuidance", guidance=3.5),
        "remover": node("LoadBackgroundRemovalModel", bg_removal_name="birefnet.safetensors"),
        "mask": node("RemoveBackground"),
        "prepare": node("TripoSplatPreprocessImage", erode_radius=1),
        "splat_model": node("UNETLoader", unet_name="triposplat_fp16.safetensors"),
        "vision": node("CLIPVisionLoader", clip_name="dino_v3_vit_h.safetensors"),
        "image_vae": node("VAELoader", vae_name="flux2-vae.safetensors"),
        "splat_vae": node("VAELoader", vae_name="triposplat_vae_decoder_fp16.safetensors"),
        "condition": node("TripoSplatConditioning"),
        "solve": node("KSampler", seed=46, steps=20, cfg=3.0, sampler_name="dpmpp_2m",
                      scheduler="simple", denoise=1.0),
        "splat": node("VAEDecodeTripoSplat", num_gaussians=262144),
        "mesh": node("SplatToMesh", resolution=384, level=0.6),
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="flux1-dev-fp8.safetensors"),
        "tokens": node("T5TokenizerOptions", min_padding=0, min_length=512),
        "adapters": flux_templates.adapters_node(),
        "encode": node("RefAny3D_EncodeReferences"),
        "sampler": flux_templates.flux_sampler(),
        "decode": node("VAEDecode"),
        "image": node("SaveImage", (1320, 0), (600, 940), "The picture",
                      filename_prefix="RefAny3D/image"),
    }  # fmt: skip
    sources = flux_templates.SOURCES | {
        ("models", "vae"): ("checkpoint", "VAE"),
        ("models", "model"): ("checkpoint", "MODEL"),
    }
    links = flux_templates.flux_links([*MESH_LINKS, *PICTURE_LINKS], sources)
    links += [
        ("checkpoint", "CLIP", "tokens", "clip"),
        ("photo", "image", "mask", "image"),
        ("remover", "bg_model", "mask", "bg_removal_model"),
        ("photo", "image", "prepare", "image"),
        ("mask", "mask", "prepare", "mask"),
        ("vision", "CLIP_VISION", "condition", "clip_vision"),
        ("image_vae", "VAE", "condition", "vae"),
        ("prepare", "image", "condition", "image"),
        ("splat_model", "MODEL", "solve", "model"),
        ("condition", "positive", "solve", "positive"),
        ("condition", "negative", "solve", "negative"),
        ("condition", "latent", "solve", "latent_image"),
        ("solve", "LATENT", "splat", "samples"),
        ("splat_vae", "VAE", "splat", "vae"),
        ("splat", "splat", "mesh", "splat"),
        ("decode", "IMAGE", "image", "images"),
    ]
    return Template(
        nodes=nodes,
        links=links,
        boxes={
            "models": Box(
                "Models: FLUX.1-dev (fp8) and RefAny3D", ("checkpoint", "tokens", "adapters"),
                (0, 660), (360, 120), (("checkpoint", "ckpt_name", "ckpt_name"),),
                {"MODEL": "model", "CLIP": "clip", "VAE": "vae"},
            ),
            "splat_box": Box(
                "A mesh of the photo: TripoSplat",
                ("remover", "mask", "prepare", "splat_model", "vision", "image_vae", "splat_vae",
                 "condition", "solve", "splat", "mesh"),
                (0, 430), (360, 180),
                (("solve", "seed", "seed"), ("solve", "steps", "steps"),
                 ("mesh", "resolution", "resolution"), ("mesh", "level", "level")),
            ),
            "make": Box(
                "Make the picture",
                ("guidance", "encode", "sampler", "decode"),
                (920, 240), (360, 250),
                (("sampler", "seed", "seed"), ("sampler", "steps", "steps"),
                 ("sampler", "image_guidance", "image_guidance"),
                 ("sampler", "width", "width"), ("sampler", "height", "height")),
                {"IMAGE": "image", "conditioning": "prompt"},
            ),
        },
        groups=[
            ("What to make", [900, -80, 395, 1040], BROWN),
            ("The picture", [1305, -80, 635, 1040], BLUE),
        ],
        thumbnail=("photo",),
        models=SPLAT_FILES,
    )  # fmt: skip


TEMPLATES = {
    "Put my 3D mesh into my photo - place, paste back, rest untouched": place_in_photo,
    "Put two 3D meshes into one photo - the nearer in front": two_meshes,
    "Turntable of my 3D mesh - many locked cameras in one run": camera_path,
    "Put my product into my photo (FLUX.1-dev)": flux_place,
    "From one photo to a 3D mesh to a new picture (TripoSplat, FLUX.1-dev)": photo_to_mesh,
}
