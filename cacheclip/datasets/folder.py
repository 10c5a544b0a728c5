"""`folder/PATH`: the user's own pictures, one folder a class, with or without split folders."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cacheclip.datasets.base import SPLITS, DataSet, Request, Split
from cacheclip.datasets.splits import hash_split, take
from cacheclip.disk import sha256_file
from cacheclip.errors import InputError
from cacheclip.store.key import NAME_RULE, can_be_name

NAMES = ("folder/PATH",)
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
SYNONYMS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}
WANTED = "one folder a class: PATH/CLASS/PICTURE.jpg, or PATH/train/CLASS/PICTURE.jpg"


def load(request: Request) -> DataSet:
    """The folder as a data set named "folder/NAME"; a sample's id is its path in the folder.

    Sub-folders "train", "val" and "test" (and their synonyms) are honoured; a split that is missing
    is cut out of train, a fifth of each class by hash rank; without a train folder everything is
    cut 60/20/20.

    Raises:
        InputError: no such folder, no pictures, fewer than two classes, a class without training
            pictures, or names that cannot be ids.
    """
    root = _root(request.name)
    name = _name(root, request.alias)
    try:
        folders = _split_folders(root)
        depth = 1 if folders else 0  # of the class folders in an id
        places = folders or {"train": ""}
        files = {split: _pictures(root, folder) for split, folder in places.items()}
        classnames = _classnames(root, files, depth=depth)
        splits, cut = _cut(files, classnames, depth=depth)
        splits = {split: _stamped(root, splits[split], request.hash_files) for split in SPLITS}
        notices = [cut, *_notices(root, folders, classnames, files)]
    except OSError as error:
        raise InputError(
            f"a folder cannot be read: {error.strerror}",
            where=str(error.filename),
            fix="check its permissions, then run the same command again",
        ) from error
    return DataSet(
        id=f"folder/{name}",
        classnames=tuple(classnames),
        templates="picture",
        splits=splits,
        read=root.joinpath,
        builtin=False,
        notices=tuple(f"folder/{name}: {notice}" for notice in notices),
        root=root,
    )


def _root(name: str) -> Path:
    """The folder of "folder/PATH"; PATH may itself begin with a folder called "folder"."""
    path = Path(name.removeprefix("folder/")).expanduser()
    if not path.is_dir() and Path(name).is_dir():
        path = Path(name)
    if not path.is_dir():
        raise InputError(
            f"there is no folder {str(path)!r}",
            where=str(path.absolute()),
            fix=f"cacheclip extract --dataset folder/PATH, with {WANTED}",
        )
    # Normalised as text: of a link, the link's own name is the one that the user knows.
    return Path(os.path.abspath(path))  # noqa: PTH100


def _name(root: Path, alias: str | None) -> str:
    name = root.name if alias is None else alias
    if not can_be_name(name):
        raise InputError(
            f"{name!r} cannot be the name of a data set",
            where=str(root) if alias is None else "--name",
            fix=f"{NAME_RULE}: cacheclip extract --dataset {shlex.quote(str(root))} --name NAME",
        )
    return name


def _split_folders(root: Path) -> dict[str, str]:
    """Which folder holds which split; empty where the folders are classes.

    A folder called "train" is a split if it holds folders and no folder beside it looks like a
    class: among "bus", "car" and "train", it is a class.
    """
    folders = _subfolders(root)
    found: dict[str, str] = {}
    for folder in folders:
        split = SYNONYMS.get(folder.lower())
        if split is None or not _subfolders(root / folder):
            continue
        if split in found:
            raise InputError(
                f"two folders for one split: {found[split]!r} and {folder!r} are both {split}",
                where=str(root),
                fix="join them, or move one away",
            )
        found[split] = folder
    others = [folder for folder in folders if folder.lower() not in SYNONYMS]
    if "train" in found and (len(found) > 1 or not others):
        return found
    if found and not others:
        first = shlex.quote(str(root / next(iter(found.values()))))
        raise InputError(
            f"split folders ({', '.join(found.values())}) without a train folder",
            where=str(root),
            fix="add PATH/train/CLASS/PICTURE.jpg, or pass one of them as the data set: "
            f"cacheclip extract --dataset {first}",
        )
    return {}


def _classnames(root: Path, files: Mapping[str, list[str]], *, depth: int) -> list[str]:
    """The names of the class folders that hold pictures, in plain string order."""
    classes = {split: {_class(id_, depth) for id_ in ids} - {""} for split, ids in files.items()}
    names = sorted(set().union(*classes.values()))
    if len(names) < 2:
        loose = sum(not _class(id_, depth) for ids in files.values() for id_ in ids)
        if names:
            what = f"only one class folder with pictures, {names[0]!r}"
        elif loose:
            what = f"{loose:,} pictures lie directly in the folder, so they have no class"
        else:
            what = "no pictures in the folder"
        raise InputError(what, where=f"{root} ({_seen(root)})", fix=f"make {WANTED}")
    lost = sorted(set(names) - classes["train"])
    if lost:
        raise InputError(
            f"{len(lost)} of {len(names)} classes have no training pictures: "
            f"{', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}",
            where=str(root),
            fix="add pictures to their folders under train, or remove them from the other splits",
        )
    return names


def _cut(
    files: Mapping[str, list[str]], classnames: list[str], *, depth: int
) -> tuple[dict[str, Split], str]:
    """The three splits, and a line that says how they came about."""
    number = {name: label for label, name in enumerate(classnames)}
    splits = {}
    for split, found in files.items():
        labelled = sorted((number[_class(id_, depth)], id_) for id_ in found if _class(id_, depth))
        splits[split] = Split(tuple(id_ for _, id_ in labelled), tuple(n for n, _ in labelled))
    absent = [split for split in ("test", "val") if split not in splits]
    whole = splits["train"]
    for split, rows in hash_split(whole.ids, whole.labels, absent).items():
        splits[split] = take(whole.ids, whole.labels, rows)
    if not absent:
        how = "its own train, val and test folders"
    else:
        parts = " and ".join(absent)
        source = "train" if depth else "all pictures"
        how = (
            f"{parts} cut out of {source}, a fifth of each class, lowest SHA-256 of the path first"
        )
    counts = ", ".join(f"{len(splits[split].ids):,} {split}" for split in SPLITS)
    few = [name for name, n in _per_class(whole, classnames).items() if n <= len(absent)]
    if few:
        how += f"; too few pictures for that in {', '.join(few[:5])}{', ...' if few[5:] else ''}"
    return splits, f"{len(classnames)} classes, {counts}: {how}"


def _per_class(split: Split, classnames: list[str]) -> dict[str, int]:
    counts = Counter(split.labels)
    return {name: counts[label] for label, name in enumerate(classnames)}


def _stamped(root: Path, split: Split, hash_files: bool) -> Split:
    return Split(
        split.ids, split.labels, tuple(_stamp(root / id_, hash_files) for id_ in split.ids)
    )


def _stamp(path: Path, hash_files: bool) -> str:
    """What changes when the picture does; a link to nothing is a row that will fail."""
    try:
        if hash_files:
            return f"sha256:{sha256_file(path)}"
        info = path.stat()
    except FileNotFoundError:
        return "absent"
    return f"{info.st_size}:{info.st_mtime_ns}"


def _notices(
    root: Path,
    folders: Mapping[str, str],
    classnames: list[str],
    files: Mapping[str, list[str]],
) -> Iterator[str]:
    """What the user may not expect about the folder."""
    depth = 1 if folders else 0
    used = set(folders.values()) if folders else set(classnames)
    ignored = [folder for folder in _subfolders(root) if folder not in used]
    if ignored:
        yield f"ignored, no class folders with pictures: {', '.join(ignored)}"
    loose = sum(not _class(id_, depth) for ids in files.values() for id_ in ids)
    if loose:
        yield f"ignored, not in a class folder: {loose:,} pictures"
    if classnames != sorted(classnames, key=_natural):
        yield (
            f"classes are numbered in plain string order ({', '.join(classnames[:3])}, ...); tools "
            "that sort numbers as numbers give other labels"
        )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", name)]


def _class(id_: str, depth: int) -> str:
    """The class folder in a sample's id, "" where there is none."""
    folders = id_.split("/")[:-1]
    return folders[depth] if len(folders) > depth else ""


def _pictures(root: Path, folder: str) -> list[str]:
    """The ids of all pictures below a folder, sorted."""
    ids = sorted(id_ for id_ in _walk(root / folder, folder) if _suffix(id_) in EXTENSIONS)
    bad = [id_ for id_ in ids if not _can_be_id(id_)]
    if bad:
        raise InputError(
            f"{len(bad)} file names are not UTF-8 text in one line: {bad[0]!a}",
            where=str(root),
            fix="rename them",
        )
    return ids


def _can_be_id(id_: str) -> bool:
    try:
        id_.encode()
    except UnicodeEncodeError:
        return False
    return len(id_.splitlines()) == 1


def _walk(
    folder: Path, relative: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Every file below a folder but the hidden ones; links are followed, but not back upwards."""
    info = folder.stat()
    here = (info.st_dev, info.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        path = f"{relative}/{entry.name}" if relative else entry.name
        if entry.is_dir():
            yield from _walk(folder / entry.name, path, above | {here})
        else:
            yield path


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  (a hundred thousand of them)


def _seen(root: Path) -> str:
    """Counts of the files by extension, most frequent first, for an error message."""
    counts = Counter(_suffix(path) or "no extension" for path in _walk(root, ""))
    return f"files seen: {_listed(counts.most_common(8))}" if counts else "no files at all"


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)
