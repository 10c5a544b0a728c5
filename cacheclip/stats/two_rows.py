"""Which two rows of a log are meant: by their ids, or as the best of two contenders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cacheclip.methods import names as method_names
from cacheclip.results import Row, rows
from cacheclip.stats.board import Board, board
from cacheclip.stats.comparable import Wanted
from cacheclip.stats.one_row import row_named
from cacheclip.stats.trials import Trial
from cacheclip.study.table import by_number, of_one_kind


def two_rows(
    root: Path,
    asked: Sequence[str],
    wanted: Wanted,
    *,
    option: str = "",
    notice: Callable[[str], None] = lambda text: None,
) -> tuple[Row, Row]:
    """Two rows of a log.

    Of two contenders they are of one trial, if there is one that both have: at the most shots, the
    one in which validation pictures say most for the first. Test accuracy chooses nothing.

    Args:
        root: the folder that the log lies in.
        asked: two; each the first letters of a row's id, or a contender, METHOD@POLICY.
        wanted: which rows count.
        option: of the command line that reads there.
        notice: called with a line for the user where rows are left out.

    Raises:
        StoreError: there is no such row, or several are meant.
        UsageError: a name means no method, or both mean the same.
    """
    contenders = [name for name in asked if name.partition("@")[0] in method_names()]
    found = board(root, contenders, wanted, option=option, notice=notice) if contenders else None
    if found is not None and len(contenders) == 2 and found.common():
        return _of_one_trial(found)
    best = {}
    if found is not None:
        named = zip(contenders, found.rows.values(), strict=True)
        best = {name: own[_best(own)] for name, own in named}
    logged = [*rows(root).values()]
    meant = (best.get(name) or row_named(logged, name, root, option) for name in asked)
    return next(meant), next(meant)


def _of_one_trial(found: Board) -> tuple[Row, Row]:
    first, second = (found.rows[name] for name in found.names)
    best = _best({trial: first[trial] for trial in found.common()})
    return first[best], second[best]


def _best(rows: Mapping[Trial, Row]) -> Trial:
    """The trial at the most shots whose row validation pictures say most for."""
    most = max((trial.shots for trial in rows), key=by_number)
    rivals = [trial for trial in rows if trial.shots == most]
    kind = of_one_kind([rows[trial] for trial in rivals])
    rivals = [trial for trial in rivals if rows[trial] in kind]
    return max(rivals, key=lambda trial: rows[trial].top1_val or 0.0)
