"""Support sets that come with the arrays: `draw_SEED_K`, lists of rows, as papers publish them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cacheclip.errors import InputError
from cacheclip.exchange.source import DRAW, DRAWS, Given, Source, some

Draws = Mapping[tuple[int, int], NDArray[np.intp]]


def is_draw(name: str) -> bool:
    """Whether an array of this name is taken for a draw."""
    return re.fullmatch(r"draws?(_?\d.*)?", name.lower()) is not None


def named_draws(draws: Any) -> dict[str, Any]:
    """Draws that stand under (seed, shots) by the names that they have in a file.

    Raises:
        InputError: they stand under something else.
    """
    keys = list(draws) if isinstance(draws, Mapping) else [draws]
    for key in keys:
        two = isinstance(key, tuple) and len(key) == 2
        if not two or not all(isinstance(one, int | np.integer) and one >= 0 for one in key):
            shown = f"{key!r} as a key" if isinstance(draws, Mapping) else type(draws).__name__
            raise InputError(
                f"draws: {shown}, where rows stand under (seed, shots)",
                where="Features.of(X, y, draws=...)",
                fix="draws = {(1, 16): rows}  # of seed 1 and 16 shots a class",
            )
    return {f"draw_{seed}_{shots}": draws[seed, shots] for seed, shots in keys}


def given_draws(
    given: Given,
    labels: NDArray[np.int64],
    split: NDArray[np.str_],
    classnames: Sequence[str],
    source: Source,
) -> tuple[Draws, list[str]]:
    """(seed, shots) -> rows of the file, class by class, each class in the order given; notices.

    Args:
        given: the arrays by name.
        labels: [N], checked.
        split: [N], checked.
        classnames: [C].
        source: where they come from.

    Raises:
        InputError: a draw is no list of rows of split train that has every class.
    """
    draws: dict[tuple[int, int], NDArray[np.intp]] = {}
    unequal = []
    for name in filter(is_draw, given):
        named = DRAW.fullmatch(name)
        if named is None or int(named[2]) < 1:
            raise _misnamed(name, source)
        seed, shots = int(named[1]), int(named[2])
        if (seed, shots) in draws:
            what = f"{name} is the second draw of seed {seed} and {shots} shots"
            raise InputError(what, where=source.file, fix="leave one of the two out")
        rows = _rows(name, given[name], split, source)
        per_class = np.bincount(labels[rows], minlength=len(classnames))
        absent = [classnames[k] for k in np.flatnonzero(per_class == 0).tolist()]
        if absent:
            what = f"{len(absent)} of {len(classnames)} classes have no row: {some(absent)}"
            raise source.fault(name, what)
        if per_class.min() < shots or per_class.max() > shots:
            unequal.append(f"{name} ({per_class.min()} to {per_class.max()})")
        draws[seed, shots] = rows[np.argsort(labels[rows], kind="stable")]
    notices = []
    if unequal:
        notices.append(f"draws with other numbers of rows a class than named: {some(unequal)}")
    if any(seed == 0 for seed, _ in draws):
        notices.append("draws of seed 0 are for fit --seed 0: compare takes the seeds 1 to N")
    return draws, notices


def _misnamed(name: str, source: Source) -> InputError:
    return InputError(
        f"{name}: a draw is named draw_SEED_K, a seed and its shots",
        where=source.file,
        fix=f"name it draw_1_16 for seed 1 and 16 shots; {DRAWS}",
    )


def _rows(
    name: str, given: NDArray[Any], split: NDArray[np.str_], source: Source
) -> NDArray[np.intp]:
    """The rows [n] of one draw, each once and of split train."""
    if given.dtype.kind in "US":
        fix = f"{name} = np.flatnonzero(np.isin(sample_ids, {name}))"
        raise source.fault(name, "texts and not rows of the file", fix)
    if given.dtype.kind == "b":
        raise source.fault(name, "bool and not rows", f"{name} = np.flatnonzero({name})")
    if given.dtype.kind not in "iu":
        raise source.fault(name, f"{given.dtype} and not rows", f"{name} = {name}.astype(int)")
    source.expect(name, given, fits=given.ndim in (1, 2) and given.size > 0)
    rows = given.reshape(-1)
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= len(split):
        from_one = f"{name} = {name} - 1  # if it counts from 1"
        what = f"rows from {low} to {high}, and the file has 0 to {len(split) - 1}"
        raise source.fault(name, what, from_one if high == len(split) else None)
    rows = rows.astype(np.intp)
    twice = len(rows) - len(np.unique(rows))
    if twice:
        what = f"{twice} rows stand there more than once"
        raise source.fault(name, what, f"{name} = np.unique({name})")
    train = np.flatnonzero(split == "train")
    other = rows[split[rows] != "train"]
    if len(other):
        what = f"{len(other)} of {len(rows)} rows are not of split train: {some(other)}"
        fix = f'{name} = np.flatnonzero(split == "train")[{name}]  # if it counts train rows alone'
        raise source.fault(name, what, fix if high < len(train) else None)
    return rows
