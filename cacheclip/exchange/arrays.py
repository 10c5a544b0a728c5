"""Features that somebody else computed, as plain arrays, checked whole before any is written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError

SPLITS = ("train", "val", "test")
REQUIRED = {
    "features": "[N, D], floats, raw or unit rows",
    "labels": "[N], whole numbers from 0 to C - 1",
    "split": "[N], texts, each train, val or test",
}
OPTIONAL = {
    "text_features": "[C, D], floats, or [C, T, D] of T prompts a class",
    "logit_scale": "one number, the exp of CLIP's parameter: 100 for OpenAI's CLIP",
    "classnames": "[C], texts, one a class in label order",
    "sample_ids": "[N], texts, each once",
}
KNOWN = {**REQUIRED, **OPTIONAL}

PLAIN_SCALE = 100.0  # without text it moves probabilities alone, never an answer
NORMS = (1e-12, 1e12)  # whose squares float32 can sum
SHOWN = 5
BLOCK = 2048  # rows looked at together

Given = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Arrays:
    """Checked arrays: every row is finite and has a length, a label, a split and an id of its own.

    Attributes:
        features: [N, D] float16 where that was given, else float32.
        labels: [N] int64, each in 0..C-1.
        split: [N] texts of `SPLITS`; train has every class, test is not empty.
        ids: [N] texts, each once.
        classnames: [C].
        per_prompt: [C, T, D] float16 or float32; None where there is no text.
        logit_scale: exp of CLIP's parameter.
        notices: one line each, for the user.
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]
    split: NDArray[np.str_]
    ids: list[str]
    classnames: list[str]
    per_prompt: NDArray[Any] | None
    logit_scale: float
    notices: tuple[str, ...]

    def rows(self) -> dict[str, NDArray[np.intp]]:
        """Split -> its rows [n] in file order, the splits that have any."""
        found = {name: np.flatnonzero(self.split == name) for name in SPLITS}
        return {name: rows for name, rows in found.items() if len(rows)}


def checked(given: Given, where: str) -> Arrays:
    """The arrays by name, checked.

    Args:
        given: name -> array, as `KNOWN` describes them; others are left out with a notice.
        where: the file, for messages.

    Raises:
        InputError: one is missing, or is not as described; the message says which and how.
    """
    _refuse_missing(given, where)
    features = _vectors("features", given["features"], where, axes=(2,))
    count = len(features)
    labels = _labels(given["labels"], count, where)
    split = _split(given["split"], count, where)
    ids = _ids(given.get("sample_ids"), count, where)
    per_prompt = None
    if "text_features" in given:
        text = _vectors("text_features", given["text_features"], where, axes=(2, 3))
        per_prompt = text if text.ndim == 3 else text[:, None]
    classnames = _classnames(given.get("classnames"), labels, per_prompt, where)
    if per_prompt is not None:
        wanted = (len(classnames), per_prompt.shape[1], features.shape[1])
        if per_prompt.shape != wanted:
            c, d = wanted[0], wanted[2]
            raise _faulty(
                f"its rows have {per_prompt.shape[2]} numbers and it has {len(per_prompt)} "
                f"classes, where features have {d} and classnames {c}",
                "text_features",
                where,
                fix=f"text_features {[c, d]} from the text tower of the same encoder",
            )
    _refuse_absent_classes(labels, split, classnames, where)
    scale, notices = _scale(given.get("logit_scale"), where)
    return Arrays(
        features=features,
        labels=labels,
        split=split,
        ids=ids,
        classnames=classnames,
        per_prompt=per_prompt,
        logit_scale=scale,
        notices=(*notices, *_notices(given, labels, split, classnames)),
    )


def _refuse_missing(given: Given, where: str) -> None:
    missing = [name for name in REQUIRED if name not in given]
    has = f"{where} (has {', '.join(given) or 'no arrays'})"
    if missing:
        raise InputError(
            f"{'an array is' if len(missing) == 1 else 'arrays are'} missing: {', '.join(missing)}",
            where=has,
            fix="add " + "; ".join(f"{name} {REQUIRED[name]}" for name in missing),
        )
    if "text_features" in given and "logit_scale" not in given:
        raise InputError(
            "there are text features, but not the scale of their logits",
            where=has,
            fix=f"add logit_scale, {OPTIONAL['logit_scale']}",
        )


def _vectors(name: str, given: NDArray[Any], where: str, *, axes: Sequence[int]) -> NDArray[Any]:
    """Rows that can be normalised: float16 as it is, any other float as float32."""
    if given.dtype.kind != "f":
        raise _faulty(f"{given.dtype} and not floats", name, where)
    _expect(name, given, where, fits=given.ndim in axes and given.size > 0)
    with np.errstate(over="ignore"):  # an overflow is found below
        vectors = np.ascontiguousarray(
            given, np.float16 if given.dtype.itemsize == 2 else np.float32
        )
    rows = vectors.reshape(-1, vectors.shape[-1])
    bad = ~np.concatenate([_usable(rows[k : k + BLOCK]) for k in range(0, len(rows), BLOCK)])
    if bad.any():
        first = rows[int(np.argmax(bad))]
        why = "are not finite" if not np.isfinite(first).all() else "have no length"
        raise _faulty(
            f"{bad.sum():,} of {len(rows):,} rows {why}: {_some(np.flatnonzero(bad))}",
            name,
            where,
            fix="leave these rows out of every array, or compute them again; norms may be "
            f"{NORMS[0]:g} to {NORMS[1]:g}",
        )
    return vectors


def _usable(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are finite and have a norm that float32 holds."""
    norm = np.sqrt(np.square(rows, dtype=np.float64).sum(1))
    usable: NDArray[np.bool_] = (norm >= NORMS[0]) & (norm <= NORMS[1])
    return usable


def _labels(given: NDArray[Any], count: int, where: str) -> NDArray[np.int64]:
    if given.dtype.kind not in "iu":
        fix = "labels.astype(int), indices into classnames"
        raise _faulty(f"{given.dtype} and not whole numbers", "labels", where, fix=fix)
    _expect("labels", given, where, fits=given.shape == (count,), count=count)
    low, high = int(given.min()), int(given.max())
    if low < 0 or high >= count:
        raise _faulty(f"labels from {low} to {high} of {count:,} rows", "labels", where)
    return given.astype(np.int64)


def _split(given: NDArray[Any], count: int, where: str) -> NDArray[np.str_]:
    split = np.array(_texts("split", given, count, where))
    unknown = sorted(set(split.tolist()) - set(SPLITS))
    if unknown:
        raise _faulty(f"no such split: {_some(unknown)}", "split", where)
    for name in ("train", "test"):
        if name not in split:
            raise _faulty(f"no row is {name}", "split", where)
    return split


def _ids(given: NDArray[Any] | None, count: int, where: str) -> list[str]:
    """The sample ids; by default the row's number."""
    if given is None:
        return [str(row) for row in range(count)]
    name = "sample_ids"
    ids = _texts(name, given.astype(str) if given.dtype.kind in "iu" else given, count, where)
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise _faulty(f"{len(twice):,} ids stand there more than once: {_some(twice)}", name, where)
    if any(one.strip() == "" or "\n" in one for one in ids):
        raise _faulty("an id is empty or has a line feed", name, where)
    return ids


def _classnames(
    given: NDArray[Any] | None,
    labels: NDArray[np.int64],
    per_prompt: NDArray[Any] | None,
    where: str,
) -> list[str]:
    """The class names; by default the labels' numbers, as many as there is text for."""
    top = int(labels.max())
    classes = top + 1 if per_prompt is None else len(per_prompt)
    names = [str(k) for k in range(classes)]
    if given is not None:
        names = _texts("classnames", given, None, where)
        twice = [one for one, times in Counter(names).items() if times > 1]
        if twice:
            what = f"{len(twice)} names stand there more than once: {_some(twice)}"
            raise _faulty(what, "classnames", where)
    if top >= len(names):
        raise _faulty(
            f"label {top}, and {len(names)} classes (0 to {len(names) - 1})", "labels", where
        )
    return names


def _refuse_absent_classes(
    labels: NDArray[np.int64], split: NDArray[np.str_], classnames: Sequence[str], where: str
) -> None:
    absent = _absent(labels, split, classnames, "train")
    if absent:
        raise _faulty(
            f"{len(absent)} of {len(classnames)} classes have no row of split train: "
            f"{_some(absent)}",
            "labels",
            where,
            fix="add train rows of these classes, or leave the classes out: labels are 0 to C - 1",
        )


def _absent(
    labels: NDArray[np.int64], split: NDArray[np.str_], classnames: Sequence[str], name: str
) -> list[str]:
    """The classes that have no row of a split."""
    there = set(labels[split == name].tolist())
    return [text for label, text in enumerate(classnames) if label not in there]


def _scale(given: NDArray[Any] | None, where: str) -> tuple[float, list[str]]:
    """The logit scale, with a notice where it looks like its logarithm."""
    if given is None:
        return PLAIN_SCALE, []
    value = float(given.reshape(-1)[0]) if given.size == 1 and given.dtype.kind in "iuf" else 0.0
    if not (isfinite(value) and value > 0):
        shown = f"{given.dtype} {list(given.shape)}" if given.size != 1 else f"{given.item()!r}"
        raise _faulty(f"{shown} is no scale above 0", "logit_scale", where)
    if abs(value - log(100)) < 0.01:
        return value, [f"logit_scale {value:.3f} looks like the parameter itself; its exp is 100"]
    return value, []


def _notices(
    given: Given, labels: NDArray[np.int64], split: NDArray[np.str_], classnames: Sequence[str]
) -> list[str]:
    notices = []
    unknown = [name for name in given if name not in KNOWN]
    if unknown:
        notices.append(f"left out: {', '.join(unknown)} (known are {', '.join(KNOWN)})")
    absent = _absent(labels, split, classnames, "test")
    if absent:
        notices.append(
            f"{len(absent)} of {len(classnames)} classes have no row of split test: {_some(absent)}"
        )
    return notices


def _texts(name: str, given: NDArray[Any], count: int | None, where: str) -> list[str]:
    """An array of texts as a list."""
    if given.dtype.kind not in "US":
        fix = f"{name} = np.array(..., dtype=str)"
        raise _faulty(f"{given.dtype} and not texts", name, where, fix=fix)
    fits = given.ndim == 1 and len(given) > 0 and count in (None, len(given))
    _expect(name, given, where, fits=fits, count=count)
    try:
        texts: list[str] = (np.char.decode(given) if given.dtype.kind == "S" else given).tolist()
        "".join(texts).encode()
    except UnicodeError:
        fix = f"{name} = np.array(..., dtype=str)"
        raise _faulty("not texts in UTF-8", name, where, fix=fix) from None
    return texts


def _expect(
    name: str, given: NDArray[Any], where: str, *, fits: bool, count: int | None = None
) -> None:
    """Refuse an array of another shape."""
    if not fits:
        rows = "" if count is None else f", and features have {count:,} rows"
        raise _faulty(f"its shape is {list(given.shape)}{rows}", name, where)


def _faulty(what: str, name: str, where: str, fix: str | None = None) -> InputError:
    wanted = f"{name} {KNOWN[name]}"
    return InputError(f"{name}: {what}", where=where, fix=wanted if fix is None else fix)


def _some(names: Sequence[object] | NDArray[Any]) -> str:
    return ", ".join(str(name) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
