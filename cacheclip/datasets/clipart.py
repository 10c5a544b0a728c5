"""`clipart`: 977 public-domain drawings in 20 classes, shipped with the package."""

import io
import json
import zipfile
from functools import cache
from importlib import resources

from cacheclip.datasets.base import DataSet, Request
from cacheclip.datasets.splits import take
from cacheclip.store.schema import SPLITS

NAMES = ("clipart",)


def load(request: Request) -> DataSet:
    """The data set, with its fixed split: 20 train, 4 val and the rest test in each class."""
    catalogue = json.loads(_asset("clipart.json"))
    images = catalogue["images"]
    ids = [image["id"] for image in images]
    labels = [image["label"] for image in images]
    return DataSet(
        id="clipart",
        classnames=tuple(catalogue["classes"]),
        templates="picture",
        splits={
            split: take(
                ids, labels, (row for row, image in enumerate(images) if image["split"] == split)
            )
            for split in SPLITS
        },
        read=_read,
    )


def _read(sample: str) -> bytes:
    return _archive().read(sample)


@cache
def _archive() -> zipfile.ZipFile:
    # From memory (4 MB): forked workers would share one file position.
    return zipfile.ZipFile(io.BytesIO(_asset("images.zip")))


def _asset(name: str) -> bytes:
    return (resources.files("cacheclip") / "assets" / "clipart" / name).read_bytes()
