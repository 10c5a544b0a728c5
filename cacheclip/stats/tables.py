"""What the statistics say as tables, and in the lines below them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cacheclip.stats.averages import Mean, by_dataset, over_datasets
from cacheclip.stats.board import Board, Trial
from cacheclip.stats.bootstrap import TIMES
from cacheclip.stats.paired import LEVEL, Comparison, Pair
from cacheclip.stats.ranks import Ranks
from cacheclip.study.table import Table, percent

FEW = 6  # units; the sign test of fewer cannot reach 0.05


def accuracies(board: Board) -> Iterator[tuple[str, Table]]:
    """Mean and deviation over seeds, with their title: shots across, or data sets with their mean.

    One table where there is one data set, else one a shot count.
    """
    datasets = board.datasets
    if len(datasets) == 1:
        headers = ["method", *(f"{k} shot{'' if k == 1 else 's'}" for k in board.shots)]
        cells = [
            [label, *(_cell(by_dataset(_at(board, name, k)).get(datasets[0])) for k in board.shots)]
            for name, label in zip(board.names, board.labels, strict=True)
        ]
        yield "", (headers, cells)
        return
    for k in board.shots:
        lines = []
        for name, label in zip(board.names, board.labels, strict=True):
            values = _at(board, name, k)
            each = by_dataset(values)
            whole = over_datasets(values) if len(each) == len(datasets) else None
            lines.append([label, *(_cell(each.get(own)) for own in datasets), _cell(whole)])
        yield f"{k} shot{'' if k == 1 else 's'}", (["method", *datasets, "mean"], lines)


def differences(found: Sequence[Comparison], names: Sequence[str]) -> Table:
    """Two contenders: a line a shot count, and one of all together."""
    headers = ["shots", *names, "difference", "95 %", "won-tied-lost"]
    headers += ["sign p", "Wilcoxon p", "McNemar"]
    cells = []
    for own in found:
        first, second, n = own.told_apart
        cells.append(
            [
                "all" if own.shots is None else str(own.shots),
                percent(own.first),
                percent(own.second),
                f"{100 * (own.first - own.second):+.1f}",
                "-" if own.ci95 is None else " to ".join(f"{100 * x:+.1f}" for x in own.ci95),
                "-".join(map(str, own.outcomes)),
                _p(own.sign),
                _p(own.wilcoxon),
                f"{first} : {second} of {n}" if n else "-",
            ]
        )
    return headers, cells


def pairs(found: Sequence[Pair], names: Sequence[str]) -> Table:
    """Trial by trial."""
    headers = ["data set", "shots", "seed", *names, *(f"{name} alone" for name in names), "p"]
    cells = []
    for pair in found:
        trial, test = pair.trial, pair.pictures
        fell = [str(test.first_only), str(test.second_only), _p(test.p)] if test else ["-"] * 3
        seed = "-" if trial.seed is None else str(trial.seed)
        accuracies = [percent(pair.first), percent(pair.second)]
        cells.append([trial.dataset, str(trial.shots), seed, *accuracies, *fell])
    return headers, cells


def worth(whole: Comparison) -> Iterator[str]:
    """What the differences are worth, a line each.

    Args:
        whole: of all trials.
    """
    sets = {pair.trial.dataset for pair in whole.pairs}
    yield (
        f"difference in points, over {len(whole.pairs)} trials; 95 % by {TIMES:,} resamples of "
        + ("data sets, then of their seeds" if len(sets) > 1 else "its seeds, so of no other data")
    )
    n = len(whole.units)
    few = f": {n} cannot give a p below {2 / 2**n:.3g}, and the interval is too narrow" * (n < FEW)
    units = "data sets" if len(sets) > 1 else "seeds of one data set"
    yield f"sign and Wilcoxon p, exact and two-sided, over {n} {units}{few}"
    if whole.told_apart[2]:
        yield f"McNemar: trials with p < {LEVEL} picture by picture for the one : for the other"


def ranks(found: Ranks, board: Board) -> Table:
    """Methods by mean rank; those that share a letter are not told apart."""
    letters = dict.fromkeys(range(len(board.names)), "")
    for run, letter in zip(found.groups, _letters(), strict=False):
        for k in run:
            letters[k] += letter
    order = found.mean.argsort(kind="stable")
    cells = [[board.labels[k], f"{found.mean[k]:.2f}", letters[k]] for k in order]
    return ["method", "mean rank", "group"], cells


def rank_notes(found: Ranks, board: Board) -> Iterator[str]:
    """What the ranks are worth."""
    trials = board.common()
    sets = {trial.dataset for trial in trials}
    n = len(sets) if len(sets) > 1 else len({trial.seed for trial in trials})
    what = f"{n} data sets" if len(sets) > 1 else f"{n} seeds of one data set"
    yield (
        f"Friedman over {what}: chi squared {found.chi2:.1f}, p {_p(found.p)}; mean ranks within "
        f"{found.critical:.2f} (Nemenyi, {LEVEL}) share a letter"
    )


def as_json(board: Board, ranked: Ranks | None) -> dict[str, Any]:
    """Means of every contender, and their ranks, as `--json` prints them. Fractions."""
    methods = []
    for name in board.names:
        row = next(iter(board.rows[name].values()))
        means = [
            {"shots": k, "mean": _json(over_datasets(own)), "datasets": _each(by_dataset(own))}
            for k in board.shots
            if (own := _at(board, name, k))
        ]
        run = {
            "method": row.method,
            "select": row.select,
            "recipe": row.recipe,
            "setting": row.setting,
        }
        methods.append({"name": name, **run, "means": means})
    answer: dict[str, Any] = {"methods": methods, "missing": board.lacking()}
    if ranked:
        answer["friedman"] = {
            "mean_ranks": dict(zip(board.names, ranked.mean.tolist(), strict=True)),
            "chi2": ranked.chi2,
            "p": ranked.p,
            "critical_difference": ranked.critical,
            "groups": [[board.names[k] for k in run] for run in ranked.groups],
        }
    return answer


def _each(found: Mapping[str, Mean]) -> dict[str, Any]:
    return {name: _json(own) for name, own in found.items()}


def _json(found: Mean) -> dict[str, float | None]:
    return {"value": found.value, "deviation": found.deviation, "n": found.n}


def _letters() -> Iterator[str]:
    for k in range(26**2):
        yield (chr(97 + k // 26 - 1) if k >= 26 else "") + chr(97 + k % 26)


def _at(board: Board, name: str, shots: int | str) -> dict[Trial, float]:
    """A contender's accuracies at these shots; one a data set where it draws nothing."""
    rows = {trial: row for trial, row in board.rows[name].items() if trial.shots == shots}
    once = {row.row_id: trial for trial, row in rows.items()}
    return {trial: board.top1(name, trial) for trial in once.values()}


def _cell(found: Mean | None) -> str:
    if found is None:
        return ""
    deviation = "" if found.deviation is None else f" ± {100 * found.deviation:.1f}"
    return percent(found.value) + deviation


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"
