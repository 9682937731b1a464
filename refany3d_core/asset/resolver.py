"""The files beside a mesh, as trimesh may see them: only those in the mesh's own folder."""

from pathlib import Path

from .limits import check_file_size, decode_image, inside

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".tif", ".tiff", ".gif")


class FolderResolver:
    """trimesh's resolver interface over one folder.

    trimesh swallows what a resolver raises and goes on without the file, so everything that went
    wrong is kept here: refusals end the loading, missing files become warnings.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._missing: list[str] = []
        self._refused: list[str] = []

    def get(self, name: str) -> bytes:
        """Content of a file. Raises ValueError or FileNotFoundError."""
        name = str(name).strip()
        if self._folder is None:
            self._missing.append(name)
            raise FileNotFoundError(name)
        try:
            path = inside(self._folder, name)
        except ValueError as error:
            self._refused.append(str(error))
            raise
        if not path.is_file():
            self._missing.append(name)
            raise FileNotFoundError(name)
        try:
            check_file_size(path)
            data = path.read_bytes()
            if path.suffix.lower() in _IMAGES:
                decode_image(data, f"the texture {path.name}")
        except ValueError as error:
            if "the limit is" in str(error):
                self._refused.append(str(error))
            else:
                self._missing.append(f"{name} ({error})")
            raise
        return data

    __getitem__ = get

    def write(self, name: str, data: bytes) -> None:
        """Loading never writes."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> "FolderResolver":
        """The resolver itself: names stay relative to the mesh's folder."""
        return self

    def keys(self) -> list[str]:
        """Nothing is listed; files are asked for by name."""
        return []

    def raise_refusals(self) -> None:
        """Raise ValueError when the mesh asked for something that is not allowed."""
        if self._refused:
            raise ValueError(self._refused[0])

    def warnings(self) -> list[str]:
        """A sentence for each file that was asked for and is not there."""
        missing = dict.fromkeys(self._missing)
        if self._folder is None:
            return [f"the file {name!r} cannot come with a stream; use GLB" for name in missing]
        return [
            f"the file {name!r} is not beside the mesh; what it colours is drawn without it"
            for name in missing
        ]
