"""Settings of a collection: a TOML file, checked against these dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..pose_search.scores import MAX_AMBIGUITY, MIN_IOU
from ..toml_tables import build, read_toml


@dataclass(frozen=True)
class SourceConfig:
    """Where pictures come from, read by Hugging Face `datasets` as a stream.

    Attributes:
        path: a folder of pictures, tar or parquet files (`*` allowed), or a name on the hub.
        kind: what `path` is.
        split: of the dataset.
        adapter: "columns": one picture a row, by the names below; "subjects200k": its pairs.
        image, caption, item: columns; `a.b` is field b of column a. A row without an item takes
            its caption as the object's name. A folder's picture without a caption column takes
            NAME.txt beside it.
        mask, mesh, camera, fov: optional columns: picture; path (from the source's folder) or
            bytes; JSON {camera_to_world, fov} in the mesh's normalised frame; degrees, a guess.
        name: optional column that names a record; the file's name otherwise.
        min_quality: subjects200k: lowest of a pair's scores that is taken.
        limit: rows taken at most; 0 takes all.
    """

    path: str
    kind: Literal["folder", "webdataset", "parquet", "hub"] = "folder"
    split: str = "train"
    adapter: Literal["columns", "subjects200k"] = "columns"
    image: str = "image"
    caption: str = "caption"
    item: str = "item"
    mask: str = ""
    mesh: str = ""
    camera: str = ""
    fov: str = ""
    name: str = ""
    min_quality: int = 5
    limit: int = 0


@dataclass(frozen=True)
class BoxesConfig:
    """The object's box by its name.

    Attributes:
        method: "groundingdino": any zero-shot detector of transformers; "none": masks need none.
        model: a folder, or a name on the hub.
        box_threshold, text_threshold: of the detector (the authors' own).
    """

    method: Literal["groundingdino", "none"] = "groundingdino"
    model: str = "IDEA-Research/grounding-dino-tiny"
    box_threshold: float = 0.35
    text_threshold: float = 0.25


@dataclass(frozen=True)
class MasksConfig:
    """The object's mask.

    Attributes:
        method: "sam": SAM, SAM 2 (by box) or SAM 3 (by name) of transformers; "graph": a ComfyUI
            graph that saves one picture, white on the object; "given": the source's.
        model: a folder, or a name on the hub.
        graph: file of the graph in API format.
        min_area: smallest share of the picture.
    """

    method: Literal["sam", "graph", "given"] = "sam"
    model: str = "facebook/sam2.1-hiera-small"
    graph: str = ""
    min_area: float = 0.01


@dataclass(frozen=True)
class AssetConfig:
    """The 3D asset.

    Attributes:
        method: "graph": a ComfyUI graph that saves one 3D file; "given": the source's.
        graph: file of the graph in API format.
        margin: side of the square that the graph sees, in units of the object's longer side.
    """

    method: Literal["graph", "given"] = "graph"
    graph: str = ""
    margin: float = 1.2


@dataclass(frozen=True)
class PoseConfig:
    """The camera that took the picture.

    Attributes:
        method: "search": ours; "given": the source's, or that of the asset's graph for the picture
            that it saw; "foundationpose": a command.
        fov: vertical, degrees, a guess where the source has none; 0: unknown.
        command: foundationpose: words of the command line, with {mesh}, {scene} and {output}.
        depth_model: foundationpose: a depth estimator of transformers, in metres.
    """

    method: Literal["search", "given", "foundationpose"] = "search"
    fov: float = 0.0
    command: list[str] = field(default_factory=list)
    depth_model: str = ""


@dataclass(frozen=True)
class FiltersConfig:
    """What is kept.

    Attributes:
        min_iou: of the outline from the camera found and the mask.
        max_ambiguity: 0 sure to 1 a coin toss.
        min_colour_correlation: of the picture and the asset from that camera.
        clip, dino: folders or names on the hub of a CLIP and a DINO (1, 2 or 3) model; none if "".
        min_clip, min_dino: cosine of the embeddings of the object and of its render.
    """

    min_iou: float = MIN_IOU
    max_ambiguity: float = MAX_AMBIGUITY
    min_colour_correlation: float = 0.3
    clip: str = ""
    min_clip: float = 0.7
    dino: str = ""
    min_dino: float = 0.4


@dataclass(frozen=True)
class ServersConfig:
    """ComfyUI servers for graphs. Nothing here changes a result, so nothing here is signed.

    Attributes:
        urls: of the servers.
        attempts: for one graph, each on the next server.
        timeout: seconds that a graph may wait and run.
        rest: seconds before a server that failed is asked again; doubles up to a minute.
    """

    urls: list[str] = field(default_factory=lambda: ["http://127.0.0.1:8188"])
    attempts: int = 3
    timeout: float = 1800.0
    rest: float = 2.0


@dataclass(frozen=True)
class RunConfig:
    """How it runs. Nothing here changes a result, so nothing here is signed.

    Attributes:
        workers: records worked on at once by a process; 0: two for each server.
        device: of the networks: "cpu", "cuda", "cuda:1" ...; "": each process its own GPU.
        max_failures: failures in a row (not refusals) that end the run.
    """

    workers: int = 0
    device: str = ""
    max_failures: int = 20


@dataclass(frozen=True)
class Config:
    """All tables. `folder` is that of the file: relative paths start there."""

    source: SourceConfig
    boxes: BoxesConfig = BoxesConfig()
    masks: MasksConfig = MasksConfig()
    asset: AssetConfig = AssetConfig()
    pose: PoseConfig = PoseConfig()
    filters: FiltersConfig = FiltersConfig()
    servers: ServersConfig = field(default_factory=ServersConfig)
    run: RunConfig = RunConfig()
    folder: Path = Path(".")

    def path(self, name: str) -> Path:
        """A path of the file, from its folder."""
        return self.folder / Path(name).expanduser()

    def model(self, name: str) -> str:
        """A model's folder if there is one, else the name itself, for the hub."""
        return str(self.path(name)) if self.path(name).is_dir() else name


def load_config(path: str | Path) -> Config:
    """Read a collection's TOML file.

    Raises:
        ValueError: not TOML, Python older than 3.11, or a setting that is unknown, missing, or of
            the wrong type; names it.
    """
    path = Path(path)
    values = read_toml(path)
    if "source" not in values:
        raise ValueError(f"{path.name} has no [source] table")
    return build(Config, {**values, "folder": path.parent.resolve()}, path.name)


def settings_of(table: Any, *unsigned: str) -> dict[str, Any]:
    """A table's values that its results depend on."""
    return {key: value for key, value in asdict(table).items() if key not in unsigned}
