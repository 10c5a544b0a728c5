"""Which rows are for training, validation and test, in the words that people use."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.exchange.source import CUT, Source, flat, some
from cacheclip.store.split_words import split_of


def splits(
    given: NDArray[Any], count: int, source: Source, wanted: Sequence[str]
) -> tuple[NDArray[np.str_], list[str]]:
    """The split of every row [N], texts of `SPLITS`, and what was read as what.

    Args:
        given: as it came.
        count: N.
        source: where it comes from.
        wanted: the splits that must have rows.

    Raises:
        InputError: these are numbers or other words, or a split that is wanted has no row.
    """
    given = flat(given, count)
    if given.dtype.kind in "biuf":
        raise _numbers(given, count, source)
    words = source.texts("split", given, count)
    meant = {word: split_of(word) for word in sorted(set(words))}
    unknown = [word for word, split in meant.items() if split is None]
    if unknown:
        raise _unknown(unknown, meant, given, source)
    split = np.array([meant[word] for word in words])
    for name in wanted:
        if name not in split:
            raise _without(name, meant, given, source)
    renamed = [f"{word} as {split}" for word, split in meant.items() if word != split]
    return split, [f"split: read {', '.join(renamed)}"] if renamed else []


def _text(given: NDArray[Any]) -> str:
    """Python for the array as texts."""
    return "split" if given.dtype.kind == "U" else "split.astype(str)"


def _unknown(
    unknown: Sequence[str], meant: dict[str, str | None], given: NDArray[Any], source: Source
) -> Exception:
    """The error of words that name no split: a lone one may be that which is missing."""
    own = _text(given)
    missing = [name for name in ("test", "train") if name not in meant.values()]
    fix = source.keep(f"~np.isin({own}, {list(unknown)})") + "  # leaves these rows out"
    if len(unknown) == 1 and len(missing) == 1:
        fix = f"split = np.where({own} == {unknown[0]!r}, {missing[0]!r}, {own})"
        fix += f"  # if {unknown[0]} is {missing[0]}"
    return source.fault("split", f"no such split: {some(unknown)}", fix)


def _without(
    name: str, meant: dict[str, str | None], given: NDArray[Any], source: Source
) -> Exception:
    """The error where no row is for training, or none for test."""
    val = [word for word, split in meant.items() if split == "val"]
    if not val:
        return source.fault("split", f"no row is {name}", CUT)
    own = _text(given)
    fix = f"split = np.where(np.isin({own}, {val}), {name!r}, {own})"
    return source.fault(
        "split", f"no row is {name}, and {' and '.join(val)} is for the choice of settings", fix
    )


def _numbers(given: NDArray[Any], count: int, source: Source) -> Exception:
    """The error of splits that are numbers: what these mean nobody can know."""
    source.expect("split", given, fits=given.shape == (count,), count=count)
    values, times = np.unique(given, return_counts=True)
    found: Sequence[Any] = values.tolist()
    shown = ", ".join(f"{value} in {n:,} rows" for value, n in zip(found[:4], times, strict=False))
    what = f"{given.dtype} and not texts: {shown}{', ...' if len(found) > 4 else ''}"
    index = "split" if given.dtype.kind in "iu" else "split.astype(int)"
    names = 'np.array(["train", "val", "test"])'
    if len(found) == 1:
        fix = CUT
    elif 2 in found and set(found) <= {0, 1, 2}:
        fix = f"split = {names}[{index}]"
    elif set(found) == {1, 2, 3}:
        fix = f"split = {names}[{index} - 1]"
    elif given.dtype.kind == "b":
        then = ("train", "test") if times[1] >= times[0] else ("test", "train")
        fix = f"split = np.where(split, {then[0]!r}, {then[1]!r})  # if True is {then[0]}"
    elif len(found) == 2:
        most = found[int(times[1] >= times[0])]
        fix = f'split = np.where(split == {most}, "train", "test")  # if {most} is train'
    else:
        fix = f'split = np.where(split == {found[0]}, "test", "train")  # fold {found[0]} for test'
    return source.fault("split", what, fix)
