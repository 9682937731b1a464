"""The template that goes on from locked pictures to a new 3D model."""

from __future__ import annotations

from flux_models import FLUX, HUNYUAN, HUNYUAN_FILE, file_list

from flux_templates import MODEL_LINKS, flux_links, groups, mesh_nodes, model_nodes, models_box
from template_parts import MESH_LINKS, Box, Template, node

TO_3D_NOTE = f"""\
Four pictures of your mesh in a new look, each from a locked camera, cut out by the mask of **Lock \
Pose**, go to Hunyuan3D's multi-view model.

{file_list(HUNYUAN)}

and the files of the other templates with FLUX.1-dev.
"""
SIDES = {"front": 90.0, "left": 0.0, "back": 270.0, "right": 180.0}


def to_3d() -> Template:
    nodes = mesh_nodes(TO_3D_NOTE, "On to 3D") | model_nodes()
    nodes |= {
        "encode": node("RefAny3D_EncodeReferences"),
        "white": node("EmptyImage", width=512, height=512, color=0xFFFFFF),
    }
    links = list(MODEL_LINKS) + flux_links(list(MESH_LINKS))
    looks: list[str] = []
    for side, azimuth in SIDES.items():
        names = {
            part: f"{part}_{side}"
            for part in ("pose", "sampler", "decode", "cut", "seen", "clip_vision")
        }
        looks += names.values()
        nodes |= {
            names["pose"]: node(
                "RefAny3D_LockPose", title=f"Camera: {side}", azimuth=azimuth, width=512, height=512
            ),
            names["sampler"]: node("RefAny3D_Sampler", seed=1, steps=28, width=512, height=512),
            names["decode"]: node("VAEDecode"),
            names["cut"]: node("ImageCompositeMasked"),
            names["seen"]: node("SaveImage", filename_prefix=f"RefAny3D/{side}"),
            names["clip_vision"]: node("CLIPVisionEncode"),
        }
        links += [
            ("unet", "MODEL", names["sampler"], "model"),
            ("adapters", "adapters", names["sampler"], "adapters"),
            ("encode", "reference", names["sampler"], "reference"),
            ("guidance", "CONDITIONING", names["sampler"], "positive"),
            ("vae", "VAE", names["pose"], "vae"),
            ("mesh", "mesh", names["pose"], "mesh"),
            (names["pose"], "latent", names["sampler"], "latent"),
            (names["sampler"], "image", names["decode"], "samples"),
            ("vae", "VAE", names["decode"], "vae"),
            ("white", "IMAGE", names["cut"], "destination"),
            (names["decode"], "IMAGE", names["cut"], "source"),
            (names["pose"], "mask", names["cut"], "mask"),
            (names["cut"], "IMAGE", names["seen"], "images"),
            (names["cut"], "IMAGE", names["clip_vision"], "image"),
            ("hunyuan", "CLIP_VISION", names["clip_vision"], "clip_vision"),
            (names["clip_vision"], "CLIP_VISION_OUTPUT", "condition", side),
        ]
    nodes |= {
        "hunyuan": node("ImageOnlyCheckpointLoader", ckpt_name=HUNYUAN_FILE),
        "shift": node("ModelSamplingAuraFlow", shift=1.0),
        "condition": node("Hunyuan3Dv2ConditioningMultiView"),
        "empty": node("EmptyLatentHunyuan3Dv2", resolution=3072),
        "solve": node("KSampler", seed=1, steps=30, cfg=5.0, sampler_name="euler",
                      scheduler="normal"),
        "voxels": node("VAEDecodeHunyuan3D"),
        "surface": node("VoxelToMesh"),
        "glb": node("SaveGLB", (1320, 0), (440, 940), "The new 3D model",
                    filename_prefix="RefAny3D/mesh"),
    }  # fmt: skip
    links += [
        ("hunyuan", "MODEL", "shift", "model"),
        ("shift", "MODEL", "solve", "model"),
        ("condition", "positive", "solve", "positive"),
        ("condition", "negative", "solve", "negative"),
        ("empty", "LATENT", "solve", "latent_image"),
        ("solve", "LATENT", "voxels", "samples"),
        ("hunyuan", "VAE", "voxels", "vae"),
        ("voxels", "VOXEL", "surface", "voxel"),
        ("surface", "MESH", "glb", "mesh"),
    ]
    return Template(
        nodes=nodes,
        links=links,
        boxes={
            "models": models_box(),
            "looks": Box(
                "Four pictures from locked cameras",
                ("guidance", "encode", "white", "hunyuan", *looks),
                (920, 240), (360, 190),
                tuple((f"sampler_{side}", "seed", f"seed_{side}") for side in SIDES),
                {"conditioning": "prompt"},
            ),
            "hunyuan_box": Box(
                "Hunyuan3D: one mesh of four pictures",
                ("shift", "condition", "empty", "solve", "voxels", "surface"),
                (920, 560), (360, 220),
                (("solve", "seed", "seed"), ("solve", "steps", "steps"),
                 ("empty", "resolution", "resolution")),
            ),
        },
        groups=groups()[:2],
        models=FLUX | HUNYUAN,
    )  # fmt: skip


TEMPLATES = {
    "New look for my 3D mesh as a new 3D model (FLUX.1-dev, Hunyuan3D)": to_3d,
}
