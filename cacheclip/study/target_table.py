"""Rows of fits that are tested on several targets, as a table: a column a target.

Base-to-new has both harmonic means of base and new: that of the mean accuracies, and the mean of
those of the single runs. They differ, and papers print either.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean

from cacheclip.metrics import harmonic_mean
from cacheclip.results import Row
from cacheclip.store.scope import BASE, NEW
from cacheclip.study.table import Table, by_line, cell_text, honest, percent, summary

Cell = dict[str, list[Row]]  # target -> its rows of one line
Line = tuple[str, int | str]  # a method with its settings, and shots


def table_of(rows: Sequence[Row]) -> Table:
    """The table of a comparison: a column a shot count, or a target where there are several."""
    return by_target(rows) if len({_tested_on(row) for row in rows}) > 1 else summary(rows)


def _tested_on(row: Row) -> Hashable:
    """What accuracies of one column share."""
    return row.dataset, row.eval_dataset, row.classes


def by_target(rows: Sequence[Row]) -> Table:
    """Headers and cells: a line a method, settings and shots, a column a target.

    Args:
        rows: of one data set that was learned from; several seeds and starts of a cell are one mean
            with its standard deviation.
    """
    names, cells = cells_of(rows)
    halves = halves_of(names, rows)
    more = _more(names, halves)
    several = any(len(own) > 1 for cell in cells.values() for own in cell.values())
    lines = []
    for line, cell in cells.items():
        told = [cell_text(cell.get(name, []), several=several) for name in names]
        own = cell if all(_tested(cell.get(name, [])) for name in names) else {}
        lines.append([*shown(line), *told, *_derived(names, halves, own)])
    return ["method", "shots", *names, *more], lines


def means(rows: Sequence[Row]) -> Table:
    """Base-to-new over several data sets, each of which counts the same, with both means."""
    sets = list(dict.fromkeys(row.dataset for row in rows))
    found: dict[Line, list[tuple[float, float]]] = {}
    for name in sets:
        _, cells = cells_of([row for row in rows if row.dataset == name])
        for line, cell in cells.items():
            pair = [_mean(_tested(own)) for own in [*cell.values()][:2]]
            if len(pair) == 2 and None not in pair:
                found.setdefault(line, []).append((pair[0] or 0.0, pair[1] or 0.0))
    lines = []
    for line, pairs in found.items():
        base, new = (mean(own) for own in zip(*pairs, strict=True))
        both = [harmonic_mean(base, new), mean(harmonic_mean(*pair) for pair in pairs)]
        told = [percent(x) for x in (base, new, *both)] if len(pairs) == len(sets) else [""] * 4
        lines.append([*shown(line), *told])
    return ["method", "shots", BASE, NEW, "H of means", "mean H"], lines


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """What is to be known of the targets beside the classes that were learned, a line each."""
    several = len({row.eval_dataset for row in rows}) > 1
    of_each = {_tested_on(row): row for row in rows if row.top1_test is not None}
    for row in [*of_each.values()][1:]:
        name = _target(row, several=several)
        yield f"{name}: {row.n_test} test pictures of {row.n_classes} classes"
        yield from honest(row)
    if readers := dict.fromkeys(row.method for row in rows if row.eval_draw_id):
        yield (
            f"new shots: {', '.join(readers)} read support pictures of the classes tested on, "
            "which the others do not"
        )


def cells_of(rows: Sequence[Row]) -> tuple[list[str], dict[Line, Cell]]:
    """The targets in order, and the rows of each line and target."""
    several = len({row.eval_dataset for row in rows}) > 1
    by_name: dict[str, list[Row]] = {}
    readers = {row.method: row.eval_draw_id for row in rows if row.eval_draw_id}
    for row in rows:  # a line is marked as a whole, for the classes learned from too
        marked = replace(row, eval_draw_id=readers.get(row.method))
        by_name.setdefault(_target(row, several=several), []).append(marked)
    cells: dict[Line, Cell] = {}
    for name, own in by_name.items():
        for label, columns in by_line(own)[1].items():
            for cell in columns.values():
                cells.setdefault((label, cell[0].shots), {})[name] = cell
    return list(by_name), cells


def _target(row: Row, *, several: bool) -> str:
    """What a column is called: its data set where there are several, else its classes."""
    return row.eval_dataset if several else row.classes


def halves_of(names: Sequence[str], rows: Sequence[Row]) -> Sequence[str]:
    """The columns of base and new: several of one data set are those two and all. Else none."""
    return names[:2] if len({row.eval_dataset for row in rows}) == 1 else ()


def _more(names: Sequence[str], halves: Sequence[str]) -> list[str]:
    """What is derived of the columns."""
    if halves:
        return ["H of means", "mean H"]
    return ["mean of the others"] if len(names) > 2 else []


def _derived(
    names: Sequence[str], halves: Sequence[str], cell: Mapping[str, Sequence[Row]]
) -> list[str]:
    """The derived figures of a line; blank where a row failed."""
    more = _more(names, halves)
    if not cell:
        return [""] * len(more)
    if len(more) == 1:
        return [percent(mean(_mean(cell[name]) or 0.0 for name in names[1:]))]
    if not more:
        return []
    base, new = (cell[name] for name in halves)
    its = {_run(row): row.top1_test or 0.0 for row in new}
    pairs = [(row.top1_test or 0.0, its[_run(row)]) for row in base if _run(row) in its]
    single = [harmonic_mean(*pair) for pair in pairs]
    whole = harmonic_mean(_mean(base) or 0.0, _mean(new) or 0.0)
    return [percent(whole), percent(mean(single)) if single else ""]


def _run(row: Row) -> Hashable:
    """What the rows of one run share."""
    return row.seed, row.init_seed


def _tested(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.top1_test is not None]


def _mean(rows: Sequence[Row]) -> float | None:
    """The mean test accuracy, None of no rows."""
    values = [row.top1_test for row in rows if row.top1_test is not None]
    return mean(values) if values else None


def shown(line: Line) -> list[str]:
    """The first two cells of a line; nothing is drawn for 0 shots."""
    label, shots = line
    return [label, str(shots) if shots else "-"]
