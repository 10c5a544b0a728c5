"""What the statistics say as tables, and in the lines below them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cacheclip.results import Row
from cacheclip.stats.averages import Mean, by_dataset, over_datasets
from cacheclip.stats.board import Board
from cacheclip.stats.bootstrap import TIMES
from cacheclip.stats.paired import LEVEL, Comparison, Pair
from cacheclip.stats.ranks import Ranks
from cacheclip.stats.trials import Trial
from cacheclip.study.table import Table, percent

FEW = 6  # units; the sign test of fewer cannot reach 0.05


def accuracies(board: Board) -> Iterator[tuple[str, Table]]:
    """Mean and deviation over seeds, with their title: shots across, or data sets with their mean.

    One table where there is one data set, else one a shot count.
    """
    datasets = board.datasets
    seeds = _seeds_column(board)
    headers = ["seeds"] if seeds else []
    if len(datasets) == 1:
        headers = ["method", *(_count(k, "shot") for k in board.shots), *headers]
        cells = [
            [
                label,
                *(_cell(by_dataset(_at(board, name, k)).get(datasets[0])) for k in board.shots),
                *seeds.get(name, []),
            ]
            for name, label in zip(board.names, board.labels, strict=True)
        ]
        yield "", (headers, cells)
        return
    for k in board.shots:
        lines = []
        for name, label in zip(board.names, board.labels, strict=True):
            values = _at(board, name, k)
            if not values:
                continue
            each = by_dataset(values)
            whole = over_datasets(values) if len(each) == len(datasets) else None
            means = [*(_cell(each.get(own)) for own in datasets), _cell(whole)]
            lines.append([label, *means, *seeds.get(name, [])])
        yield _count(k, "shot"), (["method", *datasets, "mean", *headers], lines)


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
    trials = _count(len(whole.pairs), "trial")
    on = f" on {next(iter(sets))}" if len(sets) == 1 else ""
    yield (
        f"difference in points{on}, over {trials}; 95 % by {TIMES:,} resamples of "
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
    yield (
        f"Friedman over {_units(board)}: chi squared {found.chi2:.1f}, p {_p(found.p)}; mean ranks "
        f"within {found.critical:.2f} (Nemenyi, {LEVEL}) share a letter"
    )


def no_ranks(found: Ranks, board: Board) -> Iterator[str]:
    """Why there is no table of ranks."""
    k = len(board.names)
    yield (
        f"no ranks: over {_units(board)} mean ranks of {k} methods would have to differ by "
        f"{found.critical:.1f}, and they differ by {k - 1} at most"
    )


def _units(board: Board) -> str:
    """What the ranks are over."""
    trials = board.common()
    sets = {trial.dataset for trial in trials}
    if len(sets) > 1:
        return f"{len(sets)} data sets"
    return f"{len({trial.seed for trial in trials})} seeds of one data set"


def given(board: Board) -> Iterator[str]:
    """The settings that were given and are in no name, a line a method."""
    found: dict[str, None] = {}
    for name, own in board.given.items():
        method, *parts = name.split("@")
        unsaid = [f"{n}={value}" for n, value in own.items() if f"{n}={value}" not in parts]
        if unsaid and name in board.rows:
            found[f"{method} was given {', '.join(unsaid)}"] = None
    yield from found


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
        seeds = sorted({trial.seed for trial in board.rows[name] if trial.seed is not None})
        more = {"given": dict(board.given[name]), "seeds": [] if row.seed is None else seeds}
        methods.append({"name": name, **run, **more, "means": means})
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


def _seeds_column(board: Board) -> dict[str, list[str]]:
    """The seeds of each contender; nothing where all have the same."""
    seeds = {name: [_seeds(own)] for name, own in board.rows.items()}
    every = {own[0] for own in seeds.values()} - {"-"}
    return seeds if len(every) > 1 or any("|" in own for own in every) else {}


def _seeds(rows: Mapping[Trial, Row]) -> str:
    """The seeds of a contender; where those of its data sets and shots differ, each once."""
    drawn = {trial: row for trial, row in rows.items() if row.seed is not None}
    each: dict[tuple[str, int | str], list[int]] = {}
    for trial in sorted(drawn, key=lambda trial: trial.order):
        each.setdefault((trial.dataset, trial.shots), []).append(trial.seed or 0)
    return " | ".join(dict.fromkeys(map(_ranges, each.values()))) or "-"


def _ranges(seeds: Sequence[int]) -> str:
    """Whole numbers, rising, with a dash for those between."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _cell(found: Mean | None) -> str:
    if found is None:
        return ""
    deviation = "" if found.deviation is None else f" ± {100 * found.deviation:.1f}"
    return percent(found.value) + deviation


def _count(n: int | str, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"
