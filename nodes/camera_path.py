"""Lock Camera Path, and Save Camera Path."""

from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.asset.cameras import FOV
from ..refany3d_core.asset.contact_sheet import contact_sheet
from ..refany3d_core.files import write_trouble
from ..refany3d_core.host.latents import check_size
from ..refany3d_core.host.locked_latent import locked_joint_latent
from ..refany3d_core.pointmap.camera_path import (
    along,
    cameras_from_transforms,
    key_poses,
    numbers,
    orbit_cameras,
    render_path,
    transforms_json,
)
from ..refany3d_core.pointmap.path_files import write_path
from .sockets import CATEGORY, mesh_input, size_inputs, validate_size

NODE = "Lock Camera Path"


def _list(name: str, default: str, tooltip: str) -> io.Input:
    return io.String.Input(name, default=default, tooltip=tooltip)


class LockCameraPath(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_LockCameraPath",
            display_name=NODE,
            category=CATEGORY,
            description="Lock Pose for many cameras at once: a batch of joint latents, each with "
            "the point map of its camera held. Connect latent to RefAny3D Sampler.",
            search_aliases=["refany3d", "turntable", "orbit", "camera list", "multi view", "nerf"],
            inputs=[
                io.Vae.Input("vae", tooltip="FLUX's VAE (ae.safetensors)."),
                mesh_input("The asset, the same as for Render Reference Views."),
                *size_inputs(),
                _list(
                    "azimuths",
                    "0, 90, 180, 270",
                    "Degrees around the asset, separated by commas: 0 stands on its +X side, 90 on "
                    "+Z.",
                ),
                _list(
                    "pitches",
                    "15",
                    "Degrees above the horizon, one for all or one for each camera.",
                ),
                _list(
                    "distances",
                    "4",
                    "From the asset's middle, whose longest side is 2; one for all or one each.",
                ),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=512,
                    tooltip="0: the cameras as listed. Above: so many along the way from one to "
                    "the next, first and last among them.",
                ),
                io.Float.Input(
                    "fov",
                    default=FOV,
                    min=1.0,
                    max=170.0,
                    step=1.0,
                    tooltip="Vertical field of view in degrees. Reference views: 45.",
                ),
                io.Boolean.Input(
                    "same_noise",
                    default=True,
                    tooltip="Start every picture from the same noise, so that they are more alike.",
                ),
                io.String.Input(
                    "cameras",
                    optional=True,
                    force_input=True,
                    tooltip="The text of a transforms.json (NeRF tools, Blender exporters, or this "
                    "node's cameras), in place of the lists, frames and fov.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="1 holds the maps exactly; less lets the model move them.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="A joint latent for each camera, for RefAny3D Sampler's latent. "
                    "Rebatch Latents splits it where memory is short.",
                ),
                io.Image.Output(
                    "point_maps", display_name="point_maps", tooltip="The maps that are held."
                ),
                io.Mask.Output("masks", display_name="masks", tooltip="The asset's silhouettes."),
                io.Image.Output("views", display_name="views", tooltip="The asset from there."),
                io.Image.Output(
                    "depth",
                    display_name="depth",
                    tooltip="Depth, white nearest and grey farthest over all cameras; black "
                    "background.",
                ),
                io.Image.Output(
                    "contact_sheet",
                    display_name="contact_sheet",
                    tooltip="All views above their point maps, numbered.",
                ),
                io.String.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="The cameras as transforms.json, in the mesh file's units and axes "
                    "(Y up).",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None) -> bool | str:
        return validate_size(NODE, width, height)

    @classmethod
    def execute(
        cls,
        vae,
        mesh,
        width: int,
        height: int,
        azimuths: str = "0, 90, 180, 270",
        pitches: str = "15",
        distances: str = "4",
        frames: int = 0,
        fov: float = FOV,
        same_noise: bool = True,
        cameras: str | None = None,
        strength: float = 1.0,
    ) -> io.NodeOutput:
        check_size(NODE, width, height)
        bar = comfy.utils.ProgressBar(1)

        def progress(done: int, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)

        try:
            asset = to_asset(mesh)
            if cameras:
                path = cameras_from_transforms(cameras, asset, width, height)
            else:
                poses = key_poses(
                    numbers("azimuths", azimuths),
                    numbers("pitches", pitches),
                    numbers("distances", distances),
                )
                path = orbit_cameras(along(poses, frames) if frames else poses, fov, width, height)
            rendered = render_path(asset, path, progress)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        maps = torch.from_numpy(rendered.point_maps)
        latent = locked_joint_latent(NODE, vae, maps, strength)
        if same_noise:
            latent["batch_index"] = [0] * len(maps)
        return io.NodeOutput(
            latent,
            maps,
            torch.from_numpy(rendered.masks),
            torch.from_numpy(rendered.colors),
            torch.from_numpy(rendered.depth_pictures()),
            torch.from_numpy(contact_sheet(rendered))[None],
            transforms_json(path, asset),
        )


class SaveCameraPath(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_SaveCameraPath",
            display_name="Save Camera Path",
            category=CATEGORY,
            description="Write the pictures of a camera path and its cameras into a folder of "
            "ComfyUI's output: transforms.json for NeRF and splat trainers, metadata.json for "
            "GO-Renderer.",
            search_aliases=["refany3d", "transforms.json", "nerf", "go-renderer", "export"],
            inputs=[
                io.String.Input(
                    "cameras", force_input=True, tooltip="cameras of Lock Camera Path."
                ),
                io.Image.Input("point_maps", tooltip="point_maps of Lock Camera Path."),
                io.String.Input(
                    "filename_prefix",
                    default="RefAny3D/path",
                    tooltip="Folder below output; a number is added.",
                ),
                io.String.Input("caption", default="", tooltip="What the pictures show."),
                io.Image.Input(
                    "images", optional=True, tooltip="The pictures sampled from its latent."
                ),
                io.Mask.Input("masks", optional=True, tooltip="masks of Lock Camera Path."),
                io.Image.Input("depth", optional=True, tooltip="depth of Lock Camera Path."),
                io.Image.Input(
                    "views", optional=True, tooltip="Reference views, for metadata.json."
                ),
                io.Image.Input(
                    "view_point_maps",
                    optional=True,
                    tooltip="Point maps of the reference views, for metadata.json.",
                ),
            ],
            outputs=[
                io.String.Output("folder", display_name="folder", tooltip="Where it was written.")
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        cameras: str,
        point_maps,
        filename_prefix: str = "RefAny3D/path",
        caption: str = "",
        images=None,
        masks=None,
        depth=None,
        views=None,
        view_point_maps=None,
    ) -> io.NodeOutput:
        pictures = {"point_maps": point_maps, "images": images, "masks": masks, "depth": depth}
        references = {"ref": views, "ref_coordmap": view_point_maps}
        folder = Path(folder_paths.get_output_directory())
        try:
            folder = _next_folder(filename_prefix)
            write_path(folder, cameras, pictures, references, caption)
        except ValueError as error:
            raise ValueError(f"Save Camera Path: {error}") from error
        except OSError as error:
            raise ValueError(f"Save Camera Path: {write_trouble(error, folder)}") from error
        return io.NodeOutput(str(folder))


def _next_folder(prefix: str) -> Path:
    """The first folder below output, named by the prefix and a number, that is not there yet."""
    try:
        parent, name, _, _, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory()
        )
    except OSError:
        raise
    except Exception as error:  # the host's plain one, for a folder outside of output
        raise ValueError(
            f"filename_prefix is {prefix[:80]!r}; it has to stay below ComfyUI's output folder"
        ) from error
    taken = {path.name for path in Path(parent).iterdir()}
    number = next(n for n in range(1, 100_000) if f"{name}_{n:05d}" not in taken)
    return Path(parent) / f"{name}_{number:05d}"
