"""Labels and class names as people have them: numbers, texts, columns; not matrices."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.source import Given, Source, flat, some

Labelled = tuple[NDArray[np.int64], list[str], list[str]]


def is_number(label: object) -> bool:
    """Whether a label is a number, NaN among them."""
    return isinstance(label, int | float | np.number | np.bool_)


def is_missing(label: object) -> bool:
    """Whether a label stands for none: None, NaN, what tables have for it."""
    if isinstance(label, str | bytes):
        return False
    return not is_number(label) or bool(label != label)


def refuse_mixed(name: str, labels: NDArray[Any], rows: Sequence[str], where: str) -> None:
    """Refuse labels of which some are missing, or some are texts and some numbers.

    Args:
        name: what the user calls them.
        labels: objects.
        rows: names of all arrays that have a row for each.
        where: for the message.

    Raises:
        InputError: they are such labels; the fix leaves these rows out.
    """
    values = labels.reshape(-1).tolist()
    missing = [one for one in values if is_missing(one)]
    texts = [one for one in values if isinstance(one, str)]
    numbers = [one for one in values if is_number(one) and not is_missing(one)]
    if not missing and not (texts and numbers):
        return
    if missing:
        shown = some(list(dict.fromkeys(map(repr, missing))))
        what = f"{len(missing):,} of {len(values):,} labels are missing: {shown}"
    else:
        what = f"some are texts and some are numbers, such as {texts[0]!r} and {numbers[0]!r}"
    kind = "str" if texts else "(int, float, np.number)) and one == one"
    own = f"np.array({name})[keep]" if texts else f"np.array({name})[keep].astype(float)"
    kept = ", ".join(own if one == name else f"{one}[keep]" for one in rows)
    closed = ")" if texts else ""
    raise InputError(
        f"{name}: {what}",
        where=where,
        fix=f"keep = np.array([isinstance(one, {kind}{closed} for one in {name}]); "
        f"{', '.join(rows)} = {kept}  # leaves them out",
    )


def labelled(given: Given, count: int, texts: int | None, source: Source) -> Labelled:
    """Labels [N] from 0 to C - 1, C class names, each once, and notices.

    Without class names they are the texts that the labels are, numbers in them in order of size,
    or the labels' numbers.

    Args:
        given: the arrays by name.
        count: N.
        texts: C as the text features have it, None without.
        source: where they come from.

    Raises:
        InputError: the labels are not one class a row, or do not fit the class names.
    """
    names = _names(given.get("classnames"), source)
    own = flat(given["labels"], count)
    if own.dtype.kind in "US" and own.ndim == 1:
        labels, names, notices = _texts(own, names, count, texts, source)
    else:
        labels, notices = _numbers(own, count, source), []
        names = _fitting(labels, names, texts, source)
    shown, numbered = _numbered(names)
    return labels, shown, [*notices, *numbered]


def class_count(given: Given) -> int | None:
    """How many classes the names say that there are, or else whole numbers as labels."""
    if "classnames" in given:
        return given["classnames"].size
    labels = given["labels"]
    numbers = labels.dtype.kind in "iu" and labels.size == max(labels.shape, default=0)
    return int(labels.max()) + 1 if numbers and labels.size else None


def _names(given: NDArray[Any] | None, source: Source) -> list[str] | None:
    if given is None:
        return None
    names = source.texts("classnames", given, None)
    if any(name.strip() == "" or "\n" in name for name in names):
        raise source.fault("classnames", "a name is empty or has a line feed")
    return names


def _texts(
    given: NDArray[Any],
    names: list[str] | None,
    count: int,
    texts: int | None,
    source: Source,
) -> Labelled:
    """Labels that are class names."""
    own = source.texts("labels", given, count)
    empty = own.count("")
    if empty:
        what = f"{empty:,} of {count:,} rows have an empty label"
        raise source.fault("labels", what, source.keep('labels != ""'))
    if names is None and texts is not None:
        whole = all(re.fullmatch("[0-9]+", one) for one in own)
        fix = "classnames = np.unique(labels)  # if the rows of text_features are in this order"
        raise source.fault(
            "labels",
            "they are texts, and no classnames say which row of text_features is whose",
            "labels = labels.astype(int)" if whole else fix,
        )
    names = sorted(set(own), key=_natural) if names is None else names
    unknown = sorted(set(own) - set(names))
    if unknown:
        what = f"{len(unknown)} of them are no classnames: {some(unknown)}"
        fix = "classnames = np.unique(labels)" if texts is None else _ROWS
        if all(re.fullmatch("[0-9]+", one) for one in own):
            fix = "labels = labels.astype(int)"
        raise source.fault("labels", what, fix)
    twice = sorted({one for one, n in Counter(names).items() if n > 1} & set(own))
    if twice:
        what = f"they are texts, and two classes have one name: {some(twice)}"
        raise source.fault("labels", what, "labels as numbers from 0 to C - 1")
    number = {name: k for k, name in enumerate(names)}
    labels = np.array([number[one] for one in own], np.int64)
    return labels, names, [f"labels are names of {len(names)} classes: {some(names)}"]


_ROWS = "classnames as in labels, in the order of the rows of text_features"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"([0-9]+)", name)]


def _numbers(given: NDArray[Any], count: int, source: Source) -> NDArray[np.int64]:
    """Labels that are numbers, each 0 or more."""
    if given.dtype.kind not in "biuf":
        fix = "labels = labels.astype(int)"
        raise source.fault("labels", f"{given.dtype} and not whole numbers", fix)
    if given.ndim == 2:
        raise _matrix(given, count, source)
    source.expect("labels", given, fits=given.shape == (count,), count=count)
    if given.dtype.kind == "f":
        odd = given[~(np.isfinite(given) & (given == np.floor(given)))]
        if len(odd):
            what = f"{given.dtype} and not whole numbers: {some(odd)} in {len(odd):,} rows"
            raise source.fault("labels", what, source.keep("labels == np.floor(labels)"))
    if given.max() > np.iinfo(np.int64).max or given.min() < np.iinfo(np.int64).min:
        shown = f"labels from {given.min():.4g} to {given.max():.4g}"
        raise source.fault("labels", shown, _RENUMBER)
    low, high = int(given.min()), int(given.max())
    labels = given.astype(np.int64)
    if low < 0:
        two = set(np.unique(labels).tolist()) == {-1, 1}
        what = f"labels from {low} to {high}: {(labels < 0).sum():,} rows are below 0"
        fix = "labels = (labels > 0).astype(int)" if two else source.keep("labels >= 0")
        raise source.fault("labels", what, fix)
    return labels


_RENUMBER = (
    "numbers, labels = np.unique(labels, return_inverse=True); classnames = numbers.astype(str)"
)


def _fitting(
    labels: NDArray[np.int64], names: list[str] | None, texts: int | None, source: Source
) -> list[str]:
    """The class names of labels that are numbers; the labels must be among them."""
    low, high = int(labels.min()), int(labels.max())
    from_one = "they count from 1"
    classes = len(names) if names is not None else texts
    if classes is None:
        if low == 1 and len(np.unique(labels)) == high:
            what = f"labels from 1 to {high}, and none is 0: {from_one}"
            raise source.fault("labels", what, "labels = labels - 1")
        if high >= len(labels):
            what = f"labels from {low} to {high} of {len(labels):,} rows"
            raise source.fault("labels", what, _RENUMBER)
        return [str(k) for k in range(high + 1)]
    if high >= classes:
        what = f"label {high}, and {classes} classes (0 to {classes - 1})"
        if low == 1 and high == classes:
            raise source.fault("labels", f"{what}: {from_one}", "labels = labels - 1")
        all_used = len(np.unique(labels)) == classes
        raise source.fault(
            "labels",
            what,
            "labels = np.unique(labels, return_inverse=True)[1]"
            "  # if the classes are in the order of these numbers"
            if all_used
            else source.keep(f"labels < {classes}") + "  # or name these classes too",
        )
    return [str(k) for k in range(classes)] if names is None else names


def _matrix(given: NDArray[Any], count: int, source: Source) -> InputError:
    """The error of labels [N, C]: one-hot, several a row, or scores."""
    shape = list(given.shape)
    if count not in shape:
        return source.fault("labels", f"its shape is {shape}, and features have {count:,} rows")
    axis = 1 if shape[0] == count else 0
    values = given.astype(np.float64)
    sums = values.sum(axis)
    argmax = f"labels = labels.argmax({axis})"
    if np.isin(values, (0, 1)).all():
        single = int((sums == 1).sum())
        if single == count:
            return source.fault("labels", f"one-hot, {shape}, where each row has a number", argmax)
        what = (
            f"multi-label, {shape}: {count - single:,} of {count:,} rows have none or several of "
            f"the {shape[axis]} classes, and here a row has one"
        )
        one = "labels[:, 0]" if axis else "labels[0]"
        fix = f"labels = {one}.astype(int)  # class 0 against the rest; a set for each class"
        if 2 * single > count and axis:
            fix = source.keep("labels.sum(1) == 1") + "; labels = labels.argmax(1)"
        return source.fault("labels", what, fix)
    if given.dtype.kind != "f":
        column = "labels[:, 0]" if axis else "labels[0]"
        what = f"its shape is {shape}, and a row has one label"
        return source.fault("labels", what, f"labels = {column}  # or another of {shape[axis]}")
    kind = "probabilities" if np.allclose(sums, 1, atol=1e-3) else "scores"
    return source.fault("labels", f"{kind} of classes, {shape}, and not whole numbers", argmax)


def _numbered(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names, each once: of several that are equal, all but the first get a number."""
    there = set(names)
    seen: Counter[str] = Counter()
    shown, changed = [], []
    for name in names:
        seen[name] += 1
        own = name
        while seen[name] > 1 and own in there:
            own = f"{name} ({seen[name]})"
            seen[name] += own in there
        if own != name:
            there.add(own)
            changed.append(own)
        shown.append(own)
    if not changed:
        return shown, []
    return shown, [f"classes of the same name are numbered: {some(changed)}"]


def refuse_absent(
    labels: NDArray[np.int64],
    split: NDArray[np.str_],
    classnames: Sequence[str],
    given: Given,
    source: Source,
) -> None:
    """Refuse classes without a row to learn from, where there is no text for them either."""
    absent = absent_classes(labels, split, classnames, "train")
    if not absent:
        return
    fix = _RENUMBER
    if given["labels"].dtype.kind in "US":
        fix = "classnames = np.unique(labels)"
    elif "classnames" in given:
        fix = (
            "numbers, labels = np.unique(labels, return_inverse=True); "
            "classnames = classnames[numbers]"
        )
    used = np.unique(labels)
    if not set(used.tolist()) <= set(labels[split == "train"].tolist()):
        unlearned = 'np.isin(labels, labels[split == "train"])'
        fix = f"{source.keep(unlearned)}; {fix}"
    raise source.fault(
        "labels",
        f"{len(absent)} of {len(classnames)} classes have no row of split train: {some(absent)}",
        f"{fix}  # leaves these classes out",
    )


def absent_classes(
    labels: NDArray[np.int64], split: NDArray[np.str_], classnames: Sequence[str], name: str
) -> list[str]:
    """The classes that have no row of a split."""
    there = set(labels[split == name].tolist())
    return [text for label, text in enumerate(classnames) if label not in there]
