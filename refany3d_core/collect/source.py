"""The stream of pictures: Hugging Face `datasets`, shared out between processes, resumable.

Every row becomes an `Item` that is named by its content, so that neither the number of processes
nor a second pass over the stream changes which records there are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import Config, SourceConfig
from .store import write_whole

log = logging.getLogger(__name__)

_SAVE_EVERY = 20
"""Rows between two savings of the stream's place."""
_SUBJECTS200K_SCORES = ("compositeStructure", "objectConsistency", "imageQuality")


@dataclass(frozen=True)
class RawPicture:
    """A picture as the row has it.

    Attributes:
        image: the encoded picture, or b"" where it cannot be read.
        caption: may be empty.
        half: which half of a pair in one picture, 0 left or 1 right; None for the whole.
        mask: an encoded picture, or None.
    """

    image: bytes
    caption: str
    half: int | None = None
    mask: bytes | None = None


@dataclass(frozen=True)
class Item:
    """A row: one asset, one or more pictures of it.

    Attributes:
        name: the row's own name, or "".
        item: the object's name.
        pictures: of it.
        mesh: a file, the content of one, or None.
        mesh_format: ending of the mesh's file, without a dot.
        camera: camera_to_world [4][4] and fov, or None.
        fov: degrees, a guess; 0 unknown.
        refused: why the row does not serve, or "".
    """

    name: str
    item: str
    pictures: tuple[RawPicture, ...]
    mesh: Path | bytes | None = None
    mesh_format: str = "glb"
    camera: Mapping[str, Any] | None = None
    fov: float = 0.0
    refused: str = ""

    @property
    def key(self) -> str:
        """Name of the record: readable, and a digest of all that the row says."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            half = str(picture.half).encode()
            for part in (picture.image, picture.caption.encode(), picture.mask or b"", half):
                digest.update(len(part).to_bytes(8, "big") + part)
        mesh = self.mesh if isinstance(self.mesh, bytes) else str(self.mesh).encode()
        rest = json.dumps([self.name, self.item, self.camera, self.fov], default=str).encode()
        digest.update(mesh + rest)
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", self.name or self.item)[:48].strip("-")
        return f"{slug or 'record'}-{digest.hexdigest()[:12]}"


def items(config: Config, rank: int, world: int, work: Path, signature: str) -> Iterator[Item]:
    """This process's share of the stream, from where it stood when it was last read.

    Args:
        config: the collection's.
        rank, world: which process of how many.
        work: where the stream's place is kept.
        signature: of the source's settings.

    Raises:
        ValueError: `datasets` is missing, or cannot read the source; says why.
    """
    source = config.source
    stream = _open(config)
    if world > 1:
        from datasets.distributed import split_dataset_by_node

        stream = split_dataset_by_node(stream, rank, world)
    limit = source.limit // world + (rank < source.limit % world) if source.limit else None
    place = work / "places" / f"{rank}_of_{world}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    # a folder is listed anew each time, since pictures are added to it
    now = {"signature": signature, "shards": stream.n_shards, "taken": 0, "state": None}
    if source.kind != "folder":
        now = _resumed(place, now)
        if now["state"]:
            stream.load_state_dict(now["state"])
    adapter = _subjects200k if source.adapter == "subjects200k" else _columns
    rows = iter(stream)
    while limit is None or now["taken"] < limit:
        row = next(rows, None)
        if row is None:
            break
        yield adapter(row, config)
        now["taken"] += 1
        if source.kind != "folder" and now["taken"] % _SAVE_EVERY == 0:
            # rows up to here are on disk: the engine takes an item in before it asks for the next
            write_whole(place, json.dumps({**now, "state": stream.state_dict()}).encode())
    if source.kind != "folder":
        write_whole(place, json.dumps({**now, "state": stream.state_dict()}).encode())


def _resumed(place: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return fresh
    same = all(found.get(key) == fresh[key] for key in ("signature", "shards"))
    return found if same else fresh


def _open(config: Config):
    """The stream of undecoded rows."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError('collect needs the package datasets: pip install ".[collect]"') from error
    source = config.source
    path = config.path(source.path)
    if source.kind == "hub":
        builder: dict[str, Any] = {"path": source.path}
    elif source.kind == "folder":
        if not path.is_dir():
            raise ValueError(f"[source] there is no folder '{path}'")
        builder = {"path": "imagefolder", "data_dir": str(path), "drop_labels": True}
    else:
        builder = {"path": source.kind, "data_files": str(path)}
    try:
        stream = datasets.load_dataset(**builder, split=source.split, streaming=True)
    except Exception as error:  # whatever the builders and the hub raise
        raise ValueError(f"[source] '{source.path}' cannot be read: {error}") from error
    return stream.decode(False)


def _columns(row: Mapping[str, Any], config: Config) -> Item:
    source = config.source
    image, path = _file(_value(row, source.image))
    caption = _text(_value(row, source.caption)) or _caption_beside(path, source)
    mask, _ = _file(_value(row, source.mask)) if source.mask else (None, "")
    mesh, ending = _mesh(_value(row, source.mesh), config) if source.mesh else (None, "glb")
    name = _text(_value(row, source.name or "__key__")) or Path(path).stem
    camera, fov, refused = None, 0.0, ""
    try:
        camera = _value(row, source.camera) if source.camera else None
        camera = json.loads(camera) if isinstance(camera, str) and camera else camera
        fov = float(_value(row, source.fov) or 0.0) if source.fov else 0.0
    except (TypeError, ValueError) as error:
        refused = f"its camera or fov is no number or JSON ({error})"
    item = _text(_value(row, source.item)) or caption
    picture = RawPicture(image, caption, mask=mask or None)
    return Item(name, item, (picture,), mesh, ending, camera, fov, refused)


def _subjects200k(row: Mapping[str, Any], config: Config) -> Item:
    """A pair of pictures of one subject in one picture, with its authors' scores."""
    scores, says = row.get("quality_assessment") or {}, row.get("description") or {}
    lowest = min((scores.get(key) or 0) for key in _SUBJECTS200K_SCORES)
    refused = ""
    if lowest < config.source.min_quality:
        refused = f"its authors' lowest score is {lowest}, under {config.source.min_quality}"
    elif says.get("description_valid") is False:
        refused = "its authors call its description invalid"
    image, path = _file(row.get("image"))
    pictures = tuple(RawPicture(image, _text(says.get(f"description_{i}")), i) for i in (0, 1))
    return Item(Path(path).stem, _text(says.get("item")), pictures, refused=refused)


def _value(row: Mapping[str, Any], column: str) -> Any:
    if column in row:  # WebDataset's columns may have dots themselves
        return row[column]
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    return str(value).strip() if value is not None else ""


def _file(value: Any) -> tuple[bytes, str]:
    """(content, path) of a file in a row; no content where it cannot be read."""
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        return b"", ""
    path = value.get("path") or ""
    if value.get("bytes") is not None or not path:
        return value.get("bytes") or b"", path
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return file.read(), path
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return b"", path


def _mesh(value: Any, config: Config) -> tuple[Path | bytes | None, str]:
    if isinstance(value, str) and value:
        folder = config.path(config.source.path)
        folder = folder if folder.is_dir() else config.folder
        return folder / value, Path(value).suffix.lstrip(".")
    content, path = _file(value)
    return content or None, Path(path).suffix.lstrip(".") or "glb"


def _caption_beside(path: str, source: SourceConfig) -> str:
    """The text of NAME.txt beside a folder's picture."""
    if source.kind != "folder" or not path:
        return ""
    try:
        return Path(path).with_suffix(".txt").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
