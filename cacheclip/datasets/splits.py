"""Splits that depend on nothing but the sample ids, and CoOp's split files."""

import gzip
import hashlib
import io
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cacheclip.datasets.base import Split
from cacheclip.errors import InputError
from cacheclip.files import regular
from cacheclip.store.schema import SPLITS


def hash_rank(ids: Iterable[str]) -> list[str]:
    """The ids ordered by the SHA-256 of their UTF-8 bytes: an order that no library can change."""
    return sorted(ids, key=lambda sample: hashlib.sha256(sample.encode()).digest())


def hash_split(
    ids: Sequence[str],
    labels: Sequence[int],
    cuts: Sequence[str] = ("test", "val"),
    copies: Sequence[Sequence[int]] = (),
) -> dict[str, list[int]]:
    """Cut parts of a fifth each out of every class, by hash rank; what is left is "train".

    Of each class the first fifth of the ranks (to the nearest whole number, at least one) is the
    first cut, the next fifth the second; `train` keeps at least one, so that a class of two has no
    row in the second cut and a class of one none in both.

    Copies of one picture are never parted: they stand at the lowest of their ranks and count as
    many as they are. Those with different labels fill `train` first, where they spoil no
    measurement.

    Args:
        ids: [n] sample ids.
        labels: [n] class numbers.
        cuts: names of the parts, the most needed first.
        copies: groups of rows that are the same picture.

    Returns:
        For "train" and each cut its rows, ascending.
    """
    row_of = {sample: row for row, sample in enumerate(ids)}
    group_of = {row: number for number, rows in enumerate(copies) for row in rows}
    classes: defaultdict[int, list[str]] = defaultdict(list)
    for sample, label in zip(ids, labels, strict=True):
        classes[label].append(sample)
    room = {label: _room(len(members), cuts) for label, members in classes.items()}
    part_of = _disputed(ids, labels, copies, room)
    parts: dict[str, list[int]] = {name: [] for name in ("train", *cuts)}
    for row, name in part_of.items():
        parts[name].append(row)
    for label, members in classes.items():
        pictures: dict[int, list[int]] = {}  # by rank: rows of one picture
        for sample in hash_rank(members):
            row = row_of[sample]
            if row not in part_of:
                pictures.setdefault(group_of.get(row, -1 - row), []).append(row)
        left = list(pictures.values())
        for later, name in zip(range(len(cuts), 0, -1), cuts, strict=True):
            cut, left = _first(left, room[label][name], spare=later)
            parts[name] += [row for rows in cut for row in rows]
        parts["train"] += [row for rows in left for row in rows]
    return {name: sorted(rows) for name, rows in parts.items()}


def _room(size: int, cuts: Sequence[str]) -> dict[str, int]:
    """How many rows of a class each part has room for."""
    fifth = max(1, (size + 2) // 5)
    return {"train": max(1, size - fifth * len(cuts))} | dict.fromkeys(cuts, fifth)


def _disputed(
    ids: Sequence[str],
    labels: Sequence[int],
    copies: Sequence[Sequence[int]],
    room: Mapping[int, dict[str, int]],
) -> dict[int, str]:
    """The parts of the rows that are one picture with several labels; takes from their `room`."""
    disputed = [rows for rows in copies if len({labels[row] for row in rows}) > 1]
    first = {hash_rank(ids[row] for row in rows)[0]: rows for rows in disputed}
    part_of: dict[int, str] = {}
    for sample in hash_rank(first):
        needed = Counter(labels[row] for row in first[sample])
        parts = room[next(iter(needed))]
        fitting = (p for p in parts if all(room[label][p] >= k for label, k in needed.items()))
        part = next(fitting, "train")
        for label, count in needed.items():
            room[label][part] -= count
        part_of |= dict.fromkeys(first[sample], part)
    return part_of


def _first(
    pictures: Sequence[list[int]], size: int, *, spare: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The first pictures with `size` rows at most, and the others.

    Where no picture has so few rows, the one with the fewest is taken; of two and more one is, and
    `spare` are left for the other parts, or at least one.
    """
    most = min(len(pictures) - 1, max(1, len(pictures) - spare))
    taken: list[list[int]] = []
    left: list[list[int]] = []
    room = size
    for rows in pictures:
        fits = len(rows) <= room and len(taken) < most
        (taken if fits else left).append(rows)
        room -= len(rows) if fits else 0
    if size > 0 and not taken and len(left) > 1:
        taken = [left.pop(left.index(min(left, key=len)))]
    return taken, left


def take(ids: Sequence[str], labels: Sequence[int], rows: Iterable[int]) -> Split:
    """The split made of these rows, in their order."""
    rows = list(rows)
    return Split(tuple(ids[row] for row in rows), tuple(labels[row] for row in rows))


@dataclass(frozen=True)
class CoopSplit:
    """A CoOp split file: class names in label order, and the splits in the file's own order."""

    classnames: tuple[str, ...]
    splits: dict[str, Split]


def read_coop_split(path: Path) -> CoopSplit:
    """Read a split_zhou_*.json or .json.gz: three lists of [path, label, class name].

    The order of the items is part of the data (few-shot index lists count on it): it is kept.

    Raises:
        InputError: the file is unreadable, a path leaves the image folder or occurs twice, or the
            labels are not 0 to C-1 with one name each.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or set(content) != set(SPLITS):
        raise _faulty(path, "is no object with exactly the keys train, val and test")
    names: dict[int, str] = {}
    seen: set[str] = set()
    splits: dict[str, Split] = {}
    for split in SPLITS:
        items = content[split]
        if not isinstance(items, list):
            raise _faulty(path, f"has no list under {split!r}")
        for number, item in enumerate(items):
            fault = _fault(item, names, seen)
            if fault:
                raise _faulty(path, f"{split}[{number}] = {json.dumps(item)[:120]}: {fault}")
        splits[split] = Split(tuple(item[0] for item in items), tuple(item[1] for item in items))
    if sorted(names) != list(range(len(names))):
        raise _faulty(path, f"has {len(names)} classes, but labels up to {max(names)}")
    return CoopSplit(tuple(names[label] for label in sorted(names)), splits)


def _read_json(path: Path) -> Any:
    try:
        data = regular.read_bytes(path)
        text = _unzipped(data) if path.suffix == ".gz" else data
        return regular.parsed(text.decode("utf-8-sig"))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _faulty(path, f"cannot be read ({error})") from error


def _unzipped(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as file:
        text = file.read(regular.MOST_TEXT + 1)
    if len(text) > regular.MOST_TEXT:
        raise ValueError(f"it unpacks to more than {regular.MOST_TEXT:,} bytes")
    return text


def _fault(item: object, names: dict[int, str], seen: set[str]) -> str:
    """What is wrong with one item, "" if nothing; adds it to `names` and `seen`."""
    match item:
        case [str(path), int(label), str(name)] if not isinstance(label, bool) and label >= 0:
            pass
        case _:
            return "not [path, label, class name]"
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in path:
        return "the path leaves the image folder"
    if path in seen:
        return "the path occurs twice"
    if names.setdefault(label, name) != name:
        return f"label {label} is also called {names[label]!r}"
    seen.add(path)
    return ""


def _faulty(path: Path, what: str) -> InputError:
    return InputError(
        f"CoOp's split file {what}",
        where=str(path),
        fix="fetch the file again (CoOp's DATASETS.md has the link), or remove it and use the "
        "official split: cacheclip extract --dataset torch/NAME",
    )
