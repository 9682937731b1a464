"""The templates on the bundled small model, and the way on to 3D."""

from __future__ import annotations

from flux_templates import BLUE, BROWN, GREEN, HF, SHARED_LINKS, node, shared_nodes

EXAMPLE = "examples/mushroom.glb"
PROMPT = "a mushroom on grass in front of snowy mountains"
SIZE, VIEWS, STEPS = 96, 4, 20

HUNYUAN = "hunyuan3d-dit-v2-mv_fp16.safetensors"
MODELS = {
    "ImageOnlyCheckpointLoader": [
        (HUNYUAN, "checkpoints",
         f"{HF}/Comfy-Org/hunyuan3D_2.0_repackaged/resolve/main/split_files/{HUNYUAN}"),
    ],
}  # fmt: skip

DEMO_NOTE = """### A whole run without a download

**Load Demo Models** holds *refany3d-small*, a tiny model that comes with the pack. It knows \
simple \
shapes, eight floors and eight backdrops, at 96 x 96 pixels; it is there to try things out, not to \
make pictures for use.

Prompts that it knows: *a KIND on FLOOR in front of BACKDROP*.

* kinds: ball, crate, drum, cone, ring, mug, lamp, hut, mushroom, snowman, rocket, robot, \
dumbbell, \
table, tree, cake, duck, tower
* floors: grass, sand, snow, water, wooden planks, checkered tiles, a red carpet, a road
* backdrops: a blue sky, an orange sunset, a starry night, a cloudy sky, a brick wall, a green \
forest, a pink wall, snowy mountains

With FLUX.1-dev the graph is the same: put the stock loaders and Load RefAny3D LoRAs in place of \
Load Demo Models, 8 views of 512 pixels, a picture of 512 x 512, 28 steps.
"""

POSE_NOTE = """### You choose the camera

**Lock Pose** renders the point map of your mesh from the camera that you ask for and holds it \
while \
the picture is sampled: the object comes out exactly from there.

Turn `azimuth`, `pitch` and `distance`; or connect the camera of Load 3D to `camera_info`.
"""

CHECK_NOTE = """### What the point map is good for

Four pictures are made at once.

* **Check Consistency** compares each with the mesh's own surface and picks the best.
* **Camera from Point Map** finds the camera that the best one was taken with; Preview 3D shows \
the \
mesh from there. `matrix` and `camera_gltf` take it to Blender.
* **Point Cloud from Point Map** lays the picture's colours on the mesh's surface.
"""

SAVE_NOTE = """### Prepare once, use often

Run the upper part once: **Save Reference** keeps the encoded views in \
models/refany3d/references. The lower part needs neither the mesh nor the rendering: press R to \
see \
the new name in **Load Reference**.
"""

TO_3D_NOTE = """### On to 3D

Four pictures of your mesh in a new look, each from a locked camera (front, left, back, right), \
cut out by the mask that Lock Pose gives, go to Hunyuan3D's multi-view model, all with stock nodes.

| file | folder |
|---|---|
| [%s](%s) | models/checkpoints |

The files of FLUX.1-dev and RefAny3D are those of the template refany3d_flux_dev. The mesh's front \
is its +Z side, as glTF says; its left is +X.
""" % (HUNYUAN, MODELS["ImageOnlyCheckpointLoader"][0][2])


def mesh_nodes(note: str, title: str) -> dict:
    return {
        "note": node("MarkdownNote", 0, 0, 400, 560, widgets={"0": note}, title=title),
        "models": node("RefAny3D_LoadDemoModels", 440, 0, 300, 110),
        "mesh": node("RefAny3D_LoadMesh", 440, 330, 300, 330, widgets={"mesh_file": EXAMPLE}),
        "views": node("RefAny3D_RenderViews", 780, 330, 340, 760,
                      widgets={"views": VIEWS, "resolution": SIZE}),
        "encode": node("RefAny3D_EncodeReferences", 1160, 330, 270, 90),
        "prompt": node("CLIPTextEncode", 780, 0, 400, 160, title="Prompt",
                       widgets={"text": PROMPT}),
    }  # fmt: skip


def sampler(x: int, y: int = 0) -> dict:
    return node("RefAny3D_Sampler", x, y, 300, 400,
                widgets={"seed": 0, "width": SIZE, "height": SIZE, "steps": STEPS,
                         "image_guidance": 2.0, "isolated_references": True})  # fmt: skip


def picture_nodes(x: int, y: int = 0) -> dict:
    return {
        "decode": node("VAEDecode", x, y, 240, 60),
        "decode_map": node("RefAny3D_DecodePointMap", x, y + 420, 240, 120),
        "image": node("SaveImage", x + 280, y, 340, 360, title="Save image",
                      widgets={"filename_prefix": "RefAny3D/demo"}),
        "map": node("SaveImage", x + 280, y + 420, 340, 360, title="Save point map",
                    widgets={"filename_prefix": "RefAny3D/demo_point_map"}),
    }  # fmt: skip


MESH_LINKS = [
    ("models", "clip", "prompt", "clip"),
    ("models", "vae", "encode", "vae"),
    ("mesh", "mesh", "views", "mesh"),
    ("views", "views", "encode", "views"),
    ("views", "point_maps", "encode", "point_maps"),
]
SAMPLE_LINKS = [
    ("models", "adapters", "sampler", "adapters"),
    ("prompt", "CONDITIONING", "sampler", "positive"),
]
PICTURE_LINKS = [
    ("sampler", "image", "decode", "samples"),
    ("sampler", "point_map", "decode_map", "point_map"),
    ("models", "vae", "decode", "vae"),
    ("models", "vae", "decode_map", "vae"),
    ("decode", "IMAGE", "image", "images"),
    ("decode_map", "point_map", "map", "images"),
]
MODEL_LINK = ("models", "model", "sampler", "model")
REFERENCE_LINK = ("encode", "reference", "sampler", "reference")


def demo() -> dict:
    nodes = mesh_nodes(DEMO_NOTE, "The small model") | {
        "sampler": sampler(1480),
        **picture_nodes(1830),
        "seen": node("PreviewImage", 1160, 480, 270, 330, title="Reference views"),
    }
    links = [*MESH_LINKS, *SAMPLE_LINKS, *PICTURE_LINKS, MODEL_LINK, REFERENCE_LINK,
             ("views", "views", "seen", "images")]  # fmt: skip
    groups = [
        ("The model that comes with the pack", [430, -80, 320, 210], BLUE),
        ("What to make", [770, -80, 420, 260], BROWN),
        ("A mesh, seen from four sides", [430, 250, 1010, 860], GREEN),
        ("The pictures", [1470, -80, 1000, 900], BLUE),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}


def lock_pose() -> dict:
    nodes = mesh_nodes(POSE_NOTE, "You choose the camera") | {
        "pose": node("RefAny3D_LockPose", 1480, 0, 300, 460,
                     widgets={"azimuth": 30.0, "pitch": 20.0, "distance": 3.2,
                              "width": SIZE, "height": SIZE}),
        "view": node("PreviewImage", 1480, 620, 300, 330, title="What is asked for"),
        "sampler": sampler(1830),
        **picture_nodes(2180),
    }  # fmt: skip
    links = [
        *MESH_LINKS, *SAMPLE_LINKS, *PICTURE_LINKS, REFERENCE_LINK,
        ("models", "vae", "pose", "vae"),
        ("mesh", "mesh", "pose", "mesh"),
        ("models", "model", "pose", "model"),
        ("pose", "model", "sampler", "model"),
        ("pose", "latent", "sampler", "latent"),
        ("pose", "view", "view", "images"),
    ]  # fmt: skip
    groups = [
        ("A mesh, seen from four sides", [430, 250, 1010, 860], GREEN),
        ("The camera", [1470, -80, 320, 1050], BROWN),
        ("The pictures", [1820, -80, 1000, 900], BLUE),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}


def camera_and_check() -> dict:
    nodes = mesh_nodes(CHECK_NOTE, "Check and recover") | {
        "pose": node("RefAny3D_Apply", 1480, 0, 300, 420,
                     widgets={"width": SIZE, "height": SIZE, "batch_size": 4,
                              "isolated_references": True}),
        "sampler": node("KSampler", 1830, 0, 300, 270,
                        widgets={"seed": 1, "steps": STEPS, "cfg": 2.0, "sampler_name": "euler",
                                 "scheduler": "simple", "denoise": 1.0}),
        "split": node("RefAny3D_SplitLatent", 1830, 330, 300, 60),
        "decode": node("VAEDecode", 2180, 0, 240, 60),
        "decode_map": node("RefAny3D_DecodePointMap", 2180, 120, 240, 120),
        "check": node("RefAny3D_CheckConsistency", 2470, 0, 300, 240),
        "best": node("SaveImage", 2820, 0, 300, 330, title="Best of four",
                     widgets={"filename_prefix": "RefAny3D/best"}),
        "heat": node("PreviewImage", 2820, 390, 300, 330, title="Heat map"),
        "overlay": node("PreviewImage", 2820, 780, 300, 330, title="Overlay"),
        "report": node("PreviewAny", 2470, 300, 300, 240, title="Scores"),
        "camera": node("RefAny3D_CameraFromPointMap", 2470, 620, 300, 300),
        "matrix": node("PreviewAny", 2470, 980, 300, 200, title="Camera matrix"),
        "viewer": node("Preview3D", 2820, 1170, 300, 400, title="The mesh from that camera"),
        "cloud": node("RefAny3D_PointCloud", 2180, 620, 240, 130),
        "ply": node("SaveGLB", 2180, 820, 240, 300, title="Save point cloud",
                    widgets={"filename_prefix": "RefAny3D/points"}),
    }  # fmt: skip
    links = [
        *MESH_LINKS,
        ("models", "model", "pose", "model"),
        ("models", "adapters", "pose", "adapters"),
        ("encode", "reference", "pose", "reference"),
        ("prompt", "CONDITIONING", "pose", "positive"),
        ("pose", "model", "sampler", "model"),
        ("pose", "positive", "sampler", "positive"),
        ("pose", "negative", "sampler", "negative"),
        ("pose", "latent", "sampler", "latent_image"),
        ("sampler", "LATENT", "split", "latent"),
        ("split", "image", "decode", "samples"),
        ("split", "point_map", "decode_map", "point_map"),
        ("models", "vae", "decode", "vae"),
        ("models", "vae", "decode_map", "vae"),
        ("decode", "IMAGE", "check", "image"),
        ("decode_map", "point_map", "check", "point_map"),
        ("mesh", "mesh", "check", "mesh"),
        ("check", "best_image", "best", "images"),
        ("check", "heat_map", "heat", "images"),
        ("check", "overlay", "overlay", "images"),
        ("check", "report", "report", "source"),
        ("check", "best_point_map", "camera", "point_map"),
        ("mesh", "mesh", "camera", "mesh"),
        ("camera", "matrix", "matrix", "source"),
        ("mesh", "model_3d", "viewer", "model_file"),
        ("camera", "camera_info", "viewer", "camera_info"),
        ("check", "best_image", "cloud", "image"),
        ("check", "best_point_map", "cloud", "point_map"),
        ("mesh", "mesh", "cloud", "mesh"),
        ("cloud", "point_cloud", "ply", "mesh"),
    ]
    groups = [
        ("A mesh, seen from four sides", [430, 250, 1010, 860], GREEN),
        ("Four pictures", [1470, -80, 670, 540], BLUE),
        ("Compare, and find the camera", [2170, -80, 960, 1680], BROWN),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}


def saved_reference() -> dict:
    nodes = mesh_nodes(SAVE_NOTE, "Prepare once") | {
        "save": node("RefAny3D_SaveReference", 1160, 480, 270, 100, widgets={"name": "mushroom"}),
        "seen": node("PreviewImage", 1160, 640, 270, 330, title="Reference views"),
        "load": node("RefAny3D_LoadReference", 1480, -160, 300, 80, widgets={"name": "mushroom"}),
        "sampler": sampler(1480),
        **picture_nodes(1830),
    }
    links = [
        *MESH_LINKS, *SAMPLE_LINKS, *PICTURE_LINKS, MODEL_LINK,
        ("encode", "reference", "save", "reference"),
        ("views", "views", "seen", "images"),
        ("load", "reference", "sampler", "reference"),
    ]  # fmt: skip
    groups = [
        ("Once: encode the mesh and keep it", [430, 250, 1010, 860], GREEN),
        ("Often: use what was kept", [1470, -240, 1000, 1060], BLUE),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}


SIDES = {"front": 90.0, "left": 0.0, "back": 270.0, "right": 180.0}


def to_3d() -> dict:
    nodes = {k: v for k, v in shared_nodes(0).items()
             if k not in ("decode", "decode_map", "image", "map")}  # fmt: skip
    nodes["how"] = node("MarkdownNote", 0, 420, 420, 400, widgets={"0": TO_3D_NOTE},
                        title="On to 3D")  # fmt: skip
    nodes["white"] = node("EmptyImage", 1540, -160, 300, 130, title="White",
                          widgets={"width": 512, "height": 512, "color": 0xFFFFFF})  # fmt: skip
    dropped = ("decode", "decode_map", "image", "map")
    links = [link for link in SHARED_LINKS if link[0] not in dropped and link[2] not in dropped]
    for row, (side, azimuth) in enumerate(SIDES.items()):
        y = 30 + row * 560
        nodes |= {
            f"pose_{side}": node("RefAny3D_LockPose", 1540, y, 300, 480, title=f"Camera: {side}",
                                 widgets={"azimuth": azimuth, "width": 512, "height": 512}),
            f"sampler_{side}": node("RefAny3D_Sampler", 1880, y, 300, 400,
                                    widgets={"seed": 1, "steps": 28}),
            f"decode_{side}": node("VAEDecode", 2220, y, 220, 60),
            f"cut_{side}": node("ImageCompositeMasked", 2220, y + 120, 260, 150),
            f"seen_{side}": node("SaveImage", 2520, y, 300, 330, title=f"The {side}",
                                 widgets={"filename_prefix": f"RefAny3D/{side}"}),
            f"clip_{side}": node("CLIPVisionEncode", 2220, y + 330, 260, 90),
        }  # fmt: skip
        links += [
            ("unet", "MODEL", f"sampler_{side}", "model"),
            ("adapters", "adapters", f"sampler_{side}", "adapters"),
            ("encode", "reference", f"sampler_{side}", "reference"),
            ("guidance", "CONDITIONING", f"sampler_{side}", "positive"),
            ("vae", "VAE", f"pose_{side}", "vae"),
            ("mesh", "mesh", f"pose_{side}", "mesh"),
            (f"pose_{side}", "latent", f"sampler_{side}", "latent"),
            (f"sampler_{side}", "image", f"decode_{side}", "samples"),
            ("vae", "VAE", f"decode_{side}", "vae"),
            ("white", "IMAGE", f"cut_{side}", "destination"),
            (f"decode_{side}", "IMAGE", f"cut_{side}", "source"),
            (f"pose_{side}", "mask", f"cut_{side}", "mask"),
            (f"cut_{side}", "IMAGE", f"seen_{side}", "images"),
            (f"cut_{side}", "IMAGE", f"clip_{side}", "image"),
            ("hunyuan", "CLIP_VISION", f"clip_{side}", "clip_vision"),
            (f"clip_{side}", "CLIP_VISION_OUTPUT", "condition", side),
        ]
    nodes |= {
        "hunyuan": node("ImageOnlyCheckpointLoader", 2880, 0, 340, 100,
                        widgets={"ckpt_name": HUNYUAN}),
        "shift": node("ModelSamplingAuraFlow", 2880, 160, 340, 60, widgets={"shift": 1.0}),
        "condition": node("Hunyuan3Dv2ConditioningMultiView", 2880, 280, 340, 110),
        "empty": node("EmptyLatentHunyuan3Dv2", 2880, 450, 340, 90, widgets={"resolution": 3072}),
        "solve": node("KSampler", 3260, 0, 300, 270, title="Sample the shape",
                      widgets={"seed": 1, "steps": 30, "cfg": 5.0, "sampler_name": "euler",
                               "scheduler": "normal"}),
        "voxels": node("VAEDecodeHunyuan3D", 3260, 330, 300, 110),
        "surface": node("VoxelToMesh", 3260, 500, 300, 90),
        "glb": node("SaveGLB", 3600, 0, 400, 460, widgets={"filename_prefix": "RefAny3D/mesh"}),
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
    groups = [
        ("Four pictures from locked cameras", [1530, -240, 1310, 2500], GREEN),
        ("Hunyuan3D", [2870, -80, 1150, 720], BLUE),
    ]
    return {"nodes": nodes, "links": links, "groups": groups}
