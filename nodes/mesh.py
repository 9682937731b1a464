"""Load Mesh."""

from comfy_api.latest import Types, io

from ..refany3d_core.asset import Moment, load_asset
from ..refany3d_core.asset.fingerprint import fingerprint
from ..refany3d_core.asset.from_trimesh import to_trimesh
from .mesh_files import MESH_FOLDER, mesh_files, mesh_path
from .notes import notes
from .sockets import CATEGORY, TrimeshSocket


class LoadMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefAny3D_LoadMesh",
            display_name="Load Mesh",
            category=CATEGORY,
            description="Load a 3D asset (GLB, glTF, OBJ, PLY, STL, OFF, DAE, 3MF) from "
            "ComfyUI's input/3d folder.",
            is_output_node=True,
            search_aliases=["refany3d", "load 3d", "trimesh", "glb", "obj", "ply", "stl"],
            inputs=[
                io.Combo.Input(
                    "mesh_file",
                    options=mesh_files(),
                    upload=io.UploadType.model,
                    extra_dict={"mesh_upload": True, "upload_subfolder": MESH_FOLDER},
                    tooltip="A mesh in ComfyUI's input/3d folder. A file that changes on disk is "
                    "read anew.",
                ),
                io.Combo.Input(
                    "up_axis",
                    options=["auto", "y", "z"],
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Which axis of the file points up. auto: as the file declares, else "
                    "Y. Choose z for OBJ and STL files that lie on their side.",
                ),
                io.String.Input(
                    "animation",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Pose the mesh as in this animation of the file: its name, or its "
                    "number counted from 0. Empty: the pose in which the file stands.",
                ),
                io.Float.Input(
                    "time",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Seconds from the animation's start.",
                ),
            ],
            outputs=[
                TrimeshSocket.Output(
                    "mesh",
                    display_name="mesh",
                    tooltip="The mesh, for Render Reference Views and other packs' mesh nodes.",
                ),
                io.File3DAny.Output(
                    "model_3d",
                    display_name="model_3d",
                    tooltip="The file itself, for Preview 3D & Animation.",
                ),
                io.String.Output(
                    "info",
                    display_name="info",
                    tooltip="Parts, faces and size of the mesh, and what of the file is not drawn.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, mesh_file=None) -> bool | str:
        if mesh_file is None:  # linked, so that the run checks it; or missing, which the host tells
            return True
        try:
            mesh_path(mesh_file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, mesh_file: str, **kwargs) -> str:
        return fingerprint(mesh_path(mesh_file))

    @classmethod
    def execute(
        cls, mesh_file: str, up_axis: str = "auto", animation: str = "", time: float = 0.0
    ) -> io.NodeOutput:
        path = mesh_path(mesh_file)
        try:
            moment = Moment(animation, time) if animation.strip() else None
            asset = load_asset(path, up_axis, moment)
        except ValueError as error:
            raise ValueError(f"Load Mesh: {error}") from error
        info = "\n".join([asset.describe(), *asset.warnings])
        return io.NodeOutput(
            to_trimesh(asset), Types.File3D(str(path)), info, ui=notes(cls, asset.warnings)
        )
