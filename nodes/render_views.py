"""Render Reference Views."""

import re

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import render_reference_views, to_asset
from ..refany3d_core.asset.cameras import FOV, FRAMES, RADIUS, from_viewport
from ..refany3d_core.asset.contact_sheet import contact_sheet
from ..refany3d_core.pointmap.camera_path import transforms_json
from .notes import notes, preview
from .sockets import CATEGORY, MESH_KINDS


def _orbit_inputs() -> list[io.Input]:
    """The mesh, and the cameras of the published orbit."""
    return [
        io.MultiType.Input(
            "mesh",
            types=MESH_KINDS,
            tooltip="A mesh from Load Mesh, Load 3D, a mesh generator, or a 3D file.",
        ),
        io.Int.Input(
            "views",
            default=8,
            min=1,
            max=FRAMES,
            tooltip="How many views. Published: 8; every view costs two references.",
        ),
        io.Int.Input(
            "resolution",
            default=512,
            min=16,
            max=4096,
            step=16,
            tooltip="Width and height in pixels. Published: 512.",
        ),
        io.Float.Input(
            "radius",
            default=RADIUS,
            min=0.1,
            max=100.0,
            step=0.1,
            tooltip="Distance of the camera; the mesh's longest side is 2. Published: 4.",
        ),
        io.Float.Input(
            "pitch",
            default=0.0,
            min=-90.0,
            max=90.0,
            step=1.0,
            tooltip="Degrees by which the camera stands above the horizon. Published: 0.",
        ),
        io.Float.Input(
            "y_rotation",
            default=0.0,
            min=-360.0,
            max=360.0,
            step=1.0,
            tooltip="Degrees by which the point map's colours turn about the vertical "
            "axis; the RGB views do not change. Published: 0.",
        ),
    ]


def _look_inputs() -> list[io.Input]:
    """How the views are drawn."""
    return [
        io.Combo.Input(
            "backend",
            options=["auto", "embree", "numpy", "pyrender"],
            default="auto",
            optional=True,
            advanced=True,
            tooltip="auto: Embree where it is installed, else numpy; both give the same "
            "picture. pyrender: physically lit colours, in a process of its own (needs "
            "the pyrender extra).",
        ),
        io.Int.Input(
            "supersampling",
            default=1,
            min=1,
            max=8,
            optional=True,
            advanced=True,
            tooltip="Colour samples along each side of a pixel; smooths edges and "
            "textures of the RGB views. Published: 1.",
        ),
        io.Combo.Input(
            "shading",
            options=["unlit", "headlight"],
            default="unlit",
            optional=True,
            advanced=True,
            tooltip="unlit: base colour only (published). headlight: a light at the "
            "camera, for meshes without texture.",
        ),
        io.Combo.Input(
            "materials",
            options=["published", "gltf"],
            default="published",
            optional=True,
            advanced=True,
            tooltip="published: texture, else vertex colours, else base colour; always "
            "opaque, both sides. gltf: all multiplied, with alpha and single-sided "
            "faces.",
        ),
        io.String.Input(
            "background",
            default="#ffffff",
            optional=True,
            advanced=True,
            tooltip="Background of the RGB views as #rrggbb. Published: white. The point "
            "map's is always white.",
        ),
    ]


def _camera_inputs() -> list[io.Input]:
    """Other cameras than the published ones."""
    return [
        io.Float.Input(
            "fov",
            default=FOV,
            min=1.0,
            max=170.0,
            step=1.0,
            optional=True,
            advanced=True,
            tooltip="Vertical field of view in degrees. Published: 45.",
        ),
        io.Boolean.Input(
            "auto_fit",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Move the camera to where nothing is cropped, in place of radius.",
        ),
        io.Combo.Input(
            "azimuths",
            options=["published", "even"],
            default="published",
            optional=True,
            advanced=True,
            tooltip="published: multiples of 6 degrees, 42 apart at 8 views. even: 360 "
            "degrees shared equally.",
        ),
        io.String.Input(
            "pitches",
            default="",
            optional=True,
            advanced=True,
            tooltip="A pitch for each view, separated by commas, in place of pitch. "
            "Empty: pitch for all.",
        ),
        io.Load3DCamera.Input(
            "camera_info",
            optional=True,
            advanced=True,
            tooltip="Render one view from the camera of Load 3D or Preview 3D in place "
            "of the orbit.",
        ),
        io.Custom("LOAD3D_MODEL_INFO").Input(
            "model_3d_info",
            optional=True,
            advanced=True,
            tooltip="Of Load 3D: needed when the model was moved, turned or fitted in the "
            "viewport.",
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        io.Image.Output("views", display_name="views", tooltip="RGB views [n, H, W, 3]."),
        io.Image.Output(
            "point_maps",
            display_name="point_maps",
            tooltip="Position on the object as colour, X red, Y green, Z blue; white background.",
        ),
        io.Mask.Output("masks", display_name="masks", tooltip="1 on the object, for each view."),
        io.Image.Output(
            "depth",
            display_name="depth",
            tooltip="Depth, white nearest and grey farthest over all views; black background.",
        ),
        io.Image.Output(
            "normals",
            display_name="normals",
            tooltip="Surface normals in the object's axes, (n + 1) / 2; black background.",
        ),
        io.String.Output(
            "cameras",
            display_name="cameras",
            tooltip="The views' cameras as transforms.json, in the mesh file's units and axes "
            "(Y up), for Choose Views.",
        ),
    ]


class RenderViews(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_RenderViews",
            display_name="Render Reference Views",
            category=CATEGORY,
            description="Render a mesh from all around: RGB views, and point maps whose colour "
            "is the position on the object. The defaults are those of the published RefAny3D.",
            is_output_node=True,
            search_aliases=["refany3d", "multi view", "point map", "render mesh", "xyz map"],
            inputs=[*_orbit_inputs(), *_look_inputs(), *_camera_inputs()],
            outputs=_outputs(),
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, background=None, pitches=None) -> bool | str:
        try:  # None is a linked one, which is checked in the run
            parse_color("#ffffff" if background is None else background)
            parse_pitches(pitches or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        mesh,
        views: int = 8,
        resolution: int = 512,
        radius: float = RADIUS,
        pitch: float = 0.0,
        y_rotation: float = 0.0,
        backend: str = "auto",
        supersampling: int = 1,
        shading: str = "unlit",
        materials: str = "published",
        background: str = "#ffffff",
        fov: float = FOV,
        auto_fit: bool = False,
        azimuths: str = "published",
        pitches: str = "",
        camera_info=None,
        model_3d_info=None,
    ) -> io.NodeOutput:
        color, each_pitch = parse_color(background), parse_pitches(pitches)
        bars: list[comfy.utils.ProgressBar] = []

        def progress(done: int, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if not bars:
                bars.append(comfy.utils.ProgressBar(total))
            bars[0].update_absolute(done, total)

        try:
            asset = to_asset(mesh)
            cameras = None
            if camera_info:
                cameras = [from_viewport(camera_info, asset, resolution, resolution, model_3d_info)]
            rendered = render_reference_views(
                asset,
                views,
                resolution,
                radius,
                each_pitch or pitch,
                y_rotation,
                fov=fov,
                even_azimuths=azimuths == "even",
                auto_fit=auto_fit,
                cameras=cameras,
                backend=backend,
                supersampling=supersampling,
                materials=materials,
                shading=shading,
                background=color,
                progress=progress,
            )
        except ValueError as error:
            raise ValueError(f"Render Reference Views: {error}") from error
        sheet, trouble = preview(cls, torch.from_numpy(contact_sheet(rendered))[None])
        return io.NodeOutput(
            torch.from_numpy(rendered.colors),
            torch.from_numpy(rendered.point_maps),
            torch.from_numpy(rendered.masks),
            torch.from_numpy(rendered.depth_pictures()),
            torch.from_numpy(rendered.normal_pictures()),
            transforms_json(rendered.cameras, asset),
            ui=sheet | notes(cls, [*rendered.warnings, *trouble]),
        )


def parse_color(text: str) -> tuple[float, float, float]:
    """RGB in 0..1 of "#rrggbb". Raises ValueError for anything else."""
    found = re.fullmatch(r"#?([0-9a-fA-F]{6})", str(text).strip())
    if not found:
        raise ValueError(
            f"Render Reference Views: background is {text!r}; write it as #rrggbb, e.g. #ffffff"
        )
    value = int(found[1], 16)
    return (value >> 16) / 255, (value >> 8 & 255) / 255, (value & 255) / 255


def parse_pitches(text: str) -> list[float]:
    """Degrees separated by commas; [] for an empty text. Raises ValueError for anything else."""
    try:
        return [float(entry) for entry in str(text).replace(";", ",").split(",") if entry.strip()]
    except ValueError as error:
        raise ValueError(
            f"Render Reference Views: pitches is {text!r}; write degrees separated by commas, "
            "e.g. 0, 0, 20, 20"
        ) from error
