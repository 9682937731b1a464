"""The files beside a mesh, as trimesh may see them: only those in the mesh's own folder."""

import io
from pathlib import Path

import numpy as np

from .limits import LimitError, beside, check_file_size
from .pictures import Pictures

_KEY = "refany3d_picture"


class FolderResolver:
    """trimesh's resolver interface over one folder.

    trimesh opens what a resolver gives it with every decoder that Pillow has. So textures are
    decoded here, and trimesh gets a picture of one pixel that says which texture it stands for;
    `picture_of` gives the texture back.

    trimesh swallows what a resolver raises and goes on without the file, so everything that went
    wrong is kept here: what is too large ends the loading, the rest becomes warnings.
    """

    def __init__(self, folder: Path | None, texts: int = 0) -> None:
        """`texts`: how many requests, from the first, ask for text (an OBJ's MTL); all others ask
        for textures."""
        self._folder = folder
        self._texts = texts
        self._decoder = Pictures()
        self._pictures: list[np.ndarray] = []
        self._by_path: dict[Path, int] = {}
        self._missing: list[str] = []
        self._too_large: list[LimitError] = []

    def get(self, name: str) -> bytes:
        """Content of a text file, or the stand-in of a texture. Raises ValueError."""
        self._texts, is_text = self._texts - 1, self._texts > 0
        if not is_text:
            return _stand_in(self._picture(name))
        try:
            return self._path(name).read_bytes()
        except (ValueError, OSError) as error:
            self._missing.append(str(error))
            raise

    __getitem__ = get

    def texture(self, name: str) -> np.ndarray | None:
        """A texture uint8 [H, W, 4] by its name, or None, with a warning.

        Raises:
            LimitError: too large.
        """
        try:
            return self._pictures[self._picture(name)]
        except LimitError:
            raise
        except (ValueError, OSError):
            return None

    def inner_texture(self, data: bytes, name: str) -> np.ndarray | None:
        """A texture uint8 [H, W, 4] from inside of the file, or None, with a warning.

        Raises:
            LimitError: too large.
        """
        try:
            return self.decode(data, f"the texture {name}")
        except LimitError:
            raise
        except ValueError as error:
            self._missing.append(str(error))
            return None

    def decode(self, data: bytes, what: str) -> np.ndarray:
        """A texture that comes from inside of the file, see `Pictures.decode`."""
        return self._decoder.decode(data, what)

    def _path(self, name: str) -> Path:
        name = _without_options(str(name).strip())
        if self._folder is None:
            raise ValueError(f"the file {name[:80]!r} cannot come with a stream; use GLB")
        path = beside(self._folder, name)
        check_file_size(path)
        return path

    def _picture(self, name: str) -> int:
        """A texture's index in `_pictures`."""
        try:
            path = self._path(name)
            if path not in self._by_path:
                pixels = self._decoder.decode(path.read_bytes(), f"the texture {path.name}")
                self._by_path[path] = len(self._pictures)
                self._pictures.append(pixels)
            return self._by_path[path]
        except LimitError as error:
            self._too_large.append(error)
            raise
        except (ValueError, OSError) as error:
            self._missing.append(str(error))
            raise

    def picture_of(self, image) -> np.ndarray | None:
        """The texture uint8 [H, W, 4] that a stand-in, as trimesh opened it, stands for."""
        index = image.info.get(_KEY)
        return self._pictures[int(index)] if index is not None else None

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
        """Raise LimitError when the mesh asked for too much."""
        if self._too_large:
            raise self._too_large[0]

    def warnings(self) -> list[str]:
        """A sentence for each file that was asked for and cannot be had, or not as it is."""
        missing = [f"{reason}; what it colours is drawn without it" for reason in self._missing]
        return list(dict.fromkeys(missing)) + self._decoder.warnings


def _without_options(name: str) -> str:
    """An MTL file's texture name without options such as `-s 1 1 1` before it."""
    words = name.split()
    while len(words) > 1 and words[0].startswith("-"):
        words.pop(0)
        while len(words) > 1 and (words[0] in ("on", "off") or _is_number(words[0])):
            words.pop(0)
        name = " ".join(words)
    return name


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _stand_in(index: int) -> bytes:
    from PIL import Image, PngImagePlugin

    label = PngImagePlugin.PngInfo()
    label.add_text(_KEY, str(index))
    out = io.BytesIO()
    Image.new("RGBA", (1, 1)).save(out, "PNG", pnginfo=label)
    return out.getvalue()
