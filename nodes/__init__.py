"""The pack's nodes: schema, validation, one call into the core."""

from comfy_api.latest import ComfyExtension, io

from ..refany3d_core.host import model_files
from .apply import Apply
from .camera import CameraFromPointMap
from .camera_path import LockCameraPath, SaveCameraPath
from .checks import checked
from .consistency import CheckConsistency
from .demo_models import LoadDemoModels
from .estimate_pose import EstimatePose
from .example_photo import ExamplePhoto
from .latents import DecodePointMap, JoinLatent, SplitLatent
from .load_adapters import LoadAdapters
from .lock_pose import LockPose
from .mesh import LoadMesh
from .place import PasteBack, PlaceInPhoto
from .point_cloud import PointCloud
from .reference_files import LoadReference, SaveReference
from .references import ChooseViews, EncodeReferences
from .render_views import RenderViews
from .sampler import Sampler
from .save_triplet import SaveTriplet
from .surface import PaintMesh, TransferDetail
from .train import Train


class RefAny3DExtension(ComfyExtension):
    """All nodes, and the pack's model folder."""

    async def on_load(self) -> None:
        model_files.register_folder()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        nodes: list[type[io.ComfyNode]] = [
            LoadMesh,
            RenderViews,
            LoadAdapters,
            EncodeReferences,
            ChooseViews,
            Apply,
            Sampler,
            SplitLatent,
            JoinLatent,
            DecodePointMap,
            LockPose,
            ExamplePhoto,
            PlaceInPhoto,
            PasteBack,
            LockCameraPath,
            SaveCameraPath,
            CameraFromPointMap,
            EstimatePose,
            SaveTriplet,
            Train,
            CheckConsistency,
            PointCloud,
            TransferDetail,
            PaintMesh,
            SaveReference,
            LoadReference,
            LoadDemoModels,
        ]
        return [checked(node) for node in nodes]
