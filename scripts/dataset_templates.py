"""The templates that make training sets out of pictures."""

from __future__ import annotations

from flux_models import HF, file_list

from template_parts import BLUE, BROWN, GREEN, Box, Link, Node, Template, node, note

SAM_FILE = "sam3.1_multiplex_fp16.safetensors"
SAM = {
    "CheckpointLoaderSimple": [
        (SAM_FILE, "checkpoints",
         f"{HF}/Comfy-Org/sam3.1/resolve/main/checkpoints/{SAM_FILE}"),
    ],
}  # fmt: skip
SPLAT = f"{HF}/VAST-AI/TripoSplat/resolve/main"
SPLAT_MODEL, DINO = "triposplat_fp16.safetensors", "dino_v3_vit_h.safetensors"
SPLAT_VAE, FLUX2_VAE = "triposplat_vae_decoder_fp16.safetensors", "flux2-vae.safetensors"
TRIPOSPLAT = {
    "UNETLoader": [
        (SPLAT_MODEL, "diffusion_models", f"{SPLAT}/diffusion_models/{SPLAT_MODEL}"),
    ],
    "CLIPVisionLoader": [(DINO, "clip_vision", f"{SPLAT}/clip_vision/{DINO}")],
    "decoder": [(SPLAT_VAE, "vae", f"{SPLAT}/vae/{SPLAT_VAE}")],
    "flux2": [(FLUX2_VAE, "vae", f"{SPLAT}/vae/{FLUX2_VAE}")],
}
HUNYUAN_FILE = "hunyuan3d-dit-v2_fp16.safetensors"
HUNYUAN = {
    "ImageOnlyCheckpointLoader": [
        (HUNYUAN_FILE, "checkpoints",
         f"{HF}/Comfy-Org/hunyuan3D_2.0_repackaged/resolve/main/split_files/{HUNYUAN_FILE}"),
    ],
}  # fmt: skip

TRIPOSPLAT_NOTE = f"""\
Name the object in **Find the object**, and what the photo shows in **Save Triplet**. The record \
goes to `output/refany3d`; a pose that is not to be trusted is not saved. For your own photos put \
**Load Image** in the example's place. Any image-to-3D node may take the place of TripoSplat's box.

{file_list(SAM | TRIPOSPLAT)}
"""
HUNYUAN_NOTE = f"""\
As the one with TripoSplat, but the mesh has no colours: only its silhouette tells the pose. \
**Hunyuan3D's licence does not let you improve other AI models with what it makes, and does not \
hold in the EU, the UK and South Korea.**

{file_list(SAM | HUNYUAN)}
"""


def triplet_nodes(text: str, title: str) -> dict[str, Node]:
    """All but the mesh's box."""
    return {
        "note": note(text, (0, 0), (400, 470), title),
        "photo": node("RefAny3D_ExamplePhoto", (0, 550), (400, 390), photo="coffee.jpg"),
        "sam": node("CheckpointLoaderSimple", ckpt_name=SAM_FILE),
        "object": node("CLIPTextEncode", text="coffee cup"),
        "detect": node("SAM3_Detect", threshold=0.5),
        "pose": node("RefAny3D_EstimatePose", (920, 0), (360, 250), fov=0.0),
        "overlay": node("PreviewImage", (1320, 0), (440, 470), "Does it lie on the object?"),
        "save": node(
            "RefAny3D_SaveTriplet", (920, 340), (360, 600), caption="A cup of coffee on a table",
            item="coffee cup", dataset="my_dataset",
        ),
        "words": node("PreviewAny", (1320, 550), (440, 390), "How sure is it?"),
    }  # fmt: skip


TRIPLET_LINKS: list[Link] = [
    ("sam", "CLIP", "object", "clip"),
    ("sam", "MODEL", "detect", "model"),
    ("object", "CONDITIONING", "detect", "conditioning"),
    ("photo", "image", "detect", "image"),
    ("photo", "image", "pose", "image"),
    ("photo", "image", "save", "image"),
    ("detect", "masks", "pose", "mask"),
    ("detect", "masks", "save", "mask"),
    ("pose", "camera_info", "save", "camera_info"),
    ("pose", "iou", "save", "iou"),
    ("pose", "ambiguity", "save", "ambiguity"),
    ("pose", "overlay", "overlay", "images"),
    ("pose", "info", "words", "source"),
]


def mask_box() -> Box:
    return Box(
        "Find the object: SAM 3",
        ("sam", "object", "detect"),
        (440, 0), (440, 250),
        (("object", "text", "object"), ("detect", "threshold", "threshold"),
         ("sam", "ckpt_name", "ckpt_name")),
        {"masks": "mask"},
    )  # fmt: skip


def groups() -> list[tuple[str, list[int], str]]:
    return [
        ("Your photo", [-20, 470, 440, 490], GREEN),
        ("Its object as a mesh", [430, -80, 460, 1040], BROWN),
        ("Pose and record", [900, -80, 880, 1040], BLUE),
    ]


def triposplat() -> Template:
    nodes = triplet_nodes(TRIPOSPLAT_NOTE, "A training set from your photos") | {
        "cut": node("TripoSplatPreprocessImage", erode_radius=1, _size=1024),
        "dino": node("CLIPVisionLoader", clip_name=DINO),
        "flux2": node("VAELoader", vae_name=FLUX2_VAE),
        "decoder": node("VAELoader", vae_name=SPLAT_VAE),
        "unet": node("UNETLoader", unet_name=SPLAT_MODEL, weight_dtype="default"),
        "condition": node("TripoSplatConditioning"),
        "solve": node("KSampler", seed=1, steps=20, cfg=3.0, sampler_name="dpmpp_2m",
                      scheduler="simple", denoise=1.0),
        "splat": node("VAEDecodeTripoSplat", num_gaussians=262144, seed=1),
        "surface": node("SplatToMesh", resolution=384),
    }  # fmt: skip
    links = [
        *TRIPLET_LINKS,
        ("photo", "image", "cut", "image"),
        ("detect", "masks", "cut", "mask"),
        ("cut", "image", "condition", "image"),
        ("dino", "CLIP_VISION", "condition", "clip_vision"),
        ("flux2", "VAE", "condition", "vae"),
        ("unet", "MODEL", "solve", "model"),
        ("condition", "positive", "solve", "positive"),
        ("condition", "negative", "solve", "negative"),
        ("condition", "latent", "solve", "latent_image"),
        ("solve", "LATENT", "splat", "samples"),
        ("decoder", "VAE", "splat", "vae"),
        ("splat", "splat", "surface", "splat"),
        ("surface", "mesh", "pose", "mesh"),
        ("surface", "mesh", "save", "mesh"),
    ]
    return Template(
        nodes=nodes,
        links=links,
        boxes={
            "mask_box": mask_box(),
            "mesh_box": Box(
                "One photo to a mesh with colours: TripoSplat",
                ("cut", "dino", "flux2", "decoder", "unet", "condition", "solve", "splat",
                 "surface"),
                (440, 340), (440, 330),
                (("solve", "seed", "seed"), ("solve", "steps", "steps"), ("solve", "cfg", "cfg"),
                 ("splat", "num_gaussians", "num_gaussians"),
                 ("surface", "resolution", "mesh_resolution")),
            ),
        },
        groups=groups(),
        thumbnail=("photo",),
        models=SAM | TRIPOSPLAT,
    )  # fmt: skip


def hunyuan() -> Template:
    nodes = triplet_nodes(HUNYUAN_NOTE, "With Hunyuan3D") | {
        "size": node("GetImageSize"),
        "white": node("EmptyImage", color=0xFFFFFF),
        "cut": node("ImageCompositeMasked"),
        "hunyuan": node("ImageOnlyCheckpointLoader", ckpt_name=HUNYUAN_FILE),
        "seen": node("CLIPVisionEncode", crop="none"),
        "shift": node("ModelSamplingAuraFlow", shift=1.0),
        "condition": node("Hunyuan3Dv2Conditioning"),
        "empty": node("EmptyLatentHunyuan3Dv2", resolution=3072),
        "solve": node("KSampler", seed=1, steps=20, cfg=8.0, sampler_name="euler",
                      scheduler="normal", denoise=1.0),
        "voxels": node("VAEDecodeHunyuan3D"),
        "surface": node("VoxelToMesh"),
    }  # fmt: skip
    links = [
        *TRIPLET_LINKS,
        ("photo", "image", "size", "image"),
        ("size", "width", "white", "width"),
        ("size", "height", "white", "height"),
        ("white", "IMAGE", "cut", "destination"),
        ("photo", "image", "cut", "source"),
        ("detect", "masks", "cut", "mask"),
        ("cut", "IMAGE", "seen", "image"),
        ("hunyuan", "CLIP_VISION", "seen", "clip_vision"),
        ("seen", "CLIP_VISION_OUTPUT", "condition", "clip_vision_output"),
        ("hunyuan", "MODEL", "shift", "model"),
        ("shift", "MODEL", "solve", "model"),
        ("condition", "positive", "solve", "positive"),
        ("condition", "negative", "solve", "negative"),
        ("empty", "LATENT", "solve", "latent_image"),
        ("solve", "LATENT", "voxels", "samples"),
        ("hunyuan", "VAE", "voxels", "vae"),
        ("voxels", "VOXEL", "surface", "voxel"),
        ("surface", "MESH", "pose", "mesh"),
        ("surface", "MESH", "save", "mesh"),
    ]
    return Template(
        nodes=nodes,
        links=links,
        boxes={
            "mask_box": mask_box(),
            "mesh_box": Box(
                "One photo to a mesh without colours: Hunyuan3D",
                ("size", "white", "cut", "hunyuan", "seen", "shift", "condition", "empty", "solve",
                 "voxels", "surface"),
                (440, 340), (440, 280),
                (("solve", "seed", "seed"), ("solve", "steps", "steps"), ("solve", "cfg", "cfg"),
                 ("hunyuan", "ckpt_name", "ckpt_name"), ("empty", "resolution", "resolution")),
                {"MESH": "mesh"},
            ),
        },
        groups=groups(),
        thumbnail=("photo",),
        models=SAM | HUNYUAN,
    )  # fmt: skip


TEMPLATES = {
    "Training dataset from my photos - mask, 3D mesh, camera pose (SAM 3, TripoSplat)": triposplat,
    "Training dataset from my photos - mask, 3D mesh, camera pose (SAM 3, Hunyuan3D)": hunyuan,
}
