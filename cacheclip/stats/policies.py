"""What choosing costs, and what choosing on the test pictures would have added: the honesty table.

Every policy of the log side by side with the best of all settings that the log has a test accuracy
of. That one is no result of a method: it read the answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from cacheclip.answers import curve
from cacheclip.curves import Point
from cacheclip.errors import StoreError, UsageError
from cacheclip.results import LOG, Row
from cacheclip.stats import contenders
from cacheclip.stats.averages import over_datasets, over_seeds
from cacheclip.stats.board import Board
from cacheclip.stats.bootstrap import interval
from cacheclip.stats.contenders import Given, marked
from cacheclip.stats.missing import absent
from cacheclip.stats.trials import Trial
from cacheclip.study.table import ORACLE, Table, by_number, of_shots, percent

FIXED = "fixed"
MOST = 64  # settings of a grid that a command makes


@dataclass(frozen=True)
class Honesty:
    """A method at a shot count, over the trials with its whole grid that all its policies have.

    The whole grid is as many settings as the fullest of its trials has under `fixed`.

    Attributes:
        method: with its recipe, where it has one.
        like: one of its rows.
        shots: support images a class.
        policies: each policy's accuracy, a trial; `fixed` is the method's constants. Settings
            that were given to a policy make it one of its own, such as fewshot-val@epochs=2.
        best: of each trial, among all settings that were tested in it.
        n_settings: how many these are in a trial, the fewest and the most.
        n_trials: how many there are, those that are not counted among them.
        searched: whether `test-oracle` tried further settings on the test pictures.
    """

    method: str
    like: Row
    shots: int | str
    policies: Mapping[str, Mapping[Trial, float]]
    best: Mapping[Trial, float]
    n_settings: tuple[int, int]
    n_trials: int
    searched: bool = False

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
            "trials_left_out": self.n_trials - len(self.best),
            "policies": policies,
            "best_on_test": over_datasets(self.best).value,
            "n_settings": self.n_settings[0],
            "most_settings": self.n_settings[1],
            "searched_on_test": self.searched,
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
    policies = _named(board)
    found = [
        line
        for name, trials in rows.items()
        for shots in sorted({trial.shots for trial in trials}, key=by_number)
        if (line := _line(name, shots, trials, policies))
    ]
    if not found:
        here = f"of {', '.join(methods)} the log has" if methods else "the log has of each method"
        what = "no trial with several settings and all of its policies"
        if not unlisted(board, found, methods):
            what = "one policy and one setting in each trial"
        raise StoreError(
            f"{here} {what}",
            where=str(board.root / LOG),
            fix=(lacking(board, methods) or [f"cacheclip compare{board.makers.option}"])[0],
        )
    return found


def unlisted(board: Board, found: Sequence[Honesty], methods: Sequence[str] = ()) -> list[str]:
    """The methods and shot counts of several policies that make no line."""
    lines = {(line.method, line.shots) for line in found}
    return [
        f"{name} at {of_shots(shots)}"
        for name, trials in _by_method(board, methods).items()
        for shots in sorted({trial.shots for trial in trials} - {0}, key=by_number)
        if (name, shots) not in lines
        and len({row.select for t, rows in trials.items() if t.shots == shots for row in rows}) > 1
    ]


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
        fewest, most = line.n_settings
        counts = (str(fewest) if fewest == most else f"{fewest}-{most}") + "+" * line.searched
        n = len(line.best)
        trials = str(n) if n == line.n_trials else f"{n} of {line.n_trials}"
        best = [percent(over_datasets(line.best).value), counts, trials]
        cells.append([marked(line.method, line.like), str(line.shots), *own, *best])
    return ["method", "shots", *policies, "best on test", "settings", "trials"], cells


def lacking(board: Board, methods: Sequence[str] = ()) -> list[str]:
    """The commands that test what a policy chose from, or that let one choose from what was tested.

    They try `MOST` settings at most, evenly through those that competed.
    """
    commands = []
    for trials in _by_method(board, methods).values():
        every = [row for rows in trials.values() for row in rows]
        chosen = [row for row in every if row.select != FIXED]
        fixed = [row for row in every if row.select == FIXED]
        grid, size = _grid(board, trials)
        kept = contenders.given(every)[chosen[0].row_id] if chosen else {}
        wanted = [  # what it is like, what it is given, and the trials that lack it
            (
                chosen or fixed,
                {**kept, **grid},
                [t for t, x in trials.items() if _n_fixed(x) < size],
            ),
            (chosen, {}, [t for t, x in trials.items() if not any(r.constants for r in x)]),
        ]
        for rows, given, lost in wanted if chosen or size > 1 else []:
            for dataset in dict.fromkeys(trial.dataset for trial in lost if rows):
                here = [trial for trial in lost if trial.dataset == dataset]
                commands += board.makers.of(replace(rows[0], select=FIXED), here, given)
        commands += _policies_lacking(board, trials)
        if not chosen:
            for dataset in dict.fromkeys(trial.dataset for trial in trials):
                here = [trial for trial in trials if trial.dataset == dataset]
                commands += board.makers.of(replace(fixed[0], select="fewshot-val"), here, {})
    return commands


def _policies_lacking(board: Board, trials: Mapping[Trial, Sequence[Row]]) -> list[str]:
    """The commands that choose by each policy of a method where others of its policies chose."""
    named = _named(board)
    given = contenders.given([row for rows in trials.values() for row in rows])
    by_policy: dict[str, dict[Trial, Row]] = {}
    for trial, rows in trials.items():
        for row in (row for row in rows if row.select != FIXED):
            by_policy.setdefault(named[row.row_id], {})[trial] = row
    commands = []
    for own in by_policy.values():
        like = next(iter(own.values()))
        for dataset in dict.fromkeys(trial.dataset for trial in trials):
            lost = [t for t in trials if t.dataset == dataset and t not in own]
            commands += board.makers.of(like, lost, given[like.row_id]) if lost else []
    return commands


def _named(board: Board) -> dict[str, str]:
    """row_id -> its policy, with the settings that tell it from others of that policy."""
    return {
        row.row_id: "@".join([row.select, *(part for part in name.split("@") if "=" in part)])
        for name, own in board.rows.items()
        for row in own.values()
    }


def _grid(board: Board, trials: Mapping[Trial, Sequence[Row]]) -> tuple[Given, int]:
    """The settings that each trial should have been tested with, and how many they are.

    They are those of the trial that has the most; where these vary nothing that policies chose,
    what they chose from.
    """
    chosen = [row for rows in trials.values() for row in rows if row.select != FIXED]
    grid = grid_of(chosen, board.root)
    fullest = max(trials, key=lambda trial: _n_fixed(trials[trial]))
    tested: dict[str, dict[str, None]] = {}
    for name, own in board.rows.items():
        row = own.get(fullest)
        if row is not None and row in trials[fullest] and row.select == FIXED:
            for setting, value in board.given[name].items():
                tested.setdefault(setting, {})[value] = None
    if grid and not set(grid) & set(tested):
        return grid, prod(len(values.split(",")) for values in grid.values())
    return {name: ",".join(own) for name, own in tested.items()}, _n_fixed(trials[fullest])


def _n_fixed(rows: Sequence[Row]) -> int:
    """How many settings were tested on purpose."""
    return len({_settings(row) for row in rows if row.select == FIXED})


def grid_of(rows: Sequence[Row], root: Path) -> Given:
    """What competed for rows: the values of each setting that varied.

    Args:
        rows: of a log.
        root: the folder that the log lies in.
    """
    tried: dict[str, dict[Any, None]] = {}
    for row in rows:
        for point in _competed(row, root):
            for name, value in point["hparams"].items():
                tried.setdefault(name, {})[value] = None
    varied = {name: list(values) for name, values in tried.items() if len(values) > 1}
    each = int(MOST ** (1 / len(varied)) + 1e-9) if varied else 0
    return {name: ",".join(map(_rounded, _evenly(own, each))) for name, own in varied.items()}


def _competed(row: Row, root: Path) -> Sequence[Point]:
    """The curve of a row, in it or beside its predictions; nothing where that is lost."""
    if row.curve is not None or not row.n_val:
        return row.curve or ()
    try:
        return curve(root, row.row_id) or ()
    except StoreError:
        return ()


def _evenly(values: list[Any], n: int) -> list[Any]:
    """At most n of the values, with the first and the last; numbers rising, words as tried."""
    if all(isinstance(value, int | float) for value in values):
        values = sorted(values)
    if len(values) <= n or n == 1:
        return values[:n]
    return [values[round(k * (len(values) - 1) / (n - 1))] for k in range(n)]


def _by_method(board: Board, methods: Sequence[str]) -> dict[str, dict[Trial, list[Row]]]:
    """Method, with its recipe if it has one -> trial -> its rows.

    Raises:
        StoreError: the log has no rows of a method.
        UsageError: it is none, or one that draws nothing, or has no settings.
    """
    found: dict[str, dict[Trial, list[Row]]] = {}
    every = [row for own in board.rows.values() for row in own.values()]
    drawing = {row.method for row in every if row.shots}  # with some policy, at least
    settled = {row.method for row in every if row.hparams}
    for own in board.rows.values():
        for trial, row in own.items():
            name = f"{row.method}@{row.recipe}" if row.recipe else row.method
            asked = not methods or row.method in methods
            if trial.shots and row.method in drawing & settled and asked:
                found.setdefault(name, {}).setdefault(trial, []).append(row)
    for method in methods:
        if method in {row.method for row in every} - drawing:
            raise UsageError(
                f"{method} draws nothing, so nothing is chosen for it",
                where=str(board.root / LOG),
                fix="name methods that learn from support pictures, or none for all",
            )
        if method in drawing - settled:
            raise UsageError(
                f"{method} has no settings, so nothing is chosen for it",
                where=str(board.root / LOG),
                fix="name methods that have settings, or none for all",
            )
        if method not in {name.partition("@")[0] for name in found}:
            raise absent(method, board.makers, board.left_out)
    return found


def _line(
    name: str,
    shots: int | str,
    trials: Mapping[Trial, Sequence[Row]],
    named: Mapping[str, str],
) -> Honesty | None:
    """None where every trial saw one setting alone, or the policies share none.

    Args:
        name: of the method.
        shots: of the trials that count.
        trials: all of the method, with their rows.
        named: row_id -> its policy, with the settings that tell it from others of that policy.
    """
    here = {trial: rows for trial, rows in trials.items() if trial.shots == shots}
    policies: dict[str, dict[Trial, float]] = {}
    for trial, rows in here.items():
        alone = _n_fixed(rows) == 1
        for row in rows:
            if row.select != FIXED or row.constants or (row.constants is None and alone):
                policy = FIXED if row.select == FIXED else named[row.row_id]
                policies.setdefault(policy, {})[trial] = row.top1_test or 0.0
    chosen = _cells(here, policies)
    if chosen is None:
        return None
    names, shared = chosen
    tested = [len({_settings(row) for row in here[trial]}) for trial in shared]
    counted = [row for trial in shared for row in here[trial]]
    return Honesty(
        name,
        min(counted, key=lambda row: row.select == ORACLE),  # which marks a policy, not a method
        shots,
        {policy: {trial: policies[policy][trial] for trial in shared} for policy in names},
        {trial: max(row.top1_test or 0.0 for row in here[trial]) for trial in shared},
        (min(tested), max(tested)),
        len(here),
        any(row.select == ORACLE for row in counted),
    )


def _cells(
    here: Mapping[Trial, Sequence[Row]], policies: Mapping[str, Mapping[Trial, float]]
) -> tuple[list[str], list[Trial]] | None:
    """The policies and the trials that count; None where no trial saw more than one setting.

    These are the policies of one data set, and all trials that have them and as many settings as
    its fullest: first of several policies, then with the most settings, then the most numbers. So
    what one data set alone was tried with hides no other.
    """
    found = []
    for dataset in dict.fromkeys(trial.dataset for trial in here):
        own = [trial for trial in here if trial.dataset == dataset]
        full = max(_n_fixed(here[trial]) for trial in own)
        whole = [trial for trial in own if _n_fixed(here[trial]) == full]
        names = [name for name, values in policies.items() if any(t in values for t in whole)]
        shared = [
            trial
            for trial, rows in here.items()
            if _n_fixed(rows) >= full and all(trial in policies[name] for name in names)
        ]
        several = any(len({_settings(row) for row in here[trial]}) > 1 for trial in shared)
        if names and several:
            found.append(((len(names) > 1, full, len(names) * len(shared)), names, shared))
    if not found:
        return None
    _, names, shared = max(found, key=lambda each: each[0])
    return names, shared


def _settings(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, _rounded(value)) for name, value in row.hparams.items()))


def _rounded(value: Any) -> str:
    """A setting to six digits: a search finds numbers in float32."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
