"""Two contenders, trial by trial: which is better, by how much, and what that is worth."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from cacheclip.answers import predictions
from cacheclip.errors import StoreError
from cacheclip.stats.averages import over_datasets, over_seeds
from cacheclip.stats.board import Board
from cacheclip.stats.bootstrap import interval
from cacheclip.stats.exact import McNemar, sign_p, wilcoxon_p
from cacheclip.stats.trials import Trial
from cacheclip.study.table import by_number

TIE = 1e-9  # accuracies that differ by less are of equally many pictures
LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """One trial: accuracies as fractions, and how the pictures fell."""

    trial: Trial
    row_ids: tuple[str, str]
    first: float
    second: float
    pictures: McNemar | None


@dataclass(frozen=True)
class Comparison:
    """The difference of two contenders over some trials.

    Attributes:
        shots: of these trials; None of all shot counts together.
        pairs: the trials.
        units: of each data set, or of each seed where there is one data set alone, the difference.
        ci95: of the mean difference, as `bootstrap.interval` has it.
    """

    shots: int | str | None
    pairs: Sequence[Pair]
    units: Sequence[float]
    ci95: tuple[float, float] | None

    @property
    def first(self) -> float:
        """The mean accuracy of the first."""
        return over_datasets({pair.trial: pair.first for pair in self.pairs}).value

    @property
    def second(self) -> float:
        """The mean accuracy of the second."""
        return over_datasets({pair.trial: pair.second for pair in self.pairs}).value

    @property
    def outcomes(self) -> tuple[int, int, int]:
        """Trials that the first won, tied and lost."""
        gaps = [pair.first - pair.second for pair in self.pairs]
        won, lost = sum(gap > TIE for gap in gaps), sum(gap < -TIE for gap in gaps)
        return won, len(gaps) - won - lost, lost

    @property
    def sign(self) -> float:
        """Of the sign test over the units."""
        won, lost = (sum(sign * x > TIE for x in self.units) for sign in (1, -1))
        return sign_p(won, lost)

    @property
    def wilcoxon(self) -> float:
        """Of Wilcoxon's test over the units."""
        return wilcoxon_p([round(x, 12) if abs(x) > TIE else 0.0 for x in self.units])

    @property
    def told_apart(self) -> tuple[int, int, int]:
        """Trials in which McNemar's test finds the first or the second better, of how many."""
        tests = [pair.pictures for pair in self.pairs if pair.pictures]
        apart = [test for test in tests if test.p < LEVEL]
        first = sum(test.first_only > test.second_only for test in apart)
        return first, len(apart) - first, len(tests)

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        won, tied, lost = self.outcomes
        return {
            "shots": self.shots,
            "first": self.first,
            "second": self.second,
            "difference": self.first - self.second,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "won": won,
            "tied": tied,
            "lost": lost,
            "n_units": len(self.units),
            "sign_p": self.sign,
            "wilcoxon_p": self.wilcoxon,
        }


def compared(board: Board, notice: Callable[[str], None] = lambda text: None) -> list[Comparison]:
    """The two contenders of a board at each of their shot counts, and then at all together.

    Args:
        board: with two contenders.
        notice: called with a line where predictions of a trial are not there.

    Raises:
        StoreError: they have no trial in common.
    """
    trials = board.common()
    if not trials:
        raise _apart(board)
    pairs, lost = [], 0
    first, second = board.names
    for trial in trials:
        pictures = _pictures(board, trial)
        lost += pictures is None
        ids = (board.rows[first][trial].row_id, board.rows[second][trial].row_id)
        accuracies = (board.top1(first, trial), board.top1(second, trial))
        pairs.append(Pair(trial, ids, *accuracies, pictures))
    if lost:
        why = "several starts are one mean, or predictions lack"
        why = why if board.averaged else "predictions lack"
        notice(f"no picture by picture test of {lost} of {len(pairs)} trials: {why}")
    shots = sorted({pair.trial.shots for pair in pairs}, key=by_number)
    each = [_comparison(k, [pair for pair in pairs if pair.trial.shots == k]) for k in shots]
    return [*each, _comparison(None, pairs)] if len(shots) > 1 else each


def pair_json(pair: Pair) -> dict[str, Any]:
    """A pair as `--json` prints it."""
    pictures = pair.pictures
    return {
        **pair.trial._asdict(),
        "row_ids": list(pair.row_ids),
        "first": pair.first,
        "second": pair.second,
        "mcnemar": asdict(pictures) | {"p": pictures.p} if pictures else None,
    }


def _apart(board: Board) -> StoreError:
    """The contenders of a board share no trial."""
    return StoreError(
        f"{', '.join(board.names)} share no data set, shots and seed",
        where=str(board.root),
        fix=(board.lacking() or ["cacheclip compare"])[0],
    )


def _comparison(shots: int | str | None, pairs: Sequence[Pair]) -> Comparison:
    gaps = over_seeds({pair.trial: pair.first - pair.second for pair in pairs})
    of_sets = [mean(own.values()) for own in gaps.values()]
    units = of_sets if len(gaps) > 1 else [*next(iter(gaps.values())).values()]
    ci95 = interval({name: [*own.values()] for name, own in gaps.items()})
    return Comparison(shots, pairs, units, ci95)


def _pictures(board: Board, trial: Trial) -> McNemar | None:
    """How the pictures of a trial fell; None of several starts, or what was answered is lost."""
    rows = [own[trial] for own in board.rows.values()]
    if any(row.row_id in board.averaged for row in rows):
        return None
    try:
        first, second = (predictions(board.root, row.row_id) for row in rows)
    except StoreError:
        return None
    return McNemar.of(first.predicted == first.label, second.predicted == second.label)
