"""Transfer Surface Detail and Paint Mesh: between pictures and the asset's own surface."""

import io as streams
import json

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import Types, io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.asset.cameras import from_viewport
from ..refany3d_core.asset.from_trimesh import to_trimesh
from ..refany3d_core.asset.layout import AUTO, NEW, OWN
from ..refany3d_core.pointmap.camera_path import cameras_from_transforms
from ..refany3d_core.pointmap.decode import pictures
from ..refany3d_core.pointmap.detail import DETAIL_SIZE, transfer_detail
from ..refany3d_core.pointmap.painting import MAX_TEXELS, NEAREST, OLD, Painted, paint_mesh
from .notes import notes, preview
from .sockets import CATEGORY, TrimeshSocket, mesh_input, titled

DETAIL, PAINT = "Transfer Surface Detail", "Paint Mesh"


def _picture_inputs(image: str, point_map: str) -> list[io.Input]:
    return [
        io.Image.Input(
            image, tooltip="Generated, and upscaled by anything if you like; not cropped."
        ),
        io.Image.Input(point_map, tooltip="Of Point Map Decode, one for each image."),
    ]


def _mask_arrays(mask: torch.Tensor | None, images: list[np.ndarray]) -> list[np.ndarray] | None:
    """Masks [B, H, W] at the images' size, one of one picture for all."""
    if mask is None:
        return None
    mask = mask.detach().float().cpu()
    mask = mask[None] if mask.ndim == 2 else mask
    height, width = images[0].shape[:2]
    if mask.shape[1] * width != mask.shape[2] * height:
        raise ValueError(
            f"mask is {mask.shape[2]}x{mask.shape[1]}, but the image {width}x{height}: other "
            "proportions; connect a mask of this image"
        )
    mask = torch.nn.functional.interpolate(mask[:, None], (height, width), mode="bilinear")[:, 0]
    if len(mask) == 1:
        mask = mask.expand(len(images), -1, -1)
    return list(mask.numpy())


class TransferDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_TransferDetail",
            display_name=DETAIL,
            category=CATEGORY,
            description="Give a generated picture the mesh's own texture in full sharpness: labels "
            "and fine patterns come from the mesh, light and colour from the picture. Best after "
            "an upscaler.",
            search_aliases=["refany3d", "label", "sharpen", "restore text", "upscale", "texture"],
            inputs=[
                *_picture_inputs("image", "point_map"),
                mesh_input("The mesh that the picture was made with."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the mesh's detail; 0 leaves the picture as it is.",
                ),
                io.Load3DCamera.Input(
                    "camera_info",
                    optional=True,
                    tooltip="The camera of Lock Pose, where the pose was locked without a shift. "
                    "Without it the camera is found from the point map.",
                ),
                io.Float.Input(
                    "detail_size",
                    default=DETAIL_SIZE,
                    min=2.0,
                    max=256.0,
                    step=1.0,
                    optional=True,
                    tooltip="What is smaller than this comes from the mesh, in pixels of the point "
                    "map. More replaces more of what the model got wrong, and softens shadows.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Where detail may go, for example a label."
                ),
                io.Custom("LOAD3D_MODEL_INFO").Input(
                    "model_3d_info",
                    optional=True,
                    advanced=True,
                    tooltip="Of Load 3D, where camera_info comes from there and the model was "
                    "moved, turned or fitted in the viewport.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="image", tooltip="The picture with the mesh's detail."
                ),
                io.Mask.Output(
                    "weight", display_name="weight", tooltip="Where the detail went, and how much."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="For each picture whether a camera places the detail, or each pixel of "
                    "the map, and how much of the picture got some, as JSON.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        point_map,
        mesh,
        strength: float = 1.0,
        camera_info=None,
        detail_size: float = DETAIL_SIZE,
        mask=None,
        model_3d_info=None,
    ) -> io.NodeOutput:
        images, maps = list(pictures(image)), list(pictures(point_map))
        if len(images) != len(maps):
            raise ValueError(
                f"{DETAIL}: there are {len(images)} images but {len(maps)} point maps; connect the "
                "two of one sampling"
            )
        interrupt = comfy.model_management.throw_exception_if_processing_interrupted
        bar = comfy.utils.ProgressBar(len(images))
        done, report = [], []
        with titled(DETAIL):
            asset = to_asset(mesh)
            masks = _mask_arrays(mask, images)
            camera = None
            if camera_info:
                height, width = maps[0].shape[:2]
                camera = from_viewport(camera_info, asset, width, height, model_3d_info)
        for i, (picture, values) in enumerate(zip(images, maps)):
            with titled(f"{DETAIL}: picture {i}"):
                detail = transfer_detail(
                    picture,
                    values,
                    asset,
                    camera,
                    strength,
                    detail_size,
                    masks[i] if masks else None,
                    interrupt,
                )
            done.append(detail)
            report.append(
                {
                    "index": i,
                    "placed_by": "camera" if detail.camera is not None else "point map",
                    "no_camera": detail.refusal,
                    "covered": round(float(detail.weight.mean()), 4),
                }
            )
            bar.update(1)
        return io.NodeOutput(
            torch.from_numpy(np.stack([detail.image for detail in done])),
            torch.from_numpy(np.stack([detail.weight for detail in done])),
            json.dumps(report, indent=1),
        )


class PaintMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_PaintMesh",
            display_name=PAINT,
            category=CATEGORY,
            description="Put generated pictures back on the mesh as its texture, each pixel where "
            "its point map says, blended by how well each picture sees the surface.",
            search_aliases=["refany3d", "texture", "bake", "project image", "retexture", "uv"],
            is_output_node=True,
            inputs=[
                mesh_input("The mesh that the pictures were made with."),
                *_picture_inputs("images", "point_maps"),
                io.String.Input(
                    "cameras",
                    optional=True,
                    force_input=True,
                    tooltip="The cameras of Lock Camera Path, where the poses were locked. Without "
                    "them they are found from the point maps.",
                ),
                io.Mask.Input(
                    "masks", optional=True, tooltip="What of the pictures to use; default all."
                ),
                io.Int.Input(
                    "texture_size",
                    default=0,
                    min=0,
                    max=MAX_TEXELS,
                    step=64,
                    optional=True,
                    tooltip="Texels a side. 0: as the old texture, 2048 where there is none.",
                ),
                io.Combo.Input(
                    "holes",
                    options=[OLD, NEAREST],
                    default=OLD,
                    optional=True,
                    tooltip="What no picture shows keeps the old texture, or takes the colours "
                    "painted nearest to it.",
                ),
                io.Combo.Input(
                    "uvs",
                    options=[AUTO, OWN, NEW],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="own: the mesh's texture coordinates. new: unwrapped by xatlas, which "
                    "has to be installed. auto: own where every place has texels of its own, else "
                    "new.",
                ),
            ],
            outputs=[
                TrimeshSocket.Output("mesh", display_name="mesh", tooltip="The painted mesh."),
                io.File3DAny.Output(
                    "model_3d",
                    display_name="model_3d",
                    tooltip="The painted mesh as a GLB file, for Preview 3D or Save 3D Model.",
                ),
                io.Mesh.Output(
                    "core_mesh",
                    display_name="core_mesh",
                    tooltip="The painted mesh for ComfyUI's own mesh nodes.",
                ),
                io.Image.Output("texture", display_name="texture", tooltip="The texture."),
                io.Mask.Output(
                    "painted",
                    display_name="painted",
                    tooltip="How much of each texel comes from the pictures.",
                ),
                io.String.Output(
                    "info",
                    display_name="info",
                    tooltip="How much of the surface was painted, by which picture, and which "
                    "pictures were left out and why.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        mesh,
        images,
        point_maps,
        cameras: str | None = None,
        masks=None,
        texture_size: int = 0,
        holes: str = OLD,
        uvs: str = AUTO,
    ) -> io.NodeOutput:
        seen, maps = list(pictures(images)), list(pictures(point_maps))
        interrupt = comfy.model_management.throw_exception_if_processing_interrupted
        with titled(PAINT):
            asset = to_asset(mesh)
            placed = None
            if cameras:
                height, width = maps[0].shape[:2]
                placed = cameras_from_transforms(cameras, asset, width, height)
            painted = paint_mesh(
                asset,
                seen,
                maps,
                placed,
                _mask_arrays(masks, seen),
                texture_size,
                uvs,
                holes,
                interrupt,
            )
        result = to_trimesh(painted.asset)
        glb = streams.BytesIO(result.export(file_type="glb"))
        texture = torch.from_numpy(painted.texture[None, ..., :3] / np.float32(255))
        shown, troubles = preview(cls, texture)
        left_out = [f"Picture {i} is not painted: {why}" for i, why in painted.refusals.items()]
        return io.NodeOutput(
            result,
            Types.File3D(glb, "glb"),
            core_mesh(painted),
            texture,
            torch.from_numpy(painted.paint)[None],
            _info(painted),
            ui={**shown, **notes(cls, [*left_out, *troubles])},
        )


def _info(painted: Painted) -> str:
    lines = [
        f"{painted.coverage:.1%} of the texture on the surface is painted",
        *(f"picture {i}: {share:.1%}" for i, share in enumerate(painted.views)),
        *(f"picture {i} left out: {why}" for i, why in painted.refusals.items()),
    ]
    return "\n".join(lines)


def core_mesh(painted: Painted) -> Types.MESH:
    """The painted asset as core's MESH, in the file's units."""
    (part,) = painted.asset.parts
    mesh = Types.MESH(
        torch.from_numpy(part.vertices.astype(np.float32))[None],
        torch.from_numpy(part.faces.astype(np.int64))[None],
    )
    # As attributes: hosts before 0.20 take no more than vertices and faces.
    mesh.uvs = torch.from_numpy(np.ascontiguousarray(part.uv))[None]
    mesh.texture = torch.from_numpy(painted.texture[None, ..., :3] / np.float32(255))
    return mesh
