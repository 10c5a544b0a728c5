"""Levels of more than 8 bits a channel, and how they become 8 bits."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIXTEEN_BITS = 65535
ROWS = 256  # of a picture, scaled at once
# Pillow decodes 16-bit colours to their high bytes alone; told of the other byte order, it takes
# the low bytes for them. After libtiff the order is the machine's ("N").
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16")


def wide(image: Image.Image, again: Callable[[], Image.Image]) -> npt.NDArray[Any] | None:
    """The whole numbers that a picture of more than 8 bits holds.

    Args:
        image: opened, and not loaded yet.
        again: opens the same picture once more.

    Returns:
        Levels [H,W] or [H,W,3 or 4]; None of a picture of 8 bits, or of fractions.
    """
    if image.mode.startswith("I"):
        image.load()
        return np.asarray(image)
    raw = [_raw_mode(tile) for tile in getattr(image, "tile", ())]
    if not raw or not all(mode[:-1] in _COLOURS for mode in raw):
        return None
    image.load()
    other: Any = again()
    other.tile = [
        tile._replace(args=_with_raw_mode(tile.args, mode[:-1] + _OTHER_BYTE[mode[-1]]))
        for tile, mode in zip(other.tile, raw, strict=True)
    ]
    both: npt.NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
    both <<= 8
    both |= np.asarray(other)
    return both


def _raw_mode(tile: Any) -> str:
    """How the decoder's bytes are ordered, "RGB;16B"; "" where it does not say."""
    mode = tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args
    return mode if isinstance(mode, str) else ""


def _with_raw_mode(args: Any, mode: str) -> Any:
    return (mode, *args[1:]) if isinstance(args, tuple) else mode


def eight_bits(levels: npt.NDArray[Any], white: int | None = None) -> npt.NDArray[np.uint8]:
    """Scale levels of any shape to 0..255.

    Whole numbers that fit 16 bits count from 0 to `white`, and what is above it is white; fractions
    count from 0 to 1. Where the levels leave the range of their kind, the least becomes 0 and the
    greatest 255.

    Args:
        levels: whole numbers or fractions.
        white: the level that is white; None stands for 65,535.

    Raises:
        ValueError: some are not finite.
    """
    low, high = float(levels.min()), float(levels.max())
    if not np.isfinite(high - low):
        raise ValueError("levels that are not finite")
    whole = np.issubdtype(levels.dtype, np.integer)
    most = white if whole else None
    if most is not None:
        low, high = 0.0, float(most)
    elif low >= 0 and high <= (SIXTEEN_BITS if whole else 1):
        low, high = 0.0, float(SIXTEEN_BITS if whole else 1)
    scale = 255 / (high - low) if high > low else 0.0
    eight = np.empty(levels.shape, np.uint8)
    for first in range(0, len(levels), ROWS):  # fractions of a whole large picture take gigabytes
        part = levels[first : first + ROWS]
        part = part if most is None else part.clip(0, most)
        eight[first : first + ROWS] = np.rint((part.astype(np.float32) - low) * scale)
    return eight


def white_level(greatest: int) -> int | None:
    """The white level of the fewest bits that holds the greatest level of 16-bit pictures.

    None where they use a good part of their range: more than 14 of the 16 bits.
    """
    bits = max(8, greatest.bit_length())
    return 2**bits - 1 if bits <= 14 else None
