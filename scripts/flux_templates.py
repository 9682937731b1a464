"""The templates for FLUX.1-dev: nodes, links and groups. `save_workflows.py` builds them."""

from __future__ import annotations

HF = "https://huggingface.co"
MODELS = {
    "UNETLoader": [
        ("flux1-dev.safetensors", "diffusion_models",
         f"{HF}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors"),
    ],
    "DualCLIPLoader": [
        ("t5xxl_fp16.safetensors", "text_encoders",
         f"{HF}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors"),
        ("clip_l.safetensors", "text_encoders",
         f"{HF}/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors"),
    ],
    "VAELoader": [
        ("ae.safetensors", "vae",
         f"{HF}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors"),
    ],
    "RefAny3D_LoadAdapters": [
        (name, "refany3d", f"{HF}/JudgementH/RefAny3D/resolve/main/{name}")
        for name in ("default.safetensors", "coord.safetensors", "domain_embedder.pth")
    ],
}  # fmt: skip

FILES_NOTE = """### Files, and where they go

| file | folder |
|---|---|
| [flux1-dev.safetensors](%(flux)s) | models/diffusion_models |
| [t5xxl_fp16.safetensors](%(t5)s) | models/text_encoders |
| [clip_l.safetensors](%(clip)s) | models/text_encoders |
| [ae.safetensors](%(ae)s) | models/vae |
| [default.safetensors](%(default)s) | models/refany3d |
| [coord.safetensors](%(coord)s) | models/refany3d |
| [domain_embedder.pth](%(domain)s) | models/refany3d |

Put your mesh (GLB, glTF, OBJ, PLY, STL) into input/3d, or use the upload button of Load Mesh.

Less memory: t5xxl_fp8_e4m3fn_scaled in place of t5xxl_fp16, and `fp8_e4m3fn` as weight_dtype.
""" % dict(
    zip(
        ("flux", "t5", "clip", "ae", "default", "coord", "domain"),
        (url for entries in MODELS.values() for _, _, url in entries),
    )
)

SAMPLER_NOTE = """### How it works

Eight views of the mesh and their point maps (each pixel's place in the mesh's box, as a colour) \
are the references. The sampler makes two pictures side by side: the image, and the image's own \
point map.

* **image_guidance**: how strongly the mesh is followed. 2.0 is the published value.
* **512 x 512** is the size that the model was trained at.
* Name the object in the prompt, and describe the scene around it.
"""

ADVANCED_NOTE = """### With stock samplers

Apply RefAny3D gives a patched model, both conditionings and an empty *joint* latent: the image \
in its left half, the point map in its right half. Any stock sampler runs on it. Afterwards Split \
Joint Latent takes the halves apart.

* **cfg** is the image guidance: 2.0 is the published value.
* **ModelSamplingFlux** with the size of ONE picture, and the scheduler **simple**, give the \
published noise schedule. Keep its width and height equal to those of Apply RefAny3D.
"""

PROMPT = "A spotted toy cow on a picnic blanket in a sunny meadow, shallow depth of field, photo"
BLUE, GREEN, BROWN = "#3f5159", "#335533", "#593930"


def node(kind: str, x: int, y: int, width: int, height: int, **rest) -> dict:
    return {"type": kind, "pos": [x, y], "size": [width, height], **rest}


def shared_nodes(pictures: int) -> dict:
    """The nodes of both templates; `pictures` is the left edge of the last column."""
    return {
        "note": node("MarkdownNote", 0, 0, 420, 380, widgets={"0": FILES_NOTE},
                     title="Which files go where"),
        "unet": node("UNETLoader", 450, 0, 330, 90, title="Load FLUX.1-dev",
                     widgets={"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}),
        "clip": node("DualCLIPLoader", 450, 150, 330, 130, title="Load text encoders",
                     widgets={"clip_name1": "t5xxl_fp16.safetensors",
                              "clip_name2": "clip_l.safetensors", "type": "flux"}),
        "vae": node("VAELoader", 450, 340, 330, 60, title="Load VAE",
                    widgets={"vae_name": "ae.safetensors"}),
        "adapters": node("RefAny3D_LoadAdapters", 450, 460, 330, 110,
                         widgets={"reference_lora": "default.safetensors",
                                  "domain_lora": "coord.safetensors",
                                  "domain_embedder": "domain_embedder.pth"}),
        "mesh": node("RefAny3D_LoadMesh", 450, 690, 330, 330,
                     widgets={"mesh_file": "examples/spot.glb"}),
        "views": node("RefAny3D_RenderViews", 820, 690, 380, 800),
        "encode": node("RefAny3D_EncodeReferences", 1240, 690, 250, 90),
        "prompt": node("CLIPTextEncode", 820, 150, 400, 160, title="Prompt",
                       widgets={"text": PROMPT}),
        "guidance": node("FluxGuidance", 1250, 150, 240, 70, widgets={"guidance": 3.5}),
        "decode": node("VAEDecode", pictures, 0, 240, 60),
        "decode_map": node("RefAny3D_DecodePointMap", pictures, 600, 240, 80),
        "image": node("SaveImage", pictures + 280, 0, 440, 500, title="Save image",
                      widgets={"filename_prefix": "RefAny3D/image"}),
        "map": node("SaveImage", pictures + 280, 600, 440, 500, title="Save point map",
                    widgets={"filename_prefix": "RefAny3D/point_map"}),
    }  # fmt: skip


SHARED_LINKS = [
    ("clip", "CLIP", "prompt", "clip"),
    ("prompt", "CONDITIONING", "guidance", "conditioning"),
    ("mesh", "mesh", "views", "mesh"),
    ("views", "views", "encode", "views"),
    ("views", "point_maps", "encode", "point_maps"),
    ("vae", "VAE", "encode", "vae"),
    ("vae", "VAE", "decode", "vae"),
    ("vae", "VAE", "decode_map", "vae"),
    ("decode", "IMAGE", "image", "images"),
    ("decode_map", "point_map", "map", "images"),
]


def shared_groups(pictures: int) -> list[tuple]:
    return [
        ("Models", [440, -80, 350, 660], BLUE),
        ("Your mesh, seen from eight sides", [440, 610, 1060, 900], GREEN),
        ("What to make", [810, -80, 690, 400], BROWN),
        ("The pictures", [pictures - 10, -80, 740, 1190], BLUE),
    ]


def flux_dev() -> dict:
    pictures = 1900
    nodes = shared_nodes(pictures) | {
        "sampler": node("RefAny3D_Sampler", 1540, 0, 310, 400,
                        widgets={"seed": 1, "width": 512, "height": 512, "steps": 28,
                                 "image_guidance": 2.0}),
        "how": node("MarkdownNote", 0, 420, 420, 330, widgets={"0": SAMPLER_NOTE},
                    title="How it works"),
    }  # fmt: skip
    links = [
        *SHARED_LINKS,
        ("unet", "MODEL", "sampler", "model"),
        ("adapters", "adapters", "sampler", "adapters"),
        ("encode", "reference", "sampler", "reference"),
        ("guidance", "CONDITIONING", "sampler", "positive"),
        ("sampler", "image", "decode", "samples"),
        ("sampler", "point_map", "decode_map", "point_map"),
    ]
    groups = [
        *shared_groups(pictures),
        ("Sample both together", [1530, -80, 330, 500], GREEN),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}


def advanced() -> dict:
    pictures = 2640
    nodes = shared_nodes(pictures) | {
        "shift": node("ModelSamplingFlux", 820, 420, 300, 150,
                      widgets={"max_shift": 1.15, "base_shift": 0.5, "width": 512, "height": 512}),
        "apply": node("RefAny3D_Apply", 1540, 0, 310, 420,
                      widgets={"width": 512, "height": 512, "batch_size": 1}),
        "sampler": node("KSampler", 1910, 0, 310, 270,
                        widgets={"seed": 1, "steps": 28, "cfg": 2.0, "sampler_name": "euler",
                                 "scheduler": "simple", "denoise": 1.0}),
        "split": node("RefAny3D_SplitLatent", 2280, 0, 280, 60),
        "how": node("MarkdownNote", 0, 420, 420, 330, widgets={"0": ADVANCED_NOTE},
                    title="With stock samplers"),
    }  # fmt: skip
    links = [
        *SHARED_LINKS,
        ("unet", "MODEL", "shift", "model"),
        ("shift", "MODEL", "apply", "model"),
        ("adapters", "adapters", "apply", "adapters"),
        ("encode", "reference", "apply", "reference"),
        ("guidance", "CONDITIONING", "apply", "positive"),
        ("apply", "model", "sampler", "model"),
        ("apply", "positive", "sampler", "positive"),
        ("apply", "negative", "sampler", "negative"),
        ("apply", "latent", "sampler", "latent_image"),
        ("sampler", "LATENT", "split", "latent"),
        ("split", "image", "decode", "samples"),
        ("split", "point_map", "decode_map", "point_map"),
    ]
    groups = [
        *shared_groups(pictures),
        ("Published noise schedule", [810, 340, 690, 250], GREEN),
        ("Sample both together", [1530, -80, 1040, 520], GREEN),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}
