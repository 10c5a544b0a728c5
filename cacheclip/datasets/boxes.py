"""A file of boxes and its pictures as a data set whose samples are the boxes.

The file is COCO's: `images`, `categories`, `annotations`; beside them `proposals`, boxes that
something may be in, each of an `image_id`, with a `bbox` and a `score`. A category that is marked
`novel` is one of which nothing may be learned.
"""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.datasets.base import DataSet, Split
from cacheclip.datasets.copies import file_info
from cacheclip.datasets.folder import dataset_name
from cacheclip.datasets.layout import require_pictures
from cacheclip.errors import InputError
from cacheclip.files import regular
from cacheclip.files.disk import sha256_file
from cacheclip.store.labels import UNLABELLED
from cacheclip.store.regions import Annotations, Proposals
from cacheclip.store.schema import REGIONS, REGIONS_SPLIT

Box = tuple[float, float, float, float]  # left, top, width, height in pixels
Size = tuple[float, float]  # width and height in pixels, infinite where nobody told

DECIMALS = 2  # of a pixel: what is finer moves no feature
WANTED = (
    "COCO's form: images {id, file_name, width, height}, categories {id, name}, annotations "
    "{image_id, category_id, bbox} and proposals {image_id, bbox, score}"
)


@dataclass(frozen=True)
class BoxSet:
    """A data set of boxes, and what they are boxes of.

    Attributes:
        dataset: its samples are the proposals, picture by picture, and then the annotations.
        proposals: the first of them.
        annotations: the rest.
        sizes: width and height of each picture, by its name, as far as the file tells them.
    """

    dataset: DataSet
    proposals: Proposals
    annotations: Annotations
    sizes: Mapping[str, Size]


def box_set(folder: Path, file: Path, *, alias: str | None, hash_files: bool) -> BoxSet:
    """The boxes of a file, whose pictures lie below a folder, as a data set "regions/NAME".

    A sample's id is its picture's name and its box, so that a store's key tells both.

    Args:
        folder: where the names of pictures begin.
        file: the boxes.
        alias: the NAME; by default the file's folder and stem, `scenes-train`.
        hash_files: know pictures by their content instead of by size and time.

    Raises:
        InputError: the file or the folder is missing, or the file is not of this form.
    """
    folder, file = (regular.expanded(path).absolute() for path in (folder, file))
    if not folder.is_dir():
        raise InputError(
            f"there is no folder of pictures {str(folder)!r}",
            where="--dataset",
            fix=f"cacheclip extract --dataset FOLDER --regions {shlex.quote(str(file))}",
        )
    name = dataset_name(file, f"{file.parent.name}-{file.stem}", alias)
    content = _File(file)
    proposals, annotations = content.proposals(), content.annotations()
    require_pictures(
        folder, proposals.images, fix="put them there, or name their folder: --dataset"
    )
    of = np.repeat(np.arange(len(proposals.images)), np.diff(proposals.offsets))
    image = np.concatenate([of, annotations.image])
    boxes = np.concatenate([proposals.boxes, annotations.boxes])
    stamps = [_stamp(folder / one, hash_files) for one in proposals.images]
    split = Split(
        ids=tuple(
            region_id(proposals.images[k], box)
            for k, box in zip(image.tolist(), boxes.tolist(), strict=True)
        ),
        labels=(*[UNLABELLED] * len(proposals.boxes), *annotations.labels.tolist()),
        stamps=tuple(stamps[k] for k in image.tolist()),
    )
    novel = int(proposals.novel.sum())
    told = (
        f"{len(proposals.images):,} pictures, {len(proposals.boxes):,} proposals, "
        f"{len(annotations.boxes):,} annotated boxes of {len(content.classnames)} classes"
        + (f", {novel} of them novel" if novel else "")
    )
    dataset = DataSet(
        id=f"{REGIONS}/{name}",
        classnames=content.classnames,
        templates="picture",
        splits={REGIONS_SPLIT: split},
        read=lambda sample: folder / file_of(sample),
        builtin=False,
        notices=(f"{REGIONS}/{name}: {told}",),
        root=folder,
    )
    return BoxSet(dataset, proposals, annotations, content.sizes())


def region_id(file: str, box: Sequence[float]) -> str:
    """The id of a box of a picture: `street/7.jpg#12.5,3,40,20`."""
    return f"{file}#{','.join(f'{round(side, DECIMALS):.10g}' for side in box)}"


def file_of(region: str) -> str:
    """The picture's name in the id of one of its boxes."""
    return region.rpartition("#")[0]


def box_of(region: str) -> Box:
    """The box in its id."""
    left, top, width, height = map(float, region.rpartition("#")[2].split(","))
    return left, top, width, height


def _stamp(picture: Path, hash_files: bool) -> str:
    """What changes when the picture does."""
    if hash_files:
        return f"sha256:{sha256_file(picture)}"
    info = file_info(str(picture))
    return "absent" if info is None else f"{info.size}:{info.mtime_ns}"


class _File:
    """A file of boxes, checked as it is read.

    Attributes:
        classnames: [C] in the order of the file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._content = _json(file)
        self._images = self._list("images", required=True)
        self._categories = self._list("categories", required=True)
        self._image = self._numbers(self._images, "images")
        self._label = self._numbers(self._categories, "categories")
        self.classnames = tuple(str(one.get("name", "")).strip() for one in self._categories)
        twice = [name for name, n in Counter(self.classnames).items() if n > 1 or not name]
        if twice:
            raise self._faulty(f"two categories are named {twice[0]!r}, or one has no name")

    def proposals(self) -> Proposals:
        """Pictures, classes and proposals; of a picture these stay in their order."""
        entries = self._list("proposals")
        if not entries and not self._list("annotations"):
            raise self._faulty("there are neither proposals nor annotations")
        image, boxes = self._boxes(entries, "proposals")
        scores = np.array([one.get("score", 1.0) for one in entries], np.float32)
        if not np.isfinite(scores).all():
            raise self._faulty("the score of a proposal is not finite")
        order = np.argsort(image, kind="stable")
        counts = np.bincount(image, minlength=len(self._images))
        return Proposals(
            images=[self._name(one) for one in self._images],
            image_ids=np.array([one["id"] for one in self._images], np.int64),
            category_ids=np.array([one["id"] for one in self._categories], np.int64),
            novel=np.array([one.get("novel") is True for one in self._categories], np.bool_),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=boxes[order],
            scores=scores[order],
        )

    def annotations(self) -> Annotations:
        """What is true, picture by picture."""
        entries = self._list("annotations")
        image, boxes = self._boxes(entries, "annotations")
        unknown = [one for one in entries if one.get("category_id") not in self._label]
        if unknown:
            raise self._faulty(f"no category has the id {unknown[0].get('category_id')!r}")
        order = np.argsort(image, kind="stable")
        labels = np.array([self._label[one["category_id"]] for one in entries], np.int64)
        crowd = np.array([one.get("iscrowd") in (1, True) for one in entries], np.bool_)
        ids = np.array([one.get("id", k + 1) for k, one in enumerate(entries)], np.int64)
        return Annotations(image[order], boxes[order], labels[order], crowd[order], ids[order])

    def sizes(self) -> dict[str, Size]:
        """Width and height of each picture by its name."""
        return {self._name(one): _size(one) for one in self._images}

    def _list(self, name: str, *, required: bool = False) -> list[dict[str, Any]]:
        found = self._content.get(name, [])
        whole = isinstance(found, list) and all(isinstance(one, dict) for one in found)
        if not whole or (required and not found):
            raise self._faulty(f"{name!r} is {'missing or ' if required else ''}no list of records")
        return found  # type: ignore[no-any-return]

    def _numbers(self, entries: Sequence[Mapping[str, Any]], name: str) -> dict[int, int]:
        """Id -> place in the list."""
        ids = [one.get("id") for one in entries]
        if not all(type(own) is int for own in ids) or len(set(ids)) != len(ids):
            raise self._faulty(f"the ids of its {name} are not whole numbers, each once")
        return {own: place for place, own in enumerate(ids) if own is not None}

    def _name(self, image: Mapping[str, Any]) -> str:
        name = image.get("file_name")
        if not isinstance(name, str) or not regular.is_line(name) or not name.strip("./"):
            raise self._faulty(f"image {image['id']} has no file_name")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise self._faulty(f"the file_name {name!r} leads out of the folder of pictures")
        return name

    def _boxes(
        self, entries: Sequence[Mapping[str, Any]], name: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The number of the picture [n] and the box [n, 4] of each entry, all within pictures."""
        image = np.empty(len(entries), np.int64)
        boxes = np.empty((len(entries), 4), np.float64)
        for k, one in enumerate(entries):
            number, box = self._image.get(one.get("image_id", None)), one.get("bbox")
            if number is None:
                raise self._faulty(f"{name}, entry {k}: no image has the id {one.get('image_id')}")
            if not _is_box(box, self._images[number]):
                raise self._faulty(
                    f"{name}, entry {k}: bbox {box!r} is not left, top, width and height of a part "
                    f"of image {one.get('image_id')}"
                )
            image[k], boxes[k] = number, box
        return image, boxes.round(DECIMALS).astype(np.float32)

    def _faulty(self, what: str) -> InputError:
        return InputError(what, where=str(self._file), fix=f"write the boxes in {WANTED}")


def _is_box(box: Any, image: Mapping[str, Any]) -> bool:
    """Whether these are four numbers of which some pixels lie in the picture."""
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(type(side) in (int, float) and math.isfinite(side) for side in box):
        return False
    left, top, width, height = box
    wide, high = _size(image)
    inside = left < wide and top < high and left + width > 0 and top + height > 0
    return bool(inside and round(width, DECIMALS) > 0 and round(height, DECIMALS) > 0)


def _size(image: Mapping[str, Any]) -> Size:
    """Width and height as the file tells them, infinite where it does not."""
    sides: list[Any] = [image.get("width"), image.get("height")]
    wide, high = (side if type(side) in (int, float) else math.inf for side in sides)
    return wide, high


def _json(file: Path) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = regular.parsed(regular.read_text(file))
        why = None if isinstance(content, dict) else "it is no object"
    except OSError as error:
        why = str(error.strerror)
    except ValueError as error:
        why = str(error)
    if why is not None:
        raise InputError(
            f"the boxes cannot be read: {why}",
            where=str(file),
            fix=f"--regions FILE, a file in {WANTED}",
        )
    return content  # type: ignore[no-any-return]
