"""Which folders are splits, which are classes: read off the names, opening nothing."""

import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cacheclip.datasets.labelled import Sample, listed
from cacheclip.errors import InputError
from cacheclip.store.split_words import split_of

Folders: TypeAlias = tuple[str, ...]
"""The folders above a picture, the outermost first."""

WANTED = "one folder a class: PATH/CLASS/PICTURE.jpg, or PATH/train/CLASS/PICTURE.jpg"
# Words for splits that are names of things too.
NOUNS = frozenset({"train", "valid"})


@dataclass(frozen=True)
class Layout:
    """What the folders say.

    Attributes:
        samples: the pictures that have a class, with a split where there are split folders.
        used: the folders directly in the root that are splits or classes, or are told of.
        notices: what the user may not expect.
    """

    samples: tuple[Sample, ...]
    used: frozenset[str]
    notices: tuple[str, ...]


def read_layout(root: Path, ids: Sequence[str], classes_from: str | None) -> Layout:
    """Read classes and splits off the paths of the pictures.

    Args:
        root: the folder, for messages.
        ids: the paths of the pictures from there.
        classes_from: "top" or "leaf", where class folders hold folders alone; None asks.

    Raises:
        InputError: the folders can be read in two ways, or hold splits without classes.
    """
    folders = [tuple(id_.split("/")[:-1]) for id_ in ids]
    counts = Counter(folders)
    splits = _Splits.of(root, counts)
    places = {folder: place for folder in counts if (place := splits.place(folder))}
    if splits.prefixes == {(): None}:
        places = _splits_within_classes(places) or places
    labelled = {folder: place for folder, place in places.items() if place.below}
    names, notices = _class_names(root, set(labelled.values()), classes_from)
    samples = tuple(
        Sample(id_, names[labelled[folder].classes], labelled[folder].split)
        for id_, folder in zip(ids, folders, strict=True)
        if folder in labelled
    )
    found = [*splits.notices(root, counts), *notices, *_twins(labelled.values())]
    loose = sum(counts[folder] for folder, place in places.items() if not place.below)
    if loose:
        found.append(f"ignored, not in a class folder: {loose:,} pictures")
    used = {folder[0] for folder in labelled} | set(splits.unlabelled)
    return Layout(samples, frozenset(used), tuple(found))


class _Place(NamedTuple):
    """A folder with pictures: its split if there are any, and the folders from the class on."""

    split: str | None
    below: Folders

    @property
    def classes(self) -> Folders:
        """The folders from the class on, their names in one spelling."""
        return tuple(unicodedata.normalize("NFC", name) for name in self.below)


@dataclass(frozen=True)
class _Splits:
    """Where the class folders lie.

    Attributes:
        prefixes: the folders that hold class folders, with their split; the root's is () and has
            none where all pictures are to be cut.
        unlabelled: folders in the root that are splits by name and hold no class folders.
    """

    prefixes: Mapping[Folders, str | None]
    unlabelled: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, folders: Mapping[Folders, int]) -> "_Splits":
        """Tell split folders from classes.

        A folder called like a split is one if it holds class folders, and "train" is a class
        among "bus" and "car".
        """
        tops = sorted({folder[0] for folder in folders if folder})
        words = {top: split for top in tops if (split := split_of(top))}
        others = {top for top in tops if top not in words}
        prefix = {top: _inner(top, folders) for top in words}
        classes = {top: {rest[0] for rest in _below(prefix[top], folders) if rest} for top in words}
        own = {top for top in words if classes[top] and classes[top] <= others}  # others again

        trains = [top for top, split in words.items() if split == "train" and classes[top]]
        if trains and (
            not others
            or len(set(words.values())) > 1
            or any(top in own or top.casefold() not in NOUNS for top in trains)
        ):
            among: set[str] = set()
        elif others:
            among = {top for top in words if top.casefold() in NOUNS and top not in own}
        else:
            among = set()
            if words:
                raise _no_train(root, words, classes)
        prefixes: dict[Folders, str | None] = {}
        labelled = [top for top in words if classes[top] and top not in among]
        if not trains or among:
            prefixes[()] = "train" if labelled else None
        for top in labelled:
            if words[top] in prefixes.values():
                other = next(first for first in labelled if words[first] == words[top])
                raise InputError(
                    f"two folders for one split: {other!r} and {top!r} are both {words[top]}",
                    where=str(root),
                    fix="join them, or move one away",
                )
            prefixes[prefix[top]] = words[top]
        unlabelled = [top for top in words if not classes[top] and top not in among]
        return cls(prefixes, tuple(unlabelled))

    def place(self, folder: Folders) -> _Place | None:
        """Where a folder's pictures belong; None if they are ignored."""
        fitting = [prefix for prefix in self.prefixes if folder[: len(prefix)] == prefix]
        if not fitting or (folder and folder[0] in self.unlabelled):
            return None
        prefix = max(fitting, key=len)
        return _Place(self.prefixes[prefix], folder[len(prefix) :])

    def notices(self, root: Path, folders: Mapping[Folders, int]) -> Iterator[str]:
        """Tell of the pictures in split folders without classes."""
        for top in self.unlabelled:
            count = sum(n for folder, n in folders.items() if folder[:1] == (top,))
            yield (
                f"ignored, {top} is a split by name but has no class folders: {count:,} pictures; "
                f"once there is a bundle: cacheclip predict BUNDLE {shlex.quote(str(root / top))}; "
                "if it is a class, give its folder another name"
            )


def _below(prefix: Folders, folders: Mapping[Folders, int]) -> set[Folders]:
    """The folders with pictures below a folder, from there; () is that folder itself."""
    return {folder[len(prefix) :] for folder in folders if folder[: len(prefix)] == prefix}


def _inner(top: str, folders: Mapping[Folders, int]) -> Folders:
    """Where a split's class folders lie: archives often unpack to test1/test1/."""
    prefix: Folders = (top,)
    while True:
        inside = {rest[:1] for rest in _below(prefix, folders)}
        only = inside.pop() if len(inside) == 1 else ()
        if not only or split_of(only[0]) != split_of(top):
            return prefix
        prefix += only


def _no_train(root: Path, words: Mapping[str, str], classes: Mapping[str, set[str]]) -> InputError:
    """The refusal of split folders none of which can teach."""
    labelled = {split: top for top, split in words.items() if classes[top]}
    flat = [top for top in words if not classes[top]]
    if not labelled or "train" in {words[top] for top in flat}:
        return InputError(
            f"{' and '.join(flat)}: split folders with pictures, but no class folders in them",
            where=str(root),
            fix="make PATH/train/CLASS/PICTURE.jpg, or write the classes into a file with the "
            "columns path and label: cacheclip extract --dataset csv/FILE",
        )
    first = shlex.quote(str(root / next(iter(labelled.values()))))
    return InputError(
        f"split folders ({', '.join(labelled.values())}) without a train folder",
        where=str(root),
        fix="add PATH/train/CLASS/PICTURE.jpg, or pass one of them as the data set: "
        f"cacheclip extract --dataset {first}",
    )


def _splits_within_classes(places: Mapping[Folders, _Place]) -> dict[Folders, _Place] | None:
    """The places of CLASS/SPLIT/PICTURE.jpg; None where the folders are not laid out so."""
    inside = [folder for folder in places if folder]
    if not inside or not all(len(folder) > 1 and split_of(folder[1]) for folder in inside):
        return None
    found = {folder: _Place(split_of(folder[1]), (folder[0], *folder[2:])) for folder in inside}
    return found | {folder: place for folder, place in places.items() if not folder}


def _class_names(
    root: Path, places: set[_Place], classes_from: str | None
) -> tuple[dict[Folders, str], list[str]]:
    """The name of the class of each folder, and what may not be expected about it.

    Raises:
        InputError: the class folders hold folders alone, and nobody said what they are.
    """
    folders = {place.classes for place in places}
    top = {folder: folder[0] for folder in folders}
    uppers = sorted(set(top.values()))
    if classes_from is not None or len(folders) == len(uppers):
        return (_unique(folders) if classes_from == "leaf" else top), []
    command = f"cacheclip extract --dataset {shlex.quote(str(root))}"
    if len(uppers) == 1:
        unsplit = all(place.split is None for place in places)
        inner = f"cacheclip extract --dataset {shlex.quote(str(root / uppers[0]))}"
        raise InputError(
            f"only one class folder with pictures, {uppers[0]!r}, and {len(folders)} folders in it",
            where=str(root),
            fix=inner if unsplit else f"{command} --classes-from leaf",
        )
    paths = ["/".join(folder) for folder in sorted(folders)]
    if any(len(folder) == 1 for folder in folders):
        deep = [path for path in paths if "/" in path]
        return top, [
            f"pictures in {listed(deep, 3)} count for the class above; --classes-from leaf makes "
            "each folder a class"
        ]
    raise InputError(
        f"the class folders hold folders alone: {len(uppers)} classes ({listed(uppers, 4)}) or "
        f"{len(paths)} ({listed(paths, 4)})?",
        where=str(root),
        fix=f"{command} --classes-from top, or: {command} --classes-from leaf",
    )


def _unique(folders: set[Folders]) -> dict[Folders, str]:
    """The last folder's name for each, with as many of its parents' as make it the only one."""
    depth = dict.fromkeys(folders, 1)
    while True:
        names = {folder: "/".join(folder[-depth[folder] :]) for folder in folders}
        counts = Counter(names.values())
        equal = [f for f in folders if counts[names[f]] > 1 and depth[f] < len(f)]
        if not equal:
            return names
        for folder in equal:
            depth[folder] += 1


def _twins(places: Iterable[_Place]) -> Iterator[str]:
    """Tell of class folders whose names look alike and are other bytes."""
    spellings: dict[str, set[str]] = {}
    for place in places:
        for name, written in zip(place.classes, place.below, strict=True):
            spellings.setdefault(name, set()).add(written)
    twins = sorted(name for name, written in spellings.items() if len(written) > 1)
    if twins:
        yield (
            f"one class each, though their folders' names are other bytes (NFC and NFD): "
            f"{listed(twins, 5)}"
        )
