"""Region sets: boxes of pictures as the samples of a data set, with a feature of each.

A region set is a data set named "regions/NAME" of one split. Its rows are the proposals, picture
by picture, and after them the annotated boxes. `regions.h5` beside its labels holds what the rows
are boxes of; what is true of the pictures lies there too, and is read on demand alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import UPGRADE, StoreError
from cacheclip.files.disk import publish_bytes
from cacheclip.store import hdf5
from cacheclip.store.features import FeatureSet
from cacheclip.store.home import Home
from cacheclip.store.reader import Features, Store
from cacheclip.store.schema import FORMAT, REGIONS_SPLIT

REGIONS_FILE = "regions.h5"


@dataclass(frozen=True, eq=False)
class Proposals:
    """The boxes of n pictures that something may be in.

    Attributes:
        images: [n] names of the pictures' files.
        image_ids: [n] int64, their ids in the file of boxes.
        category_ids: [C] int64, the ids of the classes there.
        novel: [C] bool, classes of which nothing may be learned.
        offsets: [n + 1] int64: those of picture i are `offsets[i]` to `offsets[i + 1]`.
        boxes: [R, 4] float32: left, top, width, height in pixels.
        scores: [R] float32: how likely there is something; 1 where nobody said.
    """

    images: Sequence[str]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    novel: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is true of the pictures, in their order.

    Attributes:
        image: [A] int64, number of the picture.
        boxes: [A, 4] float32: left, top, width, height in pixels.
        labels: [A] int64, 0 to C-1.
        crowd: [A] bool, a box around many of a kind.
        ids: [A] int64, ids in the file of boxes.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Truth(Annotations):
    """Annotations whose boxes have features.

    Attributes:
        store: all rows of the set.
        first: the row of the first annotation.
    """

    store: Store
    first: int

    def features(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> Features:
        """Raw features of some annotated boxes, [r, D] float32; of all where None.

        Raises:
            StoreError: one of their shards is missing or damaged.
        """
        wanted = np.arange(len(self.labels)) if rows is None else np.asarray(rows, np.int64)
        return self.store.read_rows(wanted + self.first)


@dataclass(frozen=True, eq=False)
class Regions(Proposals):
    """A region set as one encoder sees it. `Regions.find` gives one.

    Attributes:
        set: the features, text and parts of the encoder, as of any data set.
        file: where the boxes lie.
    """

    set: FeatureSet
    file: Path

    @classmethod
    def find(
        cls, home: Home, dataset: str, model: str | None = None, pretrained: str | None = None
    ) -> "Regions":
        """The region set of that name; its truth is not read.

        Args:
            home: where it lies.
            dataset: its id, or the last part of it.
            model: name of the encoder, or NAME@WEIGHTS; by default the one extracted last.
            pretrained: its weights.

        Raises:
            StoreError: there is none, or it is incomplete, damaged or of whole pictures; the fix
                is the command that makes it.
        """
        found = home.find(dataset, model, pretrained)
        if not found.of_boxes:
            raise StoreError(
                f"{found.dataset} is a data set of whole pictures, not of boxes",
                where=str(home.dataset_folder(found.dataset)),
                fix=f"cacheclip extract --dataset FOLDER --regions FILE.json{home.option}",
            )
        file = home.dataset_folder(found.dataset) / REGIONS_FILE
        with _opened(file, found) as opened:
            arrays = _part(opened, "proposals", Proposals)
        regions = cls(**arrays, set=found, file=file)
        shapes = (len(regions.offsets), len(regions.category_ids), len(regions.novel))
        classes = len(found.labels.classnames)
        if shapes != (len(regions.images) + 1, classes, classes):
            raise hdf5.damaged(file, "not the boxes of this set", found.extract_command)
        return regions

    @property
    def classnames(self) -> Sequence[str]:
        """[C] names of the classes."""
        return self.set.labels.classnames

    @property
    def store(self) -> Store:
        """The features: a row a proposal, then a row an annotation."""
        return self.set.store(REGIONS_SPLIT)

    def features(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> Features:
        """Raw features of some proposals in the order given, [r, D] float32; of all where None.

        Raises:
            StoreError: one of their shards is missing or damaged.
        """
        wanted = np.arange(len(self.boxes)) if rows is None else np.asarray(rows, np.int64)
        if len(wanted) and wanted.max() >= len(self.boxes):
            raise IndexError(f"proposal {wanted.max()} of {len(self.boxes)}")
        return self.store.read_rows(wanted)

    def truth(self) -> Truth:
        """What is true of the pictures: read now, and by no one else.

        Raises:
            StoreError: the file is damaged.
        """
        with _opened(self.file, self.set) as opened:
            arrays = _part(opened, "truth", Annotations)
        return Truth(**arrays, store=self.store, first=len(self.boxes))


def write_regions(
    folder: Path, proposals: Proposals, annotations: Annotations, ids_sha256: str
) -> None:
    """Publish the boxes of a region set in the data set's folder, unless they are there.

    Args:
        folder: the data set's.
        proposals: the first rows.
        annotations: the rows after them.
        ids_sha256: `samples_sha256` of the ids of all these rows.

    Raises:
        StoreError: the disk refuses the file.
    """
    arrays: dict[str, NDArray[Any]] = {}
    attributes: dict[str, int | str] = {"format": FORMAT, "ids_sha256": ids_sha256}
    for part, record in (("proposals", proposals), ("truth", annotations)):
        own = _arrays(record)
        arrays |= {f"{part}_{name}": array for name, array in own.items() if array.size}
        attributes[f"{part}_sha256"] = hdf5.content_sha256(own)
    image = hdf5.file_image(arrays, attributes)
    file = folder / REGIONS_FILE
    if not file.is_file() or file.read_bytes() != image:
        publish_bytes(file, image)


_SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "images_blob": ("uint8", (-1,)),
    "images_off": ("int64", (-1,)),
    "image_ids": ("int64", (-1,)),
    "category_ids": ("int64", (-1,)),
    "novel": ("uint8", (-1,)),
    "offsets": ("int64", (-1,)),
    "boxes": ("float32", (-1, 4)),
    "scores": ("float32", (-1,)),
    "image": ("int64", (-1,)),
    "labels": ("int64", (-1,)),
    "crowd": ("uint8", (-1,)),
    "ids": ("int64", (-1,)),
}


def _arrays(record: Proposals | Annotations) -> dict[str, NDArray[Any]]:
    """The fields of a record as they are stored, each by its name."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in (field.name for field in fields(record)):
        value = getattr(record, name)
        if name == "images":
            arrays |= hdf5.packed(name, value)
        else:
            arrays[name] = value.astype(_SHAPES[name][0])
    return arrays


def _part(file: h5py.File, part: str, record: type[Proposals | Annotations]) -> dict[str, Any]:
    """The fields of one of the two records in a file, every byte checked.

    Raises:
        ContentError: the file holds something else.
    """
    arrays: dict[str, Any] = {}
    for name in (field.name for field in fields(record)):
        for own in ("images_blob", "images_off") if name == "images" else (name,):
            dtype, shape = _SHAPES[own]
            there = hdf5.has(file, f"{part}_{own}")  # HDF5 keeps no arrays of nothing
            empty = np.zeros(tuple(max(0, size) for size in shape), dtype)
            arrays[own] = hdf5.read(file, f"{part}_{own}", dtype, shape) if there else empty
    if hdf5.content_sha256(arrays) != hdf5.attribute(file, f"{part}_sha256"):
        raise hdf5.ContentError(f"its {part} are not those that were written")
    if "images_blob" in arrays:
        arrays["images"] = hdf5.unpacked(arrays.pop("images_blob"), arrays.pop("images_off"))
    booleans = {name: arrays[name] != 0 for name in ("novel", "crowd") if name in arrays}
    return arrays | booleans


@contextmanager
def _opened(path: Path, found: FeatureSet) -> Iterator[h5py.File]:
    """The file of boxes of a set, which must be of the same boxes as its features.

    Raises:
        StoreError: it is missing, damaged, or of other boxes.
    """
    with hdf5.checked(path, found.extract_command) as file:
        version = hdf5.attribute(file, "format")
        if isinstance(version, int) and version > FORMAT:
            what = "these boxes were written by a newer cacheclip"
            raise StoreError(what, where=str(path), fix=UPGRADE)
        if hdf5.attribute(file, "ids_sha256") != found.labels.splits[REGIONS_SPLIT].ids_sha256:
            raise hdf5.ContentError("it is of other boxes than the features")
        yield file
