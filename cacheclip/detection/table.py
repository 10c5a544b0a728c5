"""Results on several pairs of scenes as a table, with what a difference from zero-shot is worth."""

from collections.abc import Sequence
from math import isnan, nan, sqrt
from statistics import mean, stdev

from scipy.special import stdtrit

from cacheclip.detection.run import ALL, BASE, NOVEL, Result
from cacheclip.errors import counted

FIRST = "zero-shot"
HEADERS = ["method", "AP50 base", "AP50 novel", "AP50 all", "AP novel", "AP all"]
GAIN = "AP50 novel beside zero-shot [95 %]"

Line = tuple[str, int]  # method, rounds of self-training


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headers and cells: a line a method and round, percent, means over pairs."""
    lines: dict[Line, list[Result]] = {}
    for result in results:
        lines.setdefault((result.method, result.rounds), []).append(result)
    floor = lines.get((FIRST, 0), [])
    cells = []
    for (method, rounds), own in lines.items():
        means = [
            *(mean(x.mean(which) for x in own) for which in (BASE, NOVEL, ALL)),
            *(mean(x.mean(which, "ap") for x in own) for which in (NOVEL, ALL)),
        ]
        label = method + (f", self-trained {rounds}x" if rounds else "")
        gains = [x.mean(NOVEL) - y.mean(NOVEL) for x, y in zip(own, floor, strict=False)]
        told = "" if own is floor else gain(gains)
        cells.append([label, *("" if isnan(x) else f"{100 * x:.1f}" for x in means), told])
    return [*HEADERS, *([GAIN] if floor else [])], [c if floor else c[:-1] for c in cells]


def gain(differences: Sequence[float]) -> str:
    """A mean of paired differences in points, with its interval; "" where there is none."""
    if not differences or any(map(isnan, differences)):  # no novel class is in a picture
        return ""
    low, high = interval(differences)
    told = f"{100 * mean(differences):+.1f}"
    return told if isnan(low) else f"{told} [{100 * low:+.1f}, {100 * high:+.1f}]"


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of paired differences; nan of one alone."""
    n = len(differences)
    if n < 2:
        return nan, nan
    half = float(stdtrit(n - 1, 0.975)) * stdev(differences) / sqrt(n)
    return mean(differences) - half, mean(differences) + half


def notes(results: Sequence[Result]) -> list[str]:
    """What the numbers are, a line each."""
    n = len({own.seed for own in results})
    classes, novel = len(results[0].novel), int(results[0].novel.sum())
    lines = [
        f"average precision in %, {'mean over' if n > 1 else 'of'} {counted(n, 'pair')} of sets; "
        f"{classes - novel} base and {novel} novel classes, all of them competing",
        "AP50 is at an overlap of one half, AP the mean over 0.5 to 0.95",
    ]
    return [*lines, *["in brackets Student's interval of the paired differences"] * (n > 1)]
