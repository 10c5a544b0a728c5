"""The contract of a data set, and the look-up of one by name.

The folder is the registry: `digits` is the file `digits.py`, `folder/PATH` the file `folder.py`.
The part in capitals stands for what follows the prefix.
Such a file holds `NAMES`, the names it answers to, and `load(request)`. To add a data set, add a
file; nothing has to be registered.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cacheclip.errors import CacheclipError, InputError, UsageError, instead, near
from cacheclip.files import regular
from cacheclip.registry import Registry

Source: TypeAlias = Path | bytes | npt.NDArray[np.uint8]
"""One picture: a file, an encoded file's bytes, or uint8 [H,W] or [H,W,3]."""

MAX_BYTES = 2**30  # of a picture's file; 134 megapixels of 16-bit colours take 800 MB uncompressed
TABLES = (".csv", ".tsv")  # files whose path alone names a data set
FILES = Registry(
    "cacheclip.datasets",
    "data set",
    besides=frozenset(
        {"base", "boxes", "images", "layout", "levels", "listing", "splits", "suffixes"}
        | {"class_folders", "copies", "labelled", "scenes"}
    ),
)


@dataclass(frozen=True)
class Split:
    """The samples of one split, in the order in which they are stored.

    Attributes:
        ids: [n] names that stay the same when the data move; "/" between folders.
        labels: [n] class numbers, 0 to C-1.
        stamps: [n] what tells that a picture was replaced, "SIZE:MTIME_NS" or "sha256:HEX"; None
            for sets whose pictures never change.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    stamps: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DataSet:
    """A resolved data set; it opens pictures, it does not decode them.

    Attributes:
        id: the resolved name, which enters keys, rows and tables ("coop/food101").
        classnames: [C] as the data spell them; prompts replace "_" by " ".
        templates: name of the prompt family that suits it (`cacheclip.prompts.templates`).
        splits: "train", "val" and "test".
        read: gives the picture of a sample id.
        builtin: True for the sets with a name of their own, False for the user's own pictures.
        notices: one line each, for the user to see.
        root: the folder of the data, or the file that lists them; None where they ship with a
            package.
    """

    id: str
    classnames: tuple[str, ...]
    templates: str
    splits: Mapping[str, Split]
    read: Callable[[str], Source] = field(compare=False)
    builtin: bool = True
    notices: tuple[str, ...] = ()
    root: Path | None = None

    def open(self, split: str, row: int) -> Source:
        """The picture of one row, for `images.read_rgb`; the file may be missing or broken."""
        return self.read(self.splits[split].ids[row])


@dataclass(frozen=True)
class Request:
    """What was asked for, as a data set's `load` receives it.

    Attributes:
        name: the name with its prefix in lower case.
        data_root: the folder that holds the data sets.
        download: whether missing data may be fetched.
        alias: the name that a set of the user's own shall have instead of the folder's or file's.
        hash_files: whether stamps are contents (SHA-256) instead of size and time.
        classes_from: "top" or "leaf": which folders are classes where they hold folders alone.
    """

    name: str
    data_root: Path
    download: bool = False
    alias: str | None = None
    hash_files: bool = False
    classes_from: str | None = None


def resolve(
    name: str,
    *,
    data_root: Path,
    download: bool = False,
    alias: str | None = None,
    hash_files: bool = False,
    classes_from: str | None = None,
) -> DataSet:
    """Find a data set by name, or by the path of an existing folder, .csv or .tsv file.

    Names are exact, prefixes ("coop/", "torch/", "folder/", "csv/") may have any case. A data set's
    name goes before a folder of that name: `./digits` is the folder.

    Args:
        name: "clipart", "torch/food101", "folder/PATH", "csv/FILE", or the path of a folder of
            class folders or of a table.
        data_root: the folder that holds the data sets which do not ship with the package.
        download: fetch the data if they are missing and can be fetched.
        alias: for pictures of one's own, the NAME in the id "folder/NAME"; by default the folder's.
        hash_files: for pictures of one's own, stamp by content instead of by size and time.
        classes_from: for a folder, "top" or "leaf": which folders are classes.

    Raises:
        UsageError: there is no data set of that name, or an option that is not for this one.
        InputError: its data are missing or faulty.
    """
    known, module = _find(name)
    is_folder = name != "" and os.path.isdir(regular.expanded(name))  # noqa: PTH112  (Path's raises)
    if module is None and is_folder:
        known, module = _find(f"folder/{name}")
    is_table = name.lower().endswith(TABLES)
    if module is None and is_table and os.path.isfile(regular.expanded(name)):  # noqa: PTH113
        known, module = _find(f"csv/{name}")
    if module is None:
        raise _unknown(name)
    root = regular.expanded(data_root).absolute()
    request = Request(known, root, download, alias, hash_files, classes_from)
    dataset: DataSet = module.load(request)
    if alias is not None and dataset.builtin:
        raise UsageError(
            f"{dataset.id} cannot be renamed to {alias!r}",
            where="--name",
            fix="leave --name out; it is for pictures of your own: "
            "cacheclip extract --dataset folder/PATH --name NAME",
        )
    if classes_from is not None and not dataset.id.startswith("folder/"):
        raise UsageError(
            f"{dataset.id} has no folders that could be classes",
            where=f"--classes-from {classes_from}",
            fix="leave --classes-from out; it is for folders: "
            "cacheclip extract --dataset folder/PATH --classes-from leaf",
        )
    if dataset.builtin and is_folder:
        notice = f"{name} is the data set of that name; the folder here is ./{name}"
        dataset = replace(dataset, notices=(*dataset.notices, notice))
    return dataset


def available() -> list[str]:
    """The names that `resolve` knows, "folder/PATH" and "csv/FILE" too; imports each file."""
    return sorted(name for stem in FILES.names() for name in _file(stem).NAMES)


def _find(name: str) -> tuple[str, ModuleType | None]:
    """The name with its prefix in lower case, and the file that answers to it, if one does.

    That is the file called like the prefix ("folder/PATH"), or the one called like the last part
    ("coop/food101", "food101").
    """
    head, slash, rest = name.partition("/")
    prefix = head.lower()
    known = f"{prefix}/{rest}" if slash else name
    files = FILES.names()
    paths = {f"{prefix}/PATH", f"{prefix}/FILE"}
    if rest and prefix in files and paths.intersection(_file(prefix).NAMES):
        return known, _file(prefix)
    last = rest if slash else name
    if last in files and known in _file(last).NAMES:
        return known, _file(last)
    return name, None


def _file(name: str) -> ModuleType:
    return FILES.file(name, where="--dataset")


def _unknown(name: str) -> CacheclipError:
    names = available()
    exists = (
        f"cacheclip extract --dataset with one of {', '.join(names)}, or with the path of a folder "
        "or a .csv file"
    )
    path = regular.expanded(name)
    if os.path.isfile(path):  # noqa: PTH113
        what = f"{name!r} is a file, not a data set"
        return InputError(what, where=str(path.absolute()), fix=exists)
    beside = _near_folders(path)
    hint = f"did you mean {' or '.join(map(shlex.quote, beside))}? " if beside else ""
    if name.startswith((".", "/", "~")):
        what = f"there is no folder {name!r}"
        return InputError(
            what, where=str(path.absolute()), fix=f"{hint or 'check the path; '}{exists}"
        )
    return UsageError(
        f"there is no data set {name!r}",
        where=f"--dataset; no folder {path.absolute()} either",
        fix=f"{instead(name, names)}, or a folder's path",
    )


def _near_folders(path: Path) -> list[str]:
    """Folders whose names are near that of a path that is none."""
    try:
        beside = [folder.name for folder in path.absolute().parent.iterdir() if folder.is_dir()]
    except OSError:
        return []
    return [str(path.with_name(name)) for name in near(path.name, beside)[:3]]
