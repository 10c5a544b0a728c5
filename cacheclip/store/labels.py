"""Labels and class names: a small record of their own, corrected without encoding anything."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cacheclip.disk import digest, publish_text, read_json
from cacheclip.errors import StoreError
from cacheclip.store.schema import FORMAT

LABELS_FILE = "labels.json"
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


@dataclass(frozen=True)
class Labels:
    """The labels of a data set.

    Attributes:
        dataset: the data set's id.
        classnames: one a class, in label order.
        splits: split -> its labels.
        own_sha256: the `digest` that the data's own labels had when this was written, by which
            corrections are known; None where nobody said.
    """

    dataset: str
    classnames: Sequence[str]
    splits: Mapping[str, SplitLabels]
    own_sha256: str | None = None

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
    """Publish the record in the data set's folder."""
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
    publish_text(folder / LABELS_FILE, json.dumps(content, ensure_ascii=False) + "\n")


def read_labels(folder: Path) -> Labels:
    """The record in a data set's folder.

    Raises:
        StoreError: there is none, or it is not such a record.
    """
    file = folder / LABELS_FILE
    if not file.exists():
        raise StoreError("there are no labels", where=str(file), fix="cacheclip extract")
    content = read_json(file)
    try:
        splits = {name: SplitLabels(**split) for name, split in content["splits"].items()}
        own = content.get("own_sha256")
        labels = Labels(content["dataset"], content["classnames"], splits, own)
        if not all(isinstance(name, str) for name in labels.classnames):
            raise ValueError("a class name that is no text")
        classes = len(labels.classnames)
        for name, split in splits.items():
            wrong = [label for label in split.labels if not UNLABELLED <= label < classes]
            if wrong:
                raise ValueError(f"label {wrong[0]} in split {name}, and {classes} classes")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"these are not labels: {error}",
            where=str(file),
            fix="correct the file, or remove it and run `cacheclip extract` again",
        ) from None
    return labels
