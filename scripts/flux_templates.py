"""The templates for FLUX.1-dev."""

from __future__ import annotations

from dataclasses import replace

from flux_models import FLUX, FLUX_FP8, TURBO, TURBO_LORA, file_list

from template_parts import (
    BLUE,
    BROWN,
    GREEN,
    MESH_LINKS,
    SAMPLE_LINKS,
    SAVE_LINKS,
    Box,
    Link,
    Node,
    Template,
    make_box,
    node,
    note,
    sampling_nodes,
    save_nodes,
)

PROMPT = "A spotted toy cow on a picnic blanket in a sunny meadow, shallow depth of field, photo"
NOTE = f"""\
Choose your mesh in **Load Mesh**, describe the scene in **Prompt** and name the object in it.

{file_list(FLUX)}
"""
FAST_NOTE = f"""\
Eight steps in place of 28 by a turbo LoRA on FLUX.1-dev (strength 0.125, as its authors say), and \
**speed** `fast`: references computed once, without their white paper. More fidelity for more \
time: `balanced`, then `exact`.

{file_list(FLUX | TURBO)}
"""
ADVANCED_NOTE = f"""\
**Apply RefAny3D** gives a *joint* latent, image left and point map right, for any stock sampler; \
`cfg` is the image guidance (published: 2.0).

{file_list(FLUX)}
"""
APP_NOTE = f"""\
Switch from **Graph** to **App** (top left) for the short form: mesh, prompt, camera and seed in, \
the picture out.

{file_list(FLUX)}
"""
SMALL_CARD_NOTE = f"""\
FLUX.1-dev in 8 bits, one file with text encoders and VAE, and four views of the mesh: for cards \
with 12 to 16 GB. Still too much? Fewer `views`, or start ComfyUI with `--lowvram`.

{file_list(FLUX_FP8)}
"""


def model_nodes() -> dict[str, Node]:
    """The loaders, and T5 on the 512 tokens that FLUX.1-dev was trained with."""
    return {
        "unet": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "clip": node(
            "DualCLIPLoader", clip_name1="t5xxl_fp16.safetensors",
            clip_name2="clip_l.safetensors", type="flux",
        ),
        "tokens": node("T5TokenizerOptions", min_padding=0, min_length=512),
        "vae": node("VAELoader", vae_name="ae.safetensors"),
        "adapters": adapters_node(),
    }  # fmt: skip


def adapters_node() -> Node:
    return node(
        "RefAny3D_LoadAdapters", reference_lora="default.safetensors",
        domain_lora="coord.safetensors", domain_embedder="domain_embedder.pth",
    )  # fmt: skip


def models_box() -> Box:
    return Box(
        "Models: FLUX.1-dev and RefAny3D",
        ("unet", "clip", "tokens", "vae", "adapters"),
        (0, 390), (360, 230),
        (("unet", "unet_name", "unet_name"), ("unet", "weight_dtype", "weight_dtype"),
         ("clip", "clip_name1", "t5"), ("clip", "clip_name2", "clip_l"),
         ("vae", "vae_name", "vae_name")),
        {"MODEL": "model", "CLIP": "clip", "VAE": "vae"},
    )  # fmt: skip


def mesh_nodes(text: str, title: str, views: int = 8, resolution: int = 512) -> dict[str, Node]:
    """Note, mesh, views and prompt."""
    return {
        "note": note(text, (0, 0), (360, 310), title),
        "mesh": node("RefAny3D_LoadMesh", (0, 700), (360, 240), mesh_file="examples/spot.glb"),
        "views": node(
            "RefAny3D_RenderViews", (400, 0), (480, 940), views=views, resolution=resolution
        ),
        "prompt": node("CLIPTextEncode", (920, 0), (360, 170), "Prompt", text=PROMPT),
        "guidance": node("FluxGuidance", guidance=3.5),
    }


# The small model's links, on these loaders.
SOURCES = {
    ("models", "clip"): ("tokens", "CLIP"),
    ("models", "vae"): ("vae", "VAE"),
    ("models", "model"): ("unet", "MODEL"),
    ("models", "adapters"): ("adapters", "adapters"),
    ("prompt", "CONDITIONING"): ("guidance", "CONDITIONING"),
}
MODEL_LINKS: list[Link] = [("clip", "CLIP", "tokens", "clip")]


def flux_links(links: list[Link], sources: dict = SOURCES) -> list[Link]:
    """Links that were written for Load Demo Models, from FLUX.1-dev's own loaders."""
    moved = [(*sources.get(link[:2], link[:2]), *link[2:]) for link in links]
    return [*moved, ("prompt", "CONDITIONING", "guidance", "conditioning")]


def groups() -> list[tuple[str, list[int], str]]:
    return [
        ("Your mesh", [-20, 630, 400, 330], GREEN),
        ("What to make", [900, -80, 395, 1040], BROWN),
        ("The pictures", [1305, -80, 435, 1040], BLUE),
    ]


def flux_sampler() -> Node:
    return node("RefAny3D_Sampler", seed=1, width=512, height=512, steps=28, image_guidance=2.0)


def flux_dev() -> Template:
    return Template(
        nodes=mesh_nodes(NOTE, "Your mesh in a picture")
        | model_nodes()
        | sampling_nodes(flux_sampler())
        | save_nodes(),
        links=[*MODEL_LINKS, *flux_links([*MESH_LINKS, *SAMPLE_LINKS]), *SAVE_LINKS],
        boxes={"models": models_box(), "make": make_box(240, more=("guidance",))},
        groups=groups(),
        models=FLUX,
        blueprints={"make": "RefAny3D - picture of a 3D object and its point map"},
    )


def fast() -> Template:
    sources = SOURCES | {("models", "model"): ("turbo", "MODEL")}
    sampler = flux_sampler()
    sampler["widgets"] |= {"steps": 8, "speed": "fast"}
    models = models_box()
    files = tuple(widget for widget in models.widgets if widget[1] != "weight_dtype")
    models = replace(
        models,
        nodes=(*models.nodes, "turbo"),
        widgets=(*files, ("turbo", "lora_name", "lora_name")),
    )
    return Template(
        nodes=mesh_nodes(FAST_NOTE, "Your mesh in eight steps")
        | model_nodes()
        | {"turbo": node("LoraLoaderModelOnly", lora_name=TURBO_LORA, strength_model=0.125)}
        | sampling_nodes(sampler)
        | save_nodes(),
        links=[
            *MODEL_LINKS,
            ("unet", "MODEL", "turbo", "model"),
            *flux_links([*MESH_LINKS, *SAMPLE_LINKS], sources),
            *SAVE_LINKS,
        ],
        boxes={
            "models": models,
            "make": make_box(240, (("sampler", "speed", "speed"),), more=("guidance",)),
        },
        groups=groups(),
        models=FLUX | TURBO,
    )


def photo_app() -> Template:
    pose = node("RefAny3D_LockPose", azimuth=60.0, pitch=15.0, distance=3.5, width=512, height=512)
    camera = tuple(("pose", name, name) for name in ("azimuth", "pitch", "distance"))
    links: list[Link] = [
        ("vae", "VAE", "pose", "vae"),
        ("mesh", "mesh", "pose", "mesh"),
        ("pose", "latent", "sampler", "latent"),
    ]
    return Template(
        nodes=mesh_nodes(APP_NOTE, "Photo of my 3D object")
        | model_nodes()
        | sampling_nodes(flux_sampler())
        | {"pose": pose}
        | save_nodes(),
        links=[*MODEL_LINKS, *flux_links([*MESH_LINKS, *SAMPLE_LINKS]), *links, *SAVE_LINKS],
        boxes={
            "models": models_box(),
            "make": make_box(240, camera, more=("guidance", "pose"), height=420),
        },
        groups=groups(),
        models=FLUX,
        app_inputs=(
            ("mesh", "mesh_file"),
            ("prompt", "text"),
            *(("make", name) for _, name, _ in camera),
            ("make", "seed"),
        ),
        app_outputs=("image",),
        blueprints={"make": "RefAny3D - picture of a 3D object from a locked camera"},
    )


def small_card() -> Template:
    sources = SOURCES | {
        ("models", "clip"): ("tokens", "CLIP"),
        ("models", "vae"): ("checkpoint", "VAE"),
        ("models", "model"): ("checkpoint", "MODEL"),
    }
    return Template(
        nodes=mesh_nodes(SMALL_CARD_NOTE, "For cards with 12 to 16 GB", views=4)
        | {
            "checkpoint": node("CheckpointLoaderSimple", ckpt_name="flux1-dev-fp8.safetensors"),
            "tokens": node("T5TokenizerOptions", min_padding=0, min_length=512),
            "adapters": adapters_node(),
        }
        | sampling_nodes(flux_sampler())
        | save_nodes(),
        links=[
            ("checkpoint", "CLIP", "tokens", "clip"),
            *flux_links([*MESH_LINKS, *SAMPLE_LINKS], sources),
            *SAVE_LINKS,
        ],
        boxes={
            "models": Box(
                "Models: FLUX.1-dev (fp8) and RefAny3D",
                ("checkpoint", "tokens", "adapters"),
                (0, 390), (360, 150),
                (("checkpoint", "ckpt_name", "ckpt_name"),),
                {"MODEL": "model", "CLIP": "clip", "VAE": "vae"},
            ),
            "make": make_box(240, more=("guidance",)),
        },
        groups=groups(),
        models=FLUX_FP8,
    )  # fmt: skip


def advanced() -> Template:
    nodes = sampling_nodes(
        node("KSampler", (1320, 0), seed=1, steps=28, cfg=2.0, sampler_name="euler",
             scheduler="simple", denoise=1.0)
    )  # fmt: skip
    nodes |= {
        "shift": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=512, height=512),
        "apply": node("RefAny3D_Apply", width=512, height=512, batch_size=1),
        "split": node("RefAny3D_SplitLatent"),
    }
    nodes["sampler"] = {**nodes["sampler"], "pos": [920, 240], "size": [360, 270]}
    links = [link for link in SAMPLE_LINKS if link[2] != "sampler" and link[0] != "sampler"]
    links += [
        ("models", "model", "shift", "model"),
        ("shift", "MODEL", "apply", "model"),
        ("models", "adapters", "apply", "adapters"),
        ("encode", "reference", "apply", "reference"),
        ("prompt", "CONDITIONING", "apply", "positive"),
        ("apply", "model", "sampler", "model"),
        ("apply", "positive", "sampler", "positive"),
        ("apply", "negative", "sampler", "negative"),
        ("apply", "latent", "sampler", "latent_image"),
        ("sampler", "LATENT", "split", "latent"),
        ("split", "image", "decode", "samples"),
        ("split", "point_map", "decode_map", "point_map"),
    ]
    nodes |= {
        "image": node("SaveImage", (1320, 0), (400, 560), "Image",
                      filename_prefix="RefAny3D/image"),
        "map": node("SaveImage", filename_prefix="RefAny3D/point_map"),
    }  # fmt: skip
    return Template(
        nodes=mesh_nodes(ADVANCED_NOTE, "With stock samplers") | model_nodes() | nodes,
        links=[*MODEL_LINKS, *flux_links([*MESH_LINKS, *links]), *SAVE_LINKS],
        boxes={
            "models": models_box(),
            "apply_box": Box(
                "Render and encode the mesh, Apply RefAny3D",
                ("views", "encode", "guidance", "shift", "apply"),
                (400, 0), (480, 330),
                (("views", "views", "views"), ("views", "resolution", "resolution"),
                 ("shift", "width", "schedule_width"), ("shift", "height", "schedule_height"),
                 ("apply", "width", "width"), ("apply", "height", "height"),
                 ("apply", "batch_size", "batch_size")),
                {"conditioning": "prompt"},
            ),
            "take": Box(
                "Take the panels apart, decode, save the point map",
                ("split", "decode", "decode_map", "map"),
                (920, 580), (360, 360), (),
                {"IMAGE": "image"},
            ),
        },
        groups=groups(),
        models=FLUX,
    )  # fmt: skip


TEMPLATES = {
    "Picture of my 3D mesh with its point map (FLUX.1-dev)": flux_dev,
    "Picture of my 3D mesh in 8 steps - turbo LoRA, point map (FLUX.1-dev)": fast,
    "Photo of my 3D mesh as an app - prompt, camera, seed (FLUX.1-dev)": photo_app,
    "Picture of my 3D mesh with little memory - fp8, 4 views, point map (FLUX.1-dev)": small_card,
    "Picture of my 3D mesh with any stock sampler - joint point map latent (FLUX.1-dev)": advanced,
}
