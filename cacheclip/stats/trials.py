"""Trials: problems that one accuracy answers, and the row that each contender has there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import NamedTuple

from cacheclip.results import Row
from cacheclip.study.table import by_number


class Trial(NamedTuple):
    """A data set, shots, and the seed of the draw: 0 and None where nothing is drawn."""

    dataset: str
    shots: int | str
    seed: int | None

    @property
    def order(self) -> tuple[str, float, int]:
        """Data set by data set, shots rising."""
        return self.dataset, by_number(self.shots), self.seed or 0


def of_contenders(
    by_name: Mapping[str, Sequence[Row]],
) -> tuple[dict[str, dict[Trial, Row]], list[Row], set[str]]:
    """The row of each contender in each trial, and the rows that a later one stands for.

    What draws nothing has its one row in each trial of its data set that another contender has. Of
    several starts of one draw the row is the last, with the mean of their test accuracies; these
    rows' ids come third.
    """
    of_set: dict[str, set[Trial]] = {}
    for row in (row for own in by_name.values() for row in own):
        of_set.setdefault(row.dataset, set()).add(_trial(row))
    met: dict[str, list[Trial]] = {}
    for dataset, there in of_set.items():
        drawn = {trial for trial in there if trial.shots}
        seeded = {trial for trial in there if trial.seed is not None}
        met[dataset] = sorted(drawn or seeded or there, key=lambda trial: trial.order)
    found: dict[str, dict[Trial, Row]] = {}
    doubled, averaged = [], set()
    for name, own in by_name.items():
        starts: dict[Trial, dict[int | None, Row]] = {}
        for row in own:
            everywhere = [t for t in met[row.dataset] if row.seed in (None, t.seed)]
            trials = [_trial(row)] if row.shots else everywhere
            before = [starts.setdefault(t, {}).get(row.init_seed) for t in trials]
            if any(other and other.select == row.select for other in before):
                doubled.append(row)
            for t in trials:
                starts[t][row.init_seed] = row
        found[name] = {trial: _of_starts([*rows.values()]) for trial, rows in starts.items()}
        averaged |= {found[name][trial].row_id for trial, rows in starts.items() if len(rows) > 1}
    return found, doubled, averaged


def _of_starts(rows: Sequence[Row]) -> Row:
    """One row for those of several starts."""
    if len(rows) == 1:
        return rows[0]
    return replace(rows[-1], top1_test=mean(row.top1_test or 0.0 for row in rows))


def _trial(row: Row) -> Trial:
    return Trial(row.dataset, row.shots, row.seed)
