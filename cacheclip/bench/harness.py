"""How everything is timed: ours and each baseline in turn (A B A B ...), round after round.

To add a case, yield a `Case` from `cases(setup)` in a suite's file: `ours` and the baselines are
functions with the units of work that one call does, so that a part of a job stands for the whole.
`check` compares their outputs first and raises `FitError` where they differ: no time without it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import torch

from cacheclip.bench.machine import Rates
from cacheclip.bench.shapes import Shape

ROUNDS = 5

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Setup:
    """What the suites are asked to time, and where."""

    shape: Shape
    variants: int
    device: torch.device
    rates: Rates
    rounds: int = ROUNDS


@dataclass(frozen=True)
class Timed:
    """Something to time.

    Attributes:
        run: does the work.
        units: units of work that one call does.
        gives_apart: whether `run` gives seconds within it that do not count, such as a start-up.
    """

    run: Callable[[], Any]
    units: float = 1.0
    gives_apart: bool = False


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: what is timed.
        unit: what the seconds are of.
        ours: this package.
        baselines: what it is compared with, by name.
        says: what a figure must say: batch size, epochs, optimizer, precision, steps timed.
        floor: parts that none can leave out, by name; their times add up to the ceiling.
        limit: or the ceiling in seconds a unit, from the rates measured in this run.
        whole: units of a whole job, to which seconds are scaled.
        job: what a whole job is.
        check: compares outputs, raises FitError, and gives what it saw.
        rounds: times that each is timed; None takes those of the setup.
        warm_up: whether each is called once before; a long one needs it least.
    """

    name: str
    unit: str
    ours: Timed
    baselines: Mapping[str, Timed]
    says: Mapping[str, Any]
    floor: Mapping[str, Timed] = field(default_factory=dict)
    limit: float | None = None
    whole: float = 1.0
    job: str = ""
    check: Callable[[], Mapping[str, Any]] = dict
    rounds: int | None = None
    warm_up: bool = True


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, and their least and greatest."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Result:
    """A case's figures.

    Attributes:
        seconds: a unit, of `ours`, each baseline and each part of the floor.
        ratio: baseline -> its time over ours, from pairs within a round.
        ceiling: share of the floor in our time, or None where a case has no floor.
        jobs_per_second: whole jobs, of ours and each baseline.
    """

    suite: str
    case: str
    unit: str
    says: Mapping[str, Any]
    checked: Mapping[str, Any]
    rounds: int
    seconds: Mapping[str, Spread]
    ratio: Mapping[str, Spread]
    ceiling: Spread | None
    job: str
    jobs_per_second: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """The result as a record holds it."""
        return asdict(self)


def measure(
    suite: str, case: Case, setup: Setup, progress: Progress = lambda what, done, total: None
) -> Result:
    """Check a case, warm every contender up, and time them in turn."""
    rounds = case.rounds or setup.rounds
    contenders = {"ours": case.ours, **case.baselines, **case.floor}
    turns = rounds + case.warm_up
    progress(case.name, 0, turns * len(contenders))
    checked = case.check()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns):
        for place, (name, timed) in enumerate(contenders.items()):
            times[name].append(clock(timed, setup.device))
            progress(case.name, turn * len(contenders) + place + 1, turns * len(contenders))
    counted = {name: seconds[case.warm_up :] for name, seconds in times.items()}
    return summarise(suite, case, checked, counted)


def clock(timed: Timed, device: torch.device) -> float:
    """Seconds a unit of one call."""
    _finish(device)
    start = perf_counter()
    given = timed.run()
    _finish(device)
    apart = float(given) if timed.gives_apart else 0.0
    return (perf_counter() - start - apart) / timed.units


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def summarise(
    suite: str, case: Case, checked: Mapping[str, Any], times: Mapping[str, list[float]]
) -> Result:
    """Medians and ratios of seconds a unit, one list entry a round."""
    ours = times["ours"]
    floor = [sum(parts) for parts in zip(*(times[name] for name in case.floor), strict=True)]
    if case.limit is not None:
        floor = [case.limit] * len(ours)
    return Result(
        suite=suite,
        case=case.name,
        unit=case.unit,
        says=case.says,
        checked=checked,
        rounds=len(ours),
        seconds={name: _spread(list(seconds)) for name, seconds in times.items()},
        ratio={name: _spread(_over(times[name], ours)) for name in case.baselines},
        ceiling=_spread(_over(floor, ours)) if floor else None,
        job=case.job,
        jobs_per_second={
            name: 1 / (median(times[name]) * case.whole) for name in ("ours", *case.baselines)
        },
    )


def _over(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def cells(results: list[Result]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table: one row a case and baseline."""
    headers = ["case", "one", "ours", "against", "takes", "ratio", "range", "of ceiling"]
    return headers, [row for result in results for row in _rows(result)]


def _rows(result: Result) -> Iterator[list[str]]:
    share = f"{100 * result.ceiling.median:.0f} %" if result.ceiling else "-"
    lead = [result.case, result.unit, duration(result.seconds["ours"].median)]
    if not result.ratio:
        yield [*lead, "-", "-", "-", "-", share]
    for name, ratio in result.ratio.items():
        takes = duration(result.seconds[name].median)
        spread = f"{_times(ratio.least)}-{_times(ratio.most)}"
        yield [*lead, name, takes, _times(ratio.median), spread, share]
        lead, share = ["", "", ""], ""


def _times(ratio: float) -> str:
    """Two places, or two digits of a small one."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def duration(seconds: float) -> str:
    """Seconds with three digits and a fitting unit."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
