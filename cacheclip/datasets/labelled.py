"""From pictures with class names to a data set: the cut, the stamps, and what is worth telling."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cacheclip.datasets.base import DataSet, Split
from cacheclip.datasets.copies import FileInfo, same_bytes, same_content
from cacheclip.datasets.splits import hash_split
from cacheclip.errors import InputError
from cacheclip.files.disk import sha256_file
from cacheclip.store.schema import SPLITS

NAMED = 8  # classes in the first line
LONGEST = 40  # letters of a name in a line


class Sample(NamedTuple):
    """A picture of the user's.

    Attributes:
        id: its path below the folder.
        classname: what it shows.
        split: where the user put it; None where there are no splits of their own.
    """

    id: str
    classname: str
    split: str | None


def labelled_set(
    samples: Sequence[Sample],
    infos: Mapping[str, FileInfo],
    *,
    id_: str,
    root: Path,
    folder: Path,
    unit: str,
    hash_files: bool,
    notices: Sequence[str],
) -> DataSet:
    """The data set of these pictures; splits that are missing are cut out of train.

    Args:
        samples: at least two classes; a split for each or for none.
        infos: what the file system says of each sample.
        id_: the data set's id.
        root: what the user calls it by: the folder, or the file that lists the pictures.
        folder: where the ids start.
        unit: what splits are made of: "folders", "rows".
        hash_files: stamp by content instead of by size and time.
        notices: what else to tell.

    Raises:
        InputError: a class without training pictures.
    """
    classnames = sorted({sample.classname for sample in samples})
    number = {name: label for label, name in enumerate(classnames)}
    ranked = sorted(samples, key=lambda sample: (number[sample.classname], sample.id))
    ids = [sample.id for sample in ranked]
    labels = [number[sample.classname] for sample in ranked]
    _refuse_untaught(ranked, classnames, root)
    stamps = [_stamp(folder, name, infos[name], hash_files) for name in ids]
    copies = (
        same_content(stamps)
        if hash_files
        else same_bytes([f"{folder}/{name}" for name in ids], [infos[name] for name in ids])
    )
    parts, how = _cut(ranked, labels, copies, unit)
    splits = {
        split: Split(
            tuple(ids[row] for row in parts[split]),
            tuple(labels[row] for row in parts[split]),
            tuple(stamps[row] for row in parts[split]),
        )
        for split in SPLITS
    }
    counts = ", ".join(f"{split} {len(parts[split]):,}" for split in SPLITS)
    told = [
        f"{len(classnames)} classes: {listed(classnames, NAMED)}; {counts}: {how}",
        *_without_pictures(splits, classnames),
        *_copies_told(ranked, parts, copies),
        *_names_told(classnames),
        *notices,
    ]
    return DataSet(
        id=id_,
        classnames=tuple(classnames),
        templates="picture",
        splits=splits,
        read=folder.joinpath,
        builtin=False,
        notices=tuple(f"{id_}: {notice}" for notice in told),
        root=root,
    )


def listed(names: Sequence[str], limit: int) -> str:
    """The first few names, the long ones shortened, and how many more there are."""
    shown = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names[:limit]]
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(shown) + more


def _refuse_untaught(samples: Sequence[Sample], classnames: Sequence[str], root: Path) -> None:
    taught = {sample.classname for sample in samples if sample.split in (None, "train")}
    lost = [name for name in classnames if name not in taught]
    if lost:
        raise InputError(
            f"{len(lost)} of {len(classnames)} classes have no training pictures: "
            f"{listed(lost, 5)}",
            where=str(root),
            fix="add pictures of them to train, or remove them from the other splits",
        )


def _stamp(folder: Path, name: str, info: FileInfo, hash_files: bool) -> str:
    """What changes when the picture does."""
    if not hash_files:
        return f"{info.size}:{info.mtime_ns}"
    try:
        return f"sha256:{sha256_file(folder / name)}"
    except FileNotFoundError:
        return "absent"


def _cut(
    samples: Sequence[Sample], labels: Sequence[int], copies: Sequence[Sequence[int]], unit: str
) -> tuple[dict[str, list[int]], str]:
    """The rows of each split, and how they came about."""
    own: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        own.setdefault(sample.split or "train", []).append(row)
    absent = [split for split in ("test", "val") if split not in own]
    if not absent:
        return own, f"its own train, val and test {unit}"
    whole = own["train"]
    place = {row: k for k, row in enumerate(whole)}
    groups = [[place[row] for row in group if row in place] for group in copies]
    cut = hash_split(
        [samples[row].id for row in whole], [labels[row] for row in whole], absent, groups
    )
    parts = own | {split: [whole[k] for k in rows] for split, rows in cut.items()}
    source = "all pictures" if samples[0].split is None else "train"
    return parts, (
        f"{' and '.join(absent)} cut out of {source}, a fifth of each class, "
        "lowest SHA-256 of the path first"
    )


def _without_pictures(splits: Mapping[str, Split], classnames: Sequence[str]) -> Iterator[str]:
    """Tell which classes no validation, or no test, will speak of."""
    lacking = []
    for split in ("val", "test"):
        there = set(splits[split].labels)
        few = [name for label, name in enumerate(classnames) if label not in there]
        if few:
            lacking.append(f"{split} pictures of {listed(few, 5)}")
    if lacking:
        yield (
            f"no {'; no '.join(lacking)}: nothing is chosen or measured on these there "
            "(a class takes three different pictures to be in train, val and test)"
        )


def _copies_told(
    samples: Sequence[Sample], parts: Mapping[str, list[int]], copies: Sequence[Sequence[int]]
) -> Iterator[str]:
    """Tell of identical files: between classes, between splits, and kept together by the cut."""
    split_of = {row: split for split, rows in parts.items() for row in rows}
    twofold = [group for group in copies if len({samples[row].classname for row in group}) > 1]
    leaking = [group for group in copies if len({split_of[row] for row in group}) > 1]
    if leaking:
        yield (
            f"the same file in more than one split: {_pictures(leaking, samples)}; "
            "what is measured on them is too good, remove them from one"
        )
    if twofold:
        yield f"the same file in more than one class: {_pictures(twofold, samples)}"
    kept = [group for group in copies if group not in leaking and group not in twofold]
    if kept and any(sample.split != split_of[row] for row, sample in enumerate(samples)):
        yield f"the same file under several names: {_pictures(kept, samples)}; kept in one split"


def _pictures(groups: Sequence[Sequence[int]], samples: Sequence[Sample]) -> str:
    files = sum(len(group) for group in groups)
    names = [" = ".join(samples[row].id for row in group[:2]) for group in groups[:3]]
    shown = ", ".join(names) + (
        ", ..." if len(groups) > len(names) or files > 2 * len(names) else ""
    )
    return f"{len(groups):,} picture{'s' if len(groups) > 1 else ''} in {files:,} files ({shown})"


def _names_told(classnames: Sequence[str]) -> Iterator[str]:
    """Tell of names that prompts cannot tell apart, and of numbers in the order of text."""
    spoken: dict[str, list[str]] = {}
    for name in classnames:
        spoken.setdefault(re.sub(r"[\s_-]+", " ", name).strip().casefold(), []).append(name)
    equal = [" = ".join(map(repr, names)) for names in spoken.values() if len(names) > 1]
    if equal:
        yield f"prompts cannot tell these classes apart: {listed(equal, 5)}"
    if list(classnames) != sorted(classnames, key=_natural):
        yield (
            f"classes are numbered in plain string order ({', '.join(classnames[:3])}, ...); tools "
            "that sort numbers as numbers give other labels"
        )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", name)]
