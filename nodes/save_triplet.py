"""Save Triplet: picture, asset and pose as a record of a training set."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..refany3d_core.asset import to_asset
from ..refany3d_core.asset.cameras import from_viewport
from ..refany3d_core.files import write_trouble
from ..refany3d_core.pointmap.decode import pictures
from .sockets import CATEGORY, mesh_input

NODE = "Save Triplet"
FOLDER = "refany3d"
"""Of the training sets, below ComfyUI's output folder."""


class SaveTriplet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_SaveTriplet",
            display_name=NODE,
            category=CATEGORY,
            description="Save a picture, the mesh of its object and their camera as one record of "
            "a training set in the published layout, below output/refany3d. The same triplet is "
            "saved once.",
            search_aliases=["refany3d", "dataset", "training set", "export record", "captions"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="One picture, uncropped."),
                io.Mask.Input("mask", tooltip="White where the object is visible in it."),
                mesh_input("The object."),
                io.Load3DCamera.Input(
                    "camera_info", tooltip="The picture's camera, of Estimate Pose or Load 3D."
                ),
                io.String.Input(
                    "caption", multiline=True, tooltip="What the picture shows, for training."
                ),
                io.String.Input(
                    "item",
                    tooltip="The object's name. All pictures of one object share it: training "
                    "holds objects out by it.",
                ),
                io.String.Input(
                    "dataset",
                    default="my_dataset",
                    tooltip="Folder of the training set, below output/refany3d. Records are added.",
                ),
                io.Float.Input(
                    "iou",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    optional=True,
                    force_input=True,
                    tooltip="Of Estimate Pose: under 0.85 nothing is saved.",
                ),
                io.Float.Input(
                    "ambiguity",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    optional=True,
                    force_input=True,
                    tooltip="Of Estimate Pose: above 0.5 nothing is saved.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "record",
                    display_name="record",
                    tooltip="The record's folder; empty when the pose was refused.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, dataset=None) -> bool | str:
        if not isinstance(dataset, str):  # linked, so that the run checks it; or the host tells
            return True
        try:
            _dataset_folder(dataset)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        image,
        mask,
        mesh,
        camera_info,
        caption: str,
        item: str,
        dataset: str,
        iou: float = 1.0,
        ambiguity: float = 0.0,
    ) -> io.NodeOutput:
        from ..refany3d_core.collect.record import write_index, write_record
        from ..refany3d_core.pose_search import refusal

        if len(image) != 1:
            raise ValueError(
                f"{NODE}: image holds {len(image)} pictures, a triplet has one; run once for each"
            )
        reason = refusal(iou, ambiguity)
        if reason:
            return io.NodeOutput("", ui={"text": [f"Not saved: {reason}"]})
        folder = _dataset_folder(dataset)
        picture = pictures(image)[0]
        height, width = picture.shape[:2]
        try:
            asset = to_asset(mesh)
            record = write_record(
                folder,
                item=item,
                caption=caption,
                image=picture,
                mask=mask.reshape(-1, *mask.shape[-2:])[0].cpu().float().numpy(),
                asset=asset,
                camera=from_viewport(camera_info, asset, width, height),
                notes={"iou": iou, "ambiguity": ambiguity},
            )
            count = write_index(folder)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        except OSError as error:
            raise ValueError(f"{NODE}: {write_trouble(error, folder)}") from error
        text = f"{record.name}: {count} records in {FOLDER}/{dataset}"
        return io.NodeOutput(str(record), ui={"text": [text]})


def _dataset_folder(name: str) -> Path:
    """Where a training set lies.

    Raises:
        ValueError: the name leads elsewhere, or is none.
    """
    root = Path(folder_paths.get_output_directory(), FOLDER).resolve()
    folder = root if "\0" in name else (root / name.strip()).resolve()
    if folder == root or root not in folder.parents:
        raise ValueError(
            f"{NODE}: dataset is {name!r}; give the name of a folder, such as my_dataset"
        )
    return folder
