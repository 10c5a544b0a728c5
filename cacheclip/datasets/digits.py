"""`digits`: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; no files of ours."""

from functools import cache

import numpy as np
import numpy.typing as npt

from cacheclip.datasets.base import DataSet, Request
from cacheclip.datasets.splits import hash_split, take

NAMES = ("digits",)
CLASSNAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load(request: Request) -> DataSet:
    """The data set, with a fixed split of 60/20/20 by hash rank within the class."""
    labels = _digits()[1]
    ids = [f"{row:04d}" for row in range(len(labels))]
    parts = hash_split(ids, labels)
    return DataSet(
        id="digits",
        classnames=CLASSNAMES,
        templates="digits",
        splits={split: take(ids, labels, rows) for split, rows in parts.items()},
        read=_read,
    )


def _read(sample: str) -> npt.NDArray[np.uint8]:
    return _digits()[0][int(sample)]


@cache
def _digits() -> tuple[list[npt.NDArray[np.uint8]], list[int]]:
    """All pictures, [8,8] white on black, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = (data.images * (255 / 16)).round().astype(np.uint8)  # levels 0..16 -> 0..255, [n,8,8]
    return list(grey), [int(label) for label in data.target]
