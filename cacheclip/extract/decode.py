"""One picture to pixels, or to a named failure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cacheclip.datasets.base import DataSet
from cacheclip.datasets.images import AS_STORED, ImageError, Reading, using_rgb
from cacheclip.store.schema import Failure

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def picture_reader(
    dataset: DataSet,
    split: str,
    transform: Callable[["Image.Image"], "Tensor"],
    reading: Reading = AS_STORED,
) -> Callable[[int], "Tensor | Failure"]:
    """Give what turns a row of a split into pixels, [3, H, W] float32, or into a named failure."""

    def read(row: int) -> "Tensor | Failure":
        try:
            return using_rgb(dataset.open(split, row), transform, reading)
        except ImageError as error:
            return Failure(row, error.code, error.text)

    return read
