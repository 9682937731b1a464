"""Textures of one mesh file: which formats are decoded, and how many pixels they may have.

Pillow opens some fifty formats, and hands EPS to Ghostscript. Only what mesh formats use is opened.
"""

import io
import struct
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from .limits import LimitError

GLTF_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
"""glTF 2.0, section 3.8.3, EXT_texture_webp and EXT_texture_avif."""
TEXTURE_FORMATS = (*GLTF_FORMATS, "BMP", "TGA", "TIFF", "GIF", "DDS")
"""OBJ, DAE and PLY name texture files of any kind; these are what programs write."""
MAX_IMAGE_PIXELS = 170_000_000
"""Largest texture: 0.7 GB of RGBA, more than 8192 x 16384."""
MAX_KEPT_PIXELS = 2 * MAX_IMAGE_PIXELS
"""All textures of a file together, as kept: 1.4 GB of RGBA."""
MAX_DECODED_PIXELS = 520_000_000
"""All textures of a file together, as stored: 31 of 4096 x 4096."""
_STRIP = 1 << 24
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error)


class Pictures:
    """Decodes the textures of one file within its share of memory.

    Attributes:
        warnings: a sentence for each texture that was made smaller.
    """

    def __init__(self, formats: Sequence[str] = TEXTURE_FORMATS) -> None:
        """`formats`: names of Pillow's formats that are opened."""
        self._formats = formats
        self._kept = 0
        self._decoded = 0
        self.warnings: list[str] = []

    def decode(self, data: bytes, what: str) -> np.ndarray:
        """Decode an image file to uint8 [H, W, 4] (sRGB, alpha), its size checked before its
        pixels.

        One texture may take half of the room that is left; a larger one is halved until it fits,
        so that a file with very many textures is drawn, with its last ones coarser.

        Args:
            data: the file's bytes.
            what: name of the image for messages.

        Raises:
            LimitError: larger than MAX_IMAGE_PIXELS, or the total above MAX_DECODED_PIXELS.
            ValueError: not an image in one of the formats, or damaged.
        """
        image = _Basis(data, what) if is_basis(data) else self._open(data, what)
        width, height = image.size
        pixels = width * height
        if pixels > MAX_IMAGE_PIXELS:
            raise _too_large(what, f"{width:,} x {height:,}")
        self._decoded += pixels
        if self._decoded > MAX_DECODED_PIXELS:
            raise LimitError(
                f"its textures up to {what} have {self._decoded / 1e6:,.0f} megapixels together, "
                f"the limit is {MAX_DECODED_PIXELS // 10**6}; scale them down"
            )
        factor = 1
        while pixels / factor**2 > (MAX_KEPT_PIXELS - self._kept) / 2:
            factor *= 2
        try:
            out = image.rgba() if isinstance(image, _Basis) else _rgba(image, factor)
        except MemoryError as error:
            raise LimitError(f"{what} does not fit in memory; scale it down") from error
        except _DAMAGE as error:
            raise ValueError(f"{what} is damaged ({error})") from error
        if factor > 1:
            self.warnings.append(f"{what} is drawn {factor} times smaller, to fit in memory")
        self._kept += out.shape[0] * out.shape[1]
        return out

    def _open(self, data: bytes, what: str):
        from PIL import Image, UnidentifiedImageError

        Image.init()
        formats = [name for name in self._formats if name in Image.OPEN]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return Image.open(io.BytesIO(data), formats=formats)
        except UnidentifiedImageError as error:
            raise ValueError(f"{what} is not a picture in a known format") from error
        except Image.DecompressionBombError as error:
            raise _too_large(what, "far too many") from error
        except _DAMAGE as error:
            raise ValueError(f"{what} cannot be read ({error})") from error


def is_basis(data: bytes) -> bool:
    """Whether a file is a KTX 2 or Basis Universal texture."""
    return data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n" or data[:2] == b"sB"


class _Basis:
    """A Basis Universal texture, by the optional package opengl_basisu."""

    def __init__(self, data: bytes, what: str) -> None:
        if find_spec("opengl_basisu") is None:
            raise ValueError(
                f"{what} is a KTX2 (Basis Universal) image, which needs the package opengl_basisu: "
                "run `pip install opengl_basisu` in ComfyUI's Python, or export with PNG, JPEG or "
                "WebP textures"
            )
        import opengl_basisu

        self._what = what
        try:
            self._texture = opengl_basisu.open(data)
        except (opengl_basisu.BasisuError, ValueError) as error:
            raise ValueError(f"{what} is a KTX2 image that cannot be read ({error})") from error
        self.size = self._texture.width, self._texture.height

    def rgba(self) -> np.ndarray:
        import opengl_basisu

        try:
            return np.array(self._texture.transcode("rgba8", level=0).data)
        except opengl_basisu.BasisuError as error:
            raise ValueError(str(error)) from error


def _too_large(what: str, size: str) -> LimitError:
    return LimitError(
        f"{what} has {size} pixels, the limit is {MAX_IMAGE_PIXELS // 10**6} megapixels; "
        "scale it down"
    )


def _rgba(image, factor: int) -> np.ndarray:
    """Pixels of an opened image, strip by strip: Pillow's own conversion holds it three times."""
    from PIL import Image

    image.load()
    if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it
        grey = np.asarray(image) // 257
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if factor > 1:
        if image.mode == "P" or "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.reduce(factor)
    width, height = image.size
    rows = max(1, _STRIP // width)
    out = np.empty((height, width, 4), np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        out[top : top + rows] = np.asarray(strip.convert("RGBA"))
    return out
