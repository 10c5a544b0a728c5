"""From any picture to 8-bit RGB: the only file that opens images.

Nothing here is repaired or guessed: a picture that is cut off, undecodable or absent raises with a
code, and its row is recorded as failed. EXIF orientation is not applied (CLIP's, CoOp's and
torchvision's loaders do not).
"""

import io
import struct
import threading
import zlib
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cacheclip.datasets.base import Source

Code: TypeAlias = Literal["missing", "decode", "truncated", "toolarge", "other"]

MAX_PIXELS = 2**27  # 134 megapixels, 400 MB decoded
MAX_ASPECT = 200  # a longer strip, its short side scaled to an encoder's, would take gigabytes
# Decoders by name: a file may be called .jpg and hold PostScript, for which Pillow would start
# another program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
# What Pillow raises on files that are no pictures; it promises none of them.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)
_opening = threading.Lock()


class ImageError(Exception):
    """A picture that cannot be used; the code is one of `store.schema.FAILURE_CODES`."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(code, text)
        self.code: Code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def read_rgb(source: Source) -> Image.Image:
    """Decode a picture to mode RGB.

    16-bit and 32-bit levels are scaled to 8 bits, never clipped; palettes, alpha and transparent
    colours go through RGBA onto white; the first frame of an animation counts.

    Args:
        source: a file's path, an encoded file's bytes, or an array, uint8 [H,W] or [H,W,3].

    Raises:
        ImageError: "missing" (no such file), "truncated" (the file ends early), "decode" (no
            picture that can be read), "toolarge" (over MAX_PIXELS, or a strip over MAX_ASPECT) or
            "other" (reading failed).
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    data = _read_bytes(source) if isinstance(source, Path) else source
    if not data:
        raise ImageError("truncated", "the file is empty")
    try:
        image = _open(data)
        _require_usual(image.width, image.height)
        image.load()
        return _to_rgb(image)
    except DECODER_ERRORS as error:
        early = _ends_early(data)
        text = "the file ends early" if early else _reason(error)
        cut_off = early or "truncated" in text.lower()
        raise ImageError("truncated" if cut_off else "decode", text) from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", "no such file") from error
    except OSError as error:
        raise ImageError("other", error.strerror or str(error)) from error


def _open(data: bytes) -> Image.Image:
    """Read the header, with our limit in place of Pillow's, which warns on stderr."""
    with _opening:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _require_usual(width: int, height: int) -> None:
    size = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise ImageError("toolarge", f"{size}, limit {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError("toolarge", f"{size}, a strip longer than {MAX_ASPECT} times its width")


def _to_rgb(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these clips: a 16-bit PNG turns white without a word.
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image)
        grey = _eight_bits(levels)
        if "transparency" in image.info:  # the level that stands for "nothing here"
            grey[levels == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(levels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale levels [H,W] to 0..255.

    Whole numbers that fit 16 bits count from 0 to 65,535, fractions from 0 to 1; where the levels
    leave that range, the least becomes 0 and the greatest 255.
    """
    low, high = float(levels.min()), float(levels.max())
    if not np.isfinite(high - low):
        raise ValueError("levels that are not finite")
    full = 65535.0 if np.issubdtype(levels.dtype, np.integer) else 1.0
    if low >= 0 and high <= full:
        low, high = 0.0, full
    scale = 255 / (high - low) if high > low else 0.0
    scaled: npt.NDArray[np.float32] = np.rint((levels.astype(np.float32) - low) * scale)
    return scaled.astype(np.uint8)


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    shaped = array.ndim == 2 or array.shape[2:] == (3,)
    if array.dtype != np.uint8 or not shaped or not array.size:
        raise ImageError(
            "decode", f"array {array.dtype} {list(array.shape)}, not uint8 [H,W] or [H,W,3]"
        )
    _require_usual(array.shape[1], array.shape[0])
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _ends_early(data: bytes) -> bool:
    """Whether a file that failed lacks its end mark, or bytes that its header promises.

    Pillow says "truncated" only where its decoder ran dry.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"\xff\xd8"):  # JPEG
        return b"\xff\xd9" not in data
    if data.startswith(b"GIF8"):
        return not data.rstrip(b"\0").endswith(b";")
    number = data[4:8]
    if data.startswith(b"RIFF"):  # WebP: the size of what follows
        return int.from_bytes(number, "little") + 8 > len(data)
    if data.startswith((b"II*\0", b"MM\0*")):  # TIFF: where its directory begins
        return int.from_bytes(number, "little" if data[:1] == b"I" else "big") >= len(data)
    return False


def _reason(error: Exception) -> str:
    # Pillow's sentence for this one holds the address of a buffer, another one in each run.
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that can be read"
    return str(error) or type(error).__name__
