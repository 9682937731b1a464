"""The templates on the bundled small model: they run without a download."""

from __future__ import annotations

from template_parts import (
    MESH_LINKS,
    SAMPLE_LINKS,
    SAVE_LINKS,
    SIZE,
    Box,
    Link,
    Template,
    make_box,
    node,
    sampling_nodes,
    save_nodes,
    small_groups,
    small_mesh_nodes,
)

DEMO_NOTE = """\
Press **Run**: a picture of the mesh, and its point map, made by *refany3d-small*. The tiny model \
comes with the pack, knows simple shapes at 96 x 96 pixels, and is there to try things out.

Prompts that it knows: *a KIND on FLOOR in front of BACKDROP*. Select **Load Demo Models** and \
press the info button for its words.

For pictures of any mesh: the templates with FLUX.1-dev.
"""
POSE_NOTE = """\
**Lock Pose** holds the point map of your mesh as seen from a camera that you choose, while the \
picture is made: the object comes out exactly from there.

Turn `azimuth`, `pitch` and `distance` on the box.
"""
VIEWER_NOTE = """\
Press **Run** once: the mesh appears in the viewer. Turn it there and press **Run** again: the \
picture shows the object from just that side.

The small model has seen cameras up to 35 degrees above the horizon; from elsewhere its pictures \
fall apart.
"""
CHECK_NOTE = """\
Four pictures at once. **Check Consistency** compares each with the mesh's own surface and keeps \
the best; **Camera from Point Map** finds the camera that it was taken with.

Saved besides: the camera for Blender (`RefAny3D/camera_...gltf`; its help page says how) and the \
coloured surface as a point cloud (`.ply`).
"""
SAVE_NOTE = """\
**Save Reference** keeps the encoded views in `models/refany3d/references`.

Next time, in any graph: press R, choose the name in **Load Reference** and connect it to the \
sampler's `reference`, in place of mesh, views and encoding.
"""


def demo() -> Template:
    return Template(
        nodes=small_mesh_nodes(DEMO_NOTE, "Without a download") | sampling_nodes() | save_nodes(),
        links=[*MESH_LINKS, *SAMPLE_LINKS, *SAVE_LINKS],
        boxes={"make": make_box()},
        groups=small_groups(),
        thumbnail=("image", "map", "views"),
    )


LOCK_LINKS: list[Link] = [
    ("models", "vae", "pose", "vae"),
    ("mesh", "mesh", "pose", "mesh"),
    ("pose", "latent", "sampler", "latent"),
]


def lock_pose() -> Template:
    pose = node(
        "RefAny3D_LockPose", azimuth=30.0, pitch=20.0, distance=3.2, width=SIZE, height=SIZE
    )
    camera = tuple(("pose", name, name) for name in ("azimuth", "pitch", "distance"))
    return Template(
        nodes=small_mesh_nodes(POSE_NOTE, "You choose the camera")
        | sampling_nodes()
        | {"pose": pose}
        | save_nodes(),
        links=[*MESH_LINKS, *SAMPLE_LINKS, *SAVE_LINKS, *LOCK_LINKS],
        boxes={"make": make_box(widgets=camera, more=("pose",), height=420)},
        groups=small_groups(),
        thumbnail=("image", "map"),
    )


def viewer() -> Template:
    nodes = small_mesh_nodes(VIEWER_NOTE, "Turn the mesh") | sampling_nodes() | save_nodes()
    nodes |= {
        "viewer": node("Preview3DAdvanced", (400, 0), (480, 930), "Turn your mesh here"),
        "pose": node("RefAny3D_LockPose", azimuth=40.0, pitch=15.0, width=SIZE, height=SIZE),
    }
    links = [*MESH_LINKS, *SAMPLE_LINKS, *SAVE_LINKS, *LOCK_LINKS]
    links += [
        ("mesh", "model_3d", "viewer", "model_3d"),
        ("viewer", "camera_info", "pose", "camera_info"),
        ("viewer", "model_3d_info", "pose", "model_3d_info"),
    ]
    return Template(
        nodes=nodes,
        links=links,
        boxes={"make": make_box(more=("views", "pose"), height=360)},
        groups=small_groups(),
        thumbnail=("image", "map"),
    )


def camera_and_check() -> Template:
    nodes = small_mesh_nodes(CHECK_NOTE, "What the point map is good for") | sampling_nodes()
    del nodes["decode"], nodes["decode_map"], nodes["sampler"]
    nodes |= {
        "apply": node("RefAny3D_Apply", width=SIZE, height=SIZE, batch_size=4,
                      isolated_references=True),
        "shift": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=SIZE, height=SIZE),
        "sampler": node("KSampler", seed=1, steps=20, cfg=2.0, sampler_name="lcm",
                        scheduler="simple", denoise=1.0),
        "split": node("RefAny3D_SplitLatent"),
        "decode": node("VAEDecode"),
        "decode_map": node("RefAny3D_DecodePointMap"),
        "check": node("RefAny3D_CheckConsistency"),
        "camera": node("RefAny3D_CameraFromPointMap"),
        "cloud": node("RefAny3D_PointCloud"),
        "save_cloud": node("SaveGLB", filename_prefix="RefAny3D/point_cloud"),
        "save_camera": node("SaveGLB", filename_prefix="RefAny3D/camera"),
        "best": node("SaveImage", (1320, 0), (400, 400), "The best of four",
                     filename_prefix="RefAny3D/best"),
        "viewer": node("Preview3D", (1320, 450), (400, 480), "The mesh from the camera found"),
    }  # fmt: skip
    links: list[Link] = [
        *MESH_LINKS,
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
        ("models", "vae", "decode", "vae"),
        ("models", "vae", "decode_map", "vae"),
        ("decode", "IMAGE", "check", "image"),
        ("decode_map", "point_map", "check", "point_map"),
        ("mesh", "mesh", "check", "mesh"),
        ("check", "best_image", "best", "images"),
        ("check", "best_point_map", "camera", "point_map"),
        ("mesh", "mesh", "camera", "mesh"),
        ("mesh", "model_3d", "viewer", "model_file"),
        ("camera", "camera_info", "viewer", "camera_info"),
        ("camera", "camera_gltf", "save_camera", "mesh"),
        ("check", "best_image", "cloud", "image"),
        ("check", "best_point_map", "cloud", "point_map"),
        ("mesh", "mesh", "cloud", "mesh"),
        ("cloud", "point_cloud", "save_cloud", "mesh"),
    ]
    return Template(
        nodes=nodes,
        links=links,
        boxes={
            "make": Box(
                "Make four, keep the best, find its camera",
                ("encode", "shift", "apply", "sampler", "split", "decode", "decode_map", "check",
                 "camera", "cloud", "save_cloud", "save_camera"),
                (920, 220), (360, 330),
                (("sampler", "seed", "seed"), ("sampler", "steps", "steps"),
                 ("sampler", "cfg", "image_guidance"), ("apply", "batch_size", "batch_size"),
                 ("check", "fov", "fov")),
                {"positive": "prompt"},
            ),
        },
        groups=small_groups(),
        thumbnail=("best",),
    )  # fmt: skip


def saved_reference() -> Template:
    return Template(
        nodes=small_mesh_nodes(SAVE_NOTE, "Prepare once, use often")
        | sampling_nodes()
        | {"save": node("RefAny3D_SaveReference", name="mushroom")}
        | save_nodes(),
        links=[
            *MESH_LINKS,
            *(link for link in SAMPLE_LINKS if link[0] != "encode"),
            *SAVE_LINKS,
            ("encode", "reference", "save", "reference"),
            ("save", "reference", "sampler", "reference"),
        ],
        boxes={
            "make": make_box(
                widgets=(("save", "name", "save_as"),), more=("save",),
                title="Encode, save, make the picture",
            ),
        },
        groups=small_groups(),
        thumbnail=("image", "map", "views"),
    )  # fmt: skip


TEMPLATES = {
    "Try it without a download - a 3D mesh, its picture and point map": demo,
    "Choose the camera - picture of a 3D mesh with a locked point map": lock_pose,
    "Choose the camera in the 3D viewer - picture of a mesh as I turned it": viewer,
    "Find the camera - best of four pictures, point map, Blender": camera_and_check,
    "Prepare a 3D mesh once and use it often - save its reference": saved_reference,
}
