"""What choosing costs, and what choosing on the test pictures would have added: the honesty table.

Every policy of the log side by side with the best of all settings that the log has a test accuracy
of. That one is no result of a method: it read the answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cacheclip.errors import StoreError, UsageError
from cacheclip.results import LOG, Row
from cacheclip.stats.averages import over_datasets, over_seeds
from cacheclip.stats.board import Board, Trial, absent, compare_command, marked
from cacheclip.stats.bootstrap import interval
from cacheclip.study.table import Table, by_number, percent

FIXED = "fixed"
MOST = 64  # settings of a grid that a command makes


@dataclass(frozen=True)
class Honesty:
    """A method at a shot count, over the trials that all its policies have.

    Attributes:
        method: with its recipe, where it has one.
        like: one of its rows.
        shots: support images a class.
        policies: each policy's accuracy, a trial; `fixed` is the method's constants.
        best: of each trial, among all settings that were tested in it.
        n_settings: how many these are, the fewest of a trial.
    """

    method: str
    like: Row
    shots: int | str
    policies: Mapping[str, Mapping[Trial, float]]
    best: Mapping[Trial, float]
    n_settings: int

    def price(self, policy: str) -> float:
        """What the best on test has over a policy."""
        return over_datasets(self.best).value - over_datasets(self.policies[policy]).value

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it: fractions."""
        policies = {}
        for name, own in self.policies.items():
            gaps = over_seeds({trial: self.best[trial] - own[trial] for trial in own})
            ci95 = interval({dataset: [*gap.values()] for dataset, gap in gaps.items()})
            policies[name] = {
                "top1_test": over_datasets(own).value,
                "price": self.price(name),
                "ci95": None if ci95 is None else list(ci95),
            }
        return {
            "method": self.method,
            "setting": self.like.setting,
            "shots": self.shots,
            "trials": len(self.best),
            "policies": policies,
            "best_on_test": over_datasets(self.best).value,
            "n_settings": self.n_settings,
        }


def honesty(board: Board, methods: Sequence[str] = ()) -> list[Honesty]:
    """A line a method and shot count of which the log has several settings or policies.

    Args:
        board: of all contenders.
        methods: names; by default all that draw anything.

    Raises:
        StoreError: the log has no rows of a method, or of none more than one of a trial.
    """
    rows = _by_method(board, methods)
    found = [
        line
        for name, trials in rows.items()
        for shots in sorted({trial.shots for trial in trials}, key=by_number)
        if (line := _line(name, shots, trials))
    ]
    if not found:
        raise StoreError(
            "of no method does the log have two policies, or two settings, in one trial",
            where=str(board.root / LOG),
            fix=(lacking(board, methods) or [f"cacheclip compare{board.option}"])[0],
        )
    return found


def table(found: Sequence[Honesty]) -> Table:
    """A line a method and shot count; in brackets what the best on test has over a policy."""
    policies = list(dict.fromkeys(name for line in found for name in line.policies))
    cells = []
    for line in found:
        own = [
            f"{percent(over_datasets(line.policies[name]).value)} ({100 * line.price(name):+.1f})"
            if name in line.policies
            else ""
            for name in policies
        ]
        best = [percent(over_datasets(line.best).value), str(line.n_settings), str(len(line.best))]
        cells.append([marked(line.method, line.like), str(line.shots), *own, *best])
    return ["method", "shots", *policies, "best on test", "settings", "trials"], cells


def lacking(board: Board, methods: Sequence[str] = ()) -> list[str]:
    """The commands that test what a policy chose from, or that let one choose from what was tested.

    They try `MOST` settings at most, evenly through those that competed.
    """
    commands = []
    for trials in _by_method(board, methods).values():
        for dataset in dict.fromkeys(trial.dataset for trial in trials):
            own = {trial: rows for trial, rows in trials.items() if trial.dataset == dataset}
            rows = [row for made in own.values() for row in made]
            make = partial(compare_command, trials=list(own), option=board.option)
            chosen = [row for row in rows if row.select != FIXED]
            fixed = [row for row in rows if row.select == FIXED]
            grid = grid_of(chosen)
            if grid and len({_settings(row) for row in fixed}) < 2:
                commands.append(make(replace(chosen[0], select=FIXED), settings=grid))
            if chosen and not any(row.constants for row in fixed):
                commands.append(make(replace(chosen[0], select=FIXED)))
            if fixed and not chosen:
                commands.append(make(replace(fixed[0], select="fewshot-val")))
    return commands


def grid_of(rows: Sequence[Row]) -> list[str]:
    """What competed for rows, as NAME=VALUE,VALUE of each setting that varied."""
    tried: dict[str, dict[Any, None]] = {}
    for row in rows:
        for point in row.curve or ():
            for name, value in point["hparams"].items():
                tried.setdefault(name, {})[value] = None
    varied = {name: list(values) for name, values in tried.items() if len(values) > 1}
    each = int(MOST ** (1 / len(varied)) + 1e-9) if varied else 0
    return [f"{name}={','.join(map(_rounded, _evenly(own, each)))}" for name, own in varied.items()]


def _evenly(values: list[Any], n: int) -> list[Any]:
    """At most n of the values, with the first and the last; numbers rising, words as tried."""
    if all(isinstance(value, int | float) for value in values):
        values = sorted(values)
    if len(values) <= n:
        return values
    return [values[round(k * (len(values) - 1) / (n - 1))] for k in range(n)]


def _by_method(board: Board, methods: Sequence[str]) -> dict[str, dict[Trial, list[Row]]]:
    """Method, with its recipe if it has one -> trial -> its rows.

    Raises:
        StoreError: the log has no rows of a method.
        UsageError: it is none, or one that draws nothing.
    """
    found: dict[str, dict[Trial, list[Row]]] = {}
    unchosen = {row.method for own in board.rows.values() for row in own.values() if not row.shots}
    for own in board.rows.values():
        for trial, row in own.items():
            name = f"{row.method}@{row.recipe}" if row.recipe else row.method
            if row.shots and (not methods or row.method in methods):
                found.setdefault(name, {}).setdefault(trial, []).append(row)
    for method in methods:
        if method in unchosen:
            raise UsageError(
                f"{method} draws nothing, so nothing is chosen for it",
                where=str(board.root / LOG),
                fix="name methods that learn from support pictures, or none for all",
            )
        if method not in {name.partition("@")[0] for name in found}:
            raise absent(method, board)
    return found


def _line(name: str, shots: int | str, trials: Mapping[Trial, Sequence[Row]]) -> Honesty | None:
    """None where every trial saw one setting alone, or the policies share none."""
    here = {trial: rows for trial, rows in trials.items() if trial.shots == shots}
    policies: dict[str, dict[Trial, float]] = {}
    for trial, rows in here.items():
        alone = len({_settings(row) for row in rows if row.select == FIXED}) == 1
        for row in rows:
            if row.select != FIXED or row.constants or (row.constants is None and alone):
                policies.setdefault(row.select, {})[trial] = row.top1_test or 0.0
    shared = [trial for trial in here if all(trial in own for own in policies.values())]
    tested = [len({_settings(row) for row in here[trial]}) for trial in shared]
    if not policies or max(tested, default=0) < 2:
        return None
    return Honesty(
        name,
        next(iter(here.values()))[0],
        shots,
        {policy: {trial: own[trial] for trial in shared} for policy, own in policies.items()},
        {trial: max(row.top1_test or 0.0 for row in here[trial]) for trial in shared},
        min(tested),
    )


def _settings(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, _rounded(value)) for name, value in row.hparams.items()))


def _rounded(value: Any) -> str:
    """A setting to six digits: a search finds numbers in float32."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
