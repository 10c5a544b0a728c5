"""Labels and class names: a small record of their own, corrected without encoding anything."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cacheclip.errors import UPGRADE, StoreError
from cacheclip.files.disk import DamagedError, digest, publish_text, read_json, seal_agrees, sealed
from cacheclip.store.folders import there
from cacheclip.store.schema import FORMAT

LABELS_FILE = "labels.json"
BEFORE_FILE = "labels.json.before"  # corrections by hand, of other pictures
BROKEN_FILE = "labels.json.broken"
UNLABELLED = -1


@dataclass(frozen=True)
class SplitLabels:
    """The labels of one split.

    Attributes:
        ids_sha256: `samples_sha256` of the sample ids they belong to, in order.
        files_sha256: `files_sha256` of the pictures, None where ids alone name them.
        labels: one a sample, an index into the class names, or `UNLABELLED`.
    """

    ids_sha256: str
    files_sha256: str | None
    labels: Sequence[int]

    @cached_property
    def unlabelled(self) -> frozenset[int]:
        """The rows that have no label; of the others it says nothing."""
        return frozenset(row for row, label in enumerate(self.labels) if label == UNLABELLED)


@dataclass(frozen=True)
class Labels:
    """The labels of a data set.

    Attributes:
        dataset: the data set's id.
        classnames: one a class, in label order.
        splits: split -> its labels.
        own_sha256: the `digest` that the data's own labels had when this was written, by which
            corrections are known; None where nobody said.
        corrected: whether somebody changed the file by hand since the data's own were written.
        proved: whether the file says itself that nobody did.
    """

    dataset: str
    classnames: Sequence[str]
    splits: Mapping[str, SplitLabels]
    own_sha256: str | None = None
    corrected: bool = False
    proved: bool = field(default=False, compare=False)

    def smallest_class(self, split: str) -> int:
        """How many samples of a split the class with the fewest has."""
        labels = self.splits[split].labels if split in self.splits else ()
        counts = Counter(labels)
        return min(counts[label] for label in range(len(self.classnames)))

    @cached_property
    def classnames_sha256(self) -> str:
        """What text stores name: a hash of the class names."""
        return digest(list(self.classnames))

    @cached_property
    def digest(self) -> str:
        """What result rows name: a hash of class names, samples and their labels."""
        return digest(
            {
                "classnames": list(self.classnames),
                "splits": {
                    name: [split.ids_sha256, list(split.labels)]
                    for name, split in self.splits.items()
                },
            }
        )


def write_labels(folder: Path, labels: Labels) -> None:
    """Publish the record in the data set's folder, unless it is there.

    A file that is no such record may hold corrections by hand, so it is put aside, as is one that
    does and is given up.

    Raises:
        StoreError: the file that is there may not be read, or the disk refuses the new one.
    """
    file = folder / LABELS_FILE
    if there(file):
        try:
            kept = read_labels(folder, labels.dataset)
            if kept == labels:
                return
            if kept.corrected and not labels.corrected:
                file.replace(folder / BEFORE_FILE)
        except DamagedError:
            file.replace(folder / BROKEN_FILE)
    content: dict[str, Any] = {
        "format": FORMAT,
        "dataset": labels.dataset,
        "classnames": list(labels.classnames),
        "splits": {
            name: {
                "ids_sha256": split.ids_sha256,
                "files_sha256": split.files_sha256,
                "labels": list(split.labels),
            }
            for name, split in labels.splits.items()
        },
    }
    if labels.own_sha256 is not None:
        content["own_sha256"] = labels.own_sha256
    if labels.corrected:
        content["corrected"] = True
    publish_text(file, json.dumps(sealed(content), ensure_ascii=False) + "\n")


def read_labels(folder: Path, dataset: str) -> Labels:
    """The record in a data set's folder.

    One that is not as it was written, and yet is such a record, was corrected by hand.

    Args:
        folder: the data set's.
        dataset: its id.

    Raises:
        DamagedError: it is not such a record.
        StoreError: there is none, it may not be read, or a newer cacheclip wrote it.
    """
    file = folder / LABELS_FILE
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise StoreError("there are no labels", where=str(file), fix="cacheclip extract") from None
    if _is_newer(content):
        raise StoreError(
            "these labels were written by a newer cacheclip", where=str(file), fix=UPGRADE
        )
    try:
        labels = _labels(content)
        _check(labels, dataset)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(
            f"these are not labels: {error}",
            where=str(file),
            fix="correct the file, or remove it and run `cacheclip extract` again",
        ) from None
    return labels


def labels_there(folder: Path, dataset: str) -> tuple[Labels | None, tuple[str, ...]]:
    """The record in a data set's folder; None where it is to be written anew, and what to tell.

    Raises:
        StoreError: there is one that may be well.
    """
    file = folder / LABELS_FILE
    try:
        return read_labels(folder, dataset), ()
    except DamagedError as error:
        return None, (f"{file}: {error.what}; put aside as {BROKEN_FILE} and made anew",)
    except StoreError:
        if there(file):
            raise
        return None, ()


def _is_newer(content: Any) -> bool:
    """Whether a record is whole, and of a format beyond ours; a damaged one is of none."""
    version = content.get("format") if isinstance(content, dict) else None
    return type(version) is int and version > FORMAT and seal_agrees(content) is True


def _labels(content: Any) -> Labels:
    """The record as it stands there, not checked for what it says.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, and this cacheclip reads {FORMAT}")
    splits = {name: SplitLabels(**split) for name, split in content["splits"].items()}
    agrees = seal_agrees(content)
    by_hand = content.get("corrected", False) is not False or agrees is False
    return Labels(
        content["dataset"],
        content["classnames"],
        splits,
        content.get("own_sha256"),
        corrected=by_hand,
        proved=agrees is True and not by_hand,
    )


def _check(labels: Labels, dataset: str) -> None:
    """See that a record says what labels of this data set can say.

    Raises:
        TypeError, ValueError: it does not.
    """
    if labels.dataset != dataset:
        raise ValueError(f"those of {labels.dataset!r}")
    names = labels.classnames
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError("a class name that is no text")
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"two classes by the name {twice[0]!r}")
    if not isinstance(labels.own_sha256, str | None):
        raise ValueError("own_sha256 is no text")
    for name, split in labels.splits.items():
        if not isinstance(split.ids_sha256, str) or not isinstance(split.files_sha256, str | None):
            raise ValueError(f"split {name} does not say of which samples")
        if not isinstance(split.labels, list):
            raise ValueError(f"those of split {name} are no list")
        for row, label in enumerate(split.labels):
            if type(label) is not int or not UNLABELLED <= label < len(names):
                raise ValueError(
                    f"label {label!r} of row {row} in split {name}, and {len(names)} classes"
                )
