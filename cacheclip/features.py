"""Features: what every method learns from and is tested on, from a feature set on disk or arrays.

    data = Features.of(X, y, split=split, text=T, logit_scale=100.0)
    data = load("clipart")

Rows are read when they are first used. Test labels are sealed: what chooses is never handed them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cacheclip.errors import InputError, in_python
from cacheclip.exchange import source as origin
from cacheclip.exchange.arrays import checked
from cacheclip.exchange.draws import named_draws
from cacheclip.exchange.given_arrays import (
    CALLED,
    as_array,
    by_split,
    in_own_words,
    parts_of,
    refuse_mixed_labels,
    refuse_name,
    refuse_text_without_scale,
)
from cacheclip.exchange.in_memory import ArraySet
from cacheclip.exchange.sealed import Split
from cacheclip.store.auxiliary import beside, with_aux
from cacheclip.store.home import Home
from cacheclip.store.schema import IMPORTED, SPLITS
from cacheclip.store.scope import Scope, scoped
from cacheclip.store.source import Source


class Features:
    """Features, labels and class names of one data set, and the text features of its classes.

    Attributes:
        source: where they lie.
        classes: [C], what `predict` answers for each class: numbers where labels were numbers
            when they were given, else the class names.
    """

    def __init__(self, source: Source, classes: NDArray[Any] | None = None) -> None:
        self.source = source
        self.classes = np.array(source.labels.classnames) if classes is None else classes

    @classmethod
    def of(
        cls,
        X: ArrayLike | Mapping[str, ArrayLike],
        y: ArrayLike | Mapping[str, ArrayLike],
        *,
        split: ArrayLike | None = None,
        text: ArrayLike | None = None,
        logit_scale: float | None = None,
        classnames: ArrayLike | None = None,
        ids: ArrayLike | Mapping[str, ArrayLike] | None = None,
        draws: Mapping[tuple[int, int], ArrayLike] | None = None,
        name: str = "arrays",
        sentences: ArrayLike | None = None,
        aux: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ) -> "Features":
        """Features from arrays: NumPy arrays, torch tensors, lists, columns of a table.

        Args:
            X: [N, D] floats, raw or unit rows; or one such array a split, `{"train": X_train,
                "test": X_test}`, and then `y` and `ids` alike.
            y: [N] class names, or whole numbers from 0 to C - 1.
            split: [N] texts, each train, val or test; all are train without it, and then nothing
                can be tested.
            text: [C, D] or [C, T, D] text features of the classes, in label order.
            logit_scale: the exp of CLIP's parameter, 100 for OpenAI's CLIP; needed with text.
            classnames: [C] texts in label order; by default the labels that are names, sorted.
            ids: [N] texts, each once in its split; by default the row's number. They decide which
                rows a draw takes.
            draws: (seed, shots) -> rows of X, the support sets that somebody published.
            name: of the data set in result rows, `npz/NAME`.
            sentences: [C, S, D] features of sentences that describe each class, as those of CuPL
                do, beside `text`; rows of zeros where a class has fewer than S.
            aux: [N, D'] features of the same rows by a second encoder, as X is given, which `amu`
                reads, and `gp` with encoders=2.

        Raises:
            InputError: an array is not as described; the fix is a line of Python.
        """
        arrays = {"labels": y, "sample_ids": ids, "features": X}
        given = by_split(arrays) if isinstance(X, Mapping) else arrays
        refuse_name(name)
        given |= {"text_features": text, "sentence_features": sentences}
        given |= {"logit_scale": logit_scale, "classnames": classnames}
        given |= named_draws({} if draws is None else draws)
        found = {own: as_array(own, x) for own, x in given.items() if x is not None}
        rows: tuple[str, ...] = ("features", "labels")
        if split is not None:
            found["split"], rows = as_array("split", split), (*rows, "split")
        elif "features" in found:
            found["split"] = np.full(len(np.atleast_1d(found["features"])), "train")
        refuse_text_without_scale(found)
        try:
            refuse_mixed_labels(found, split)
            whole = checked(found, origin.Source("Features.of(X, y, ...)", "", rows), tests=False)
        except InputError as error:
            listed = {CALLED.get(own, own): x for own, x in given.items()} | {"split": split}
            raise in_own_words(error, listed) from None
        numbers = [x for own, x in found.items() if own in ("labels", *parts_of("labels"))]
        as_numbers = all(x.dtype.kind in "biuf" for x in numbers)
        said = tuple(line for line in whole.notices if not line.startswith("joined"))
        source = ArraySet(f"{IMPORTED}/{name}", replace(whole, notices=said))
        if aux is not None:
            second = _second(aux, y, split=split, ids=ids, classnames=classnames, name=name)
            source = replace(source, aux=beside(source, second.source))
        return cls(source, np.arange(len(whole.classnames)) if as_numbers else None)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(getattr(self, name)):,}" for name in self.splits)
        text = "with text" if self.source.text else "no text"
        return (
            f"<Features {self.source.dataset}, {self.source.name}: {len(self.classes)} classes, "
            f"{sizes}; {text}>"
        )

    @property
    def classnames(self) -> list[str]:
        """[C] names in label order."""
        return list(self.source.labels.classnames)

    def only(self, classes: str | Sequence[str]) -> "Features":
        """The same features with some of the classes, as though there were no others.

        Args:
            classes: their names; or "base" or "new", the first and the second half (2203.05557).

        Raises:
            UsageError: there is no such class, or they are fewer than two.
        """
        with in_python():
            own = scoped(self.source, [classes] if isinstance(classes, str) else list(classes))
        place = [self.classnames.index(name) for name in own.labels.classnames]
        return Features(own, self.classes[place])

    @property
    def logit_scale(self) -> float:
        """The encoder's exp(logit_scale)."""
        return float(self.source.encoder["logit_scale"])

    @property
    def splits(self) -> list[str]:
        """The splits that have rows."""
        there = self.source.labels.splits
        return [name for name in SPLITS if name in there and len(there[name].labels)]

    @property
    def notices(self) -> tuple[str, ...]:
        """What was read as what, a line each."""
        return tuple(self.source.notices)

    @cached_property
    def text(self) -> NDArray[np.float32] | None:
        """[C, T, D] raw text features of T prompts a class; None without text."""
        return None if self.source.text is None else self.source.text.load()

    @cached_property
    def train(self) -> Split:
        """What support sets are drawn from."""
        return self._split("train")

    @cached_property
    def val(self) -> Split:
        """What settings are chosen on."""
        return self._split("val")

    @cached_property
    def test(self) -> Split:
        """What accuracies are of; its labels are sealed."""
        return self._split("test")

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise InputError(
                f"there is no split {name}",
                where=f"data set {self.source.dataset} (has {', '.join(self.splits)})",
                fix='Features.of(X, y, split=split), split [N] of "train", "val" and "test"',
            )
        layer, failed = self.source.store(name), self.source.failures(name)
        others = self.source.others(name) if isinstance(self.source, Scope) else ()
        rows = [row for row in range(layer.rows) if row not in failed and row not in others]
        ids = layer.ids()
        labels = None
        if name != "test":
            nothing: Any = -1 if self.classes.dtype.kind in "iu" else ""
            number = np.array(self.source.labels.splits[name].labels)[rows]
            labels = np.append(self.classes, nothing)[number]  # an unlabelled row is -1: the last
        return Split(name, [ids[row] for row in rows], layer, rows, labels)


def load(
    dataset: str | None = None,
    model: str | None = None,
    pretrained: str | None = None,
    home: Home | Path | str | None = None,
    aux: "str | Features | None" = None,
) -> Features:
    """Features that `cacheclip extract` or `import` left on disk; nothing is read yet.

    Args:
        dataset: an id, or the last part of one; by default what was extracted last.
        model: name of the encoder, or NAME@WEIGHTS; by default the one extracted last.
        pretrained: its weights.
        home: the home folder; by default $CACHECLIP_HOME, or the user's data folder.
        aux: a second encoder, NAME@WEIGHTS, whose features of the data set are there too; or
            features of its pictures, found by their ids.

    Raises:
        StoreError: nothing fits or it is incomplete; the fix is the command that makes it.
    """
    place = home if isinstance(home, Home) else Home.resolve(home)
    with in_python():
        found = place.find(dataset, model, pretrained)
        if isinstance(aux, Features):
            return Features(replace(found, aux=beside(found, aux.source)))
        return Features(with_aux(place, found, aux))


def _second(
    aux: ArrayLike | Mapping[str, ArrayLike],
    y: ArrayLike | Mapping[str, ArrayLike],
    **others: Any,
) -> Features:
    """The features of a second encoder, given as X is; `others` are what `Features.of` got beside.

    Raises:
        InputError: they are none of those rows.
    """
    try:
        return Features.of(aux, y, **others)
    except InputError as error:
        what = re.sub(r"^X(?=\b|_)", "aux", error.what).replace("features have", "aux has")
        fix = re.sub(r"\bX(?=\b|_)", "aux", error.fix)
        # What leaves rows of aux out leaves those of X out too.
        fix = re.sub(r"\baux, (.*) = aux\[", r"X, aux, \1 = np.array(X)[keep], aux[", fix)
        if "X, aux" in fix and (parts := re.search(r"aux = (np\.concatenate\([^)]*\)); ", fix)):
            fix = f"X = {parts[1].replace('aux', 'X')}; {fix}"
        raise InputError(what, where="Features.of(X, y, aux=aux)", fix=fix) from None


def rows_of(X: ArrayLike, dim: int | None = None, *, called: str = "X") -> NDArray[np.float32]:
    """Rows to be classified, [n, D] float32.

    Args:
        X: [n, D] floats, or [D] of one row.
        dim: D, where it is known.
        called: what an error calls them.

    Raises:
        InputError: these are no such rows.
    """
    given: Any = X
    if isinstance(given, Split | Features):
        own = f"data.{given.name if isinstance(given, Split) else 'test'}.X"
        raise InputError(
            f"{called}: {X!r}, where an array of rows is needed",
            where="the rows to be classified",
            fix=f"give its rows, {own}; head.score(data) scores on the test split",
        )
    x = np.atleast_2d(as_array(called, X))
    if x.dtype.kind not in "fiu" or x.ndim != 2 or (dim is not None and x.shape[1] != dim):
        wanted = "[n, D]" if dim is None else f"[n, {dim}]"
        raise InputError(
            f"{called}: {x.dtype} {list(x.shape)}, where rows {wanted} of floats are needed",
            where="the rows to be classified",
            fix="give features of the encoder that the head learned from",
        )
    rows = x.astype(np.float32)
    norm = np.sqrt(np.square(rows, dtype=np.float64).sum(1))
    bad = np.flatnonzero(~((norm > 0) & np.isfinite(norm)))
    if len(bad):
        shown = ", ".join(map(str, bad[:5].tolist())) + (", ..." if len(bad) > 5 else "")
        raise InputError(
            f"{called}: {len(bad):,} of {len(rows):,} rows are not finite or have no length: "
            f"{shown}",
            where="the rows to be classified",
            fix=_without_bad(called),
        )
    return rows


def _without_bad(called: str) -> str:
    """The line of Python that leaves bad rows out, of X and of what lies beside it."""
    if called == "X":
        return "X = X[np.isfinite(X).all(1) & (X != 0).any(1)]  # leaves them out"
    good = f"keep = np.isfinite({called}).all(1) & ({called} != 0).any(1)"
    return f"{good}; X, {called} = X[keep], {called}[keep]  # leaves them out"
