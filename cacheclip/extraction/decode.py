"""One picture to pixels, or to a named failure."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cacheclip.datasets.base import DataSet
from cacheclip.datasets.images import AS_STORED, ImageError, Reading, read_rgb, using_rgb
from cacheclip.store.schema import Failure

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

PICTURES = 4  # decoded ones that are kept while neighbouring rows are of them


def picture_reader(
    dataset: DataSet,
    split: str,
    transform: Callable[["Image.Image", str], "Tensor"],
    reading: Reading = AS_STORED,
) -> Callable[[int], "Tensor | Failure"]:
    """Give what turns a row of a split into pixels, or into a named failure.

    Args:
        dataset: where the pictures come from.
        split: which of its splits.
        transform: makes pixels of an RGB picture and its id.
        reading: how pictures are read.
    """
    ids = dataset.splits[split].ids

    def read(row: int) -> "Tensor | Failure":
        try:
            source = dataset.open(split, row)
            return using_rgb(source, lambda picture: transform(picture, ids[row]), reading)
        except ImageError as error:
            return Failure(row, error.code, error.text)

    return read


def regions_reader(
    dataset: DataSet,
    split: str,
    transform: Callable[["Image.Image", str], "Tensor"],
    reading: Reading = AS_STORED,
) -> Callable[[int], "Tensor | Failure"]:
    """As `picture_reader`, where many rows in turn are of one picture: it is decoded once.

    Args:
        dataset: where the pictures come from.
        split: which of its splits.
        transform: makes pixels of an RGB picture and the row's id.
        reading: how pictures are read.
    """
    ids = dataset.splits[split].ids

    @lru_cache(maxsize=PICTURES)
    def decoded(source: Path) -> "Image.Image | ImageError":
        try:
            return read_rgb(source, reading)
        except ImageError as error:
            return error

    def read(row: int) -> "Tensor | Failure":
        source = dataset.open(split, row)
        if not isinstance(source, Path):
            raise TypeError("boxes are of pictures in files")
        try:
            picture = decoded(source)
            if isinstance(picture, ImageError):
                raise picture
            return transform(picture, ids[row])
        except ImageError as error:
            return Failure(row, error.code, error.text)

    return read
