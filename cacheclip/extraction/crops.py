"""Boxes of a picture as pixels: cut out at some scales, or as the share that they cover."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cacheclip.datasets.boxes import Box
from cacheclip.datasets.images import ImageError

if TYPE_CHECKING:
    from PIL import Image

SCALES = (1.0, 1.5)  # of the box's sides about its middle


def crop(picture: "Image.Image", box: Box, scale: float) -> "Image.Image":
    """What lies in a box of a picture, its sides `scale` times as long; at least a pixel.

    Args:
        picture: in RGB.
        box: left, top, width, height in pixels; what lies outside the picture is cut off.
        scale: of its sides about its middle.

    Raises:
        ImageError: none of the box lies within the picture.
    """
    edges = []
    for first, side, length in zip(box[:2], box[2:], picture.size, strict=True):
        middle, half = first + side / 2, side * scale / 2
        if first >= length or first + side <= 0:
            raise ImageError("other", f"the box lies outside the {picture.size} pixels")
        begin = min(max(0, round(middle - half)), length - 1)
        edges.append((begin, min(length, max(begin + 1, round(middle + half)))))
    (left, right), (top, bottom) = edges
    return picture.crop((left, top, right, bottom))


def stretched(picture: "Image.Image", size: tuple[int, int]) -> "Image.Image":
    """The picture at this width and height, whatever its shape: none of it may be lost."""
    from PIL import Image

    return picture.resize(size, Image.Resampling.BICUBIC)


def coverage(whole: tuple[int, int], box: Box, size: tuple[int, int]) -> NDArray[np.float32]:
    """The share [H, W] that a box covers of each pixel of the picture at another size.

    Args:
        whole: the picture's width and height.
        box: left, top, width, height in its pixels.
        size: the other width and height, W and H.

    Raises:
        ImageError: none of the box lies within the picture.
    """
    shares = []
    for first, side, length, pixels in zip(box[:2], box[2:], whole, size, strict=True):
        if first >= length or first + side <= 0:
            raise ImageError("other", f"the box lies outside the {whole} pixels")
        begin, end = first * pixels / length, (first + side) * pixels / length
        left = np.arange(pixels)
        shares.append(np.clip(np.minimum(left + 1, end) - np.maximum(left, begin), 0, 1))
    across, down = shares
    return np.outer(down, across).astype(np.float32)
