"""From any picture to 8-bit RGB: the only file that opens images.

Nothing here is repaired or guessed: a picture that is cut off, undecodable or absent raises with a
code, and its row is recorded as failed. A data set of the field is read as CLIP's, CoOp's and
torchvision's loaders read it, which apply no EXIF orientation; other pictures as `Reading` says.
"""

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cacheclip.datasets import levels
from cacheclip.datasets.base import MAX_BYTES as MAX_BYTES
from cacheclip.datasets.base import Source
from cacheclip.datasets.suffixes import INSTALL_HEIF, has_heif
from cacheclip.files import regular
from cacheclip.files.refusals import is_of_the_machine, unreadable

Code: TypeAlias = Literal["missing", "decode", "truncated", "toolarge", "other"]
Used = TypeVar("Used")

MAX_PIXELS = 2**27  # 134 megapixels, in place of Pillow's limit against decompression bombs
LARGE_PIXELS = 24 * 10**6  # a picture of more is decoded while no other such picture is
LARGE_BYTES = 2**26  # and so is a file of more
MAX_ASPECT = 200  # a longer strip, its short side scaled to an encoder's, would take gigabytes
# Decoders by name: a file may be called .jpg and hold PostScript, for which Pillow would start
# another program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
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
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_opening = threading.Lock()
_large = threading.Lock()  # held by the one thread that has a large file in memory
# Pillow warns of broken tags on stderr, in a sentence that names no file. For good, since to
# silence it picture by picture is not safe among threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class ImageError(Exception):
    """A picture that cannot be used; the code is one of `store.schema.FAILURE_CODES`."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(code, text)
        self.code: Code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True)
class Reading:
    """How pictures are read, where there is a choice.

    Attributes:
        upright: turn them as their EXIF orientation says. Pillow itself always turns TIFF files,
            and HEIC has no other way to be read.
        white_level: the level that is white in pictures of more than 8 bits; None stands for the
            greatest that 16 bits can hold.
    """

    upright: bool = False
    white_level: int | None = None

    def preprocess(self) -> dict[str, Any]:
        """What differs from the usual in a store's preprocess block."""
        turned = {"exif": True} if self.upright else {}
        white = {} if self.white_level is None else {"white_level": self.white_level}
        return turned | white


AS_STORED = Reading()


def read_rgb(source: Source, reading: Reading = AS_STORED) -> Image.Image:
    """Decode a picture to mode RGB; see `using_rgb`."""
    return using_rgb(source, lambda picture: picture, reading)


def using_rgb(
    source: Source, use: Callable[[Image.Image], Used], reading: Reading = AS_STORED
) -> Used:
    """Decode a picture to mode RGB and give what `use` makes of it.

    Of pictures over LARGE_PIXELS one is in memory at a time, until `use` is done with it, so that
    threads share the memory of the largest and do not multiply it.

    16-bit and 32-bit levels are scaled to 8 bits, never clipped unless by a white level; palettes,
    alpha and transparent colours go through RGBA onto white; the first frame of an animation
    counts.

    Args:
        source: a file's path, an encoded file's bytes, or an array, uint8 [H,W] or [H,W,3].
        use: makes something smaller of the picture.
        reading: whether it is turned upright, and which level is white.

    Raises:
        ImageError: "missing" (no such file), "truncated" (the file ends early), "decode" (no
            picture that can be read), "toolarge" (over MAX_BYTES or MAX_PIXELS, or a strip over
            MAX_ASPECT) or "other" (no regular file, or reading failed).
        RefusedError: the machine gives no file now, whichever it is.
    """
    if isinstance(source, np.ndarray):
        return use(_from_array(source))
    with _turn(_size(source) > LARGE_BYTES):
        data = _bytes(source)
        try:
            image = _open(data)
            _require_usual(image.width, image.height)
        except DECODER_ERRORS as error:
            raise _failure(data, error) from error
        if image.width * image.height <= LARGE_PIXELS:
            return use(_decoded(image, data, reading))
        return _alone(os.getpid()).submit(lambda: use(_decoded(image, data, reading))).result()


@cache
def _alone(process: int) -> ThreadPoolExecutor:
    """The one thread of this process that decodes large pictures.

    Were it each reader's own thread, the allocator would keep memory of a picture in all of them.
    """
    return ThreadPoolExecutor(1, f"large pictures of {process}")


def _turn(large: bool) -> AbstractContextManager[Any]:
    """Wait for one's turn with what is large; nobody waits with the rest."""
    return _large if large else nullcontext()


def _size(source: Path | bytes) -> int:
    """The bytes of a picture's file; 0 where there is none, which is told when it is opened."""
    try:
        return source.stat().st_size if isinstance(source, Path) else len(source)
    except (OSError, ValueError):
        return 0


def _decoded(image: Image.Image, data: bytes, reading: Reading) -> Image.Image:
    """The pixels of a picture of which the header is read."""
    try:
        if reading.white_level is not None:
            image = _stretched(image, data, reading.white_level)
        image.load()
        picture = _to_rgb(image)
        return _upright(picture, image.info) if reading.upright else picture
    except MemoryError:
        size = f"{image.width} x {image.height} pixels"
        raise ImageError("toolarge", f"{size}, for which there is no memory left") from None
    except DECODER_ERRORS as error:
        raise _failure(data, error) from error


def greatest_level(source: Source) -> int | None:
    """The greatest level of a picture whose channels have 16 bits.

    None of every other picture, and of what cannot be read.
    """
    if isinstance(source, np.ndarray):
        return None
    try:
        data = _bytes(source)
        image = _open(data)
        _require_usual(image.width, image.height)
        wide = levels.wide(image, lambda: _open(data))
    except (ImageError, *DECODER_ERRORS):
        return None
    if wide is None or wide.min() < 0 or wide.max() > levels.SIXTEEN_BITS:
        return None
    return int(wide[..., :3].max() if wide.ndim == 3 else wide.max())


def _bytes(source: Path | bytes) -> bytes:
    data = _read_bytes(source) if isinstance(source, Path) else source
    if not data:
        raise ImageError("truncated", "the file is empty")
    return data


def _read_bytes(path: Path) -> bytes:
    try:
        with regular.opened(path) as file:
            info = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1) if info.st_size <= MAX_BYTES else None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", "no such file") from error
    except regular.IrregularError as error:
        raise ImageError("other", "not a regular file") from error
    except (OSError, ValueError) as error:  # a path that no file can have is a ValueError
        if isinstance(error, OSError) and is_of_the_machine(error):
            raise unreadable(error, path) from error  # no fault of the picture
        raise ImageError("other", getattr(error, "strerror", None) or str(error)) from error
    if data is None or len(data) > MAX_BYTES:
        raise ImageError("toolarge", f"{info.st_size:,} bytes, limit {MAX_BYTES:,}")
    return data


def _open(data: bytes) -> Image.Image:
    """Read the header, with our limit in place of Pillow's, which warns on stderr."""
    heif = data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS
    if heif and not _register_heif() and b"avif" not in data[8:64]:
        raise ImageError("decode", f"HEIC, which needs: {INSTALL_HEIF}")
    with _opening:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            formats = (*FORMATS, "HEIF") if heif and _register_heif() else FORMATS
            return Image.open(io.BytesIO(data), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@cache
def _register_heif() -> bool:
    """Teach Pillow to read HEIC; False where the extra that can is not installed."""
    if not has_heif():
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True


def _failure(data: bytes, error: Exception) -> ImageError:
    early = _ends_early(data)
    text = "the file ends early" if early else _reason(error)
    cut_off = early or "truncated" in text.lower()
    return ImageError("truncated" if cut_off else "decode", text)


def _upright(picture: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """The picture turned as its tag says; without a tag, or with a broken one, as it is."""
    exif = Image.Exif()
    try:
        exif.load(info.get("exif", b""))
        turn = TURNS.get(exif.get(ORIENTATION, 1))
    except DECODER_ERRORS:
        return picture
    return picture if turn is None else picture.transpose(turn)


def _stretched(image: Image.Image, data: bytes, white: int) -> Image.Image:
    """The picture with levels of more than 8 bits scaled so that `white` is white."""
    wide = levels.wide(image, lambda: _open(data))
    if wide is None:
        return image
    eight = levels.eight_bits(wide, white)
    if wide.ndim == 2:
        eight[wide == image.info.get("transparency", -1)] = 255
        stretched = Image.fromarray(eight)
    else:
        if wide.shape[2] == 4:  # alpha is no level of light
            eight[..., 3] = wide[..., 3] >> 8
        stretched = Image.fromarray(eight)
    stretched.info["exif"] = image.info.get("exif", b"")
    return stretched


def _require_usual(width: int, height: int) -> None:
    size = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise ImageError("toolarge", f"{size}, limit {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError("toolarge", f"{size}, a strip longer than {MAX_ASPECT} times its width")


def _to_rgb(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these clips: a 16-bit PNG turns white without a word.
    if image.mode.startswith("I") or image.mode == "F":
        wide = np.asarray(image)
        grey = levels.eight_bits(wide)
        if "transparency" in image.info:  # the level that stands for "nothing here"
            grey[wide == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


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
    return number == b"ftyp" and _end_of_boxes(data) > len(data)


def _end_of_boxes(data: bytes) -> int:
    """Where the boxes of an AVIF or HEIC file end by the sizes that they promise."""
    end = 0
    while end + 8 <= len(data):
        size = int.from_bytes(data[end : end + 4], "big")
        if size == 1:  # the size follows the name, for it needs 64 bits
            size = int.from_bytes(data[end + 8 : end + 16], "big")
        if size < 8:  # 0: to the end of the file
            return len(data)
        end += size
    return max(end, len(data))


def _reason(error: Exception) -> str:
    # Pillow's sentence for this one holds the address of a buffer, another one in each run.
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that can be read"
    return str(error) or type(error).__name__
