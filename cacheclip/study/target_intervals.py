"""What the means of a base-to-new table are worth: 95 % intervals over draws, and of differences.

The intervals are Student's, so that few draws make them wide. A difference from zero-shot is taken
draw by draw. Both say how far other draws would lead, and nothing of other test pictures.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from math import sqrt
from statistics import mean, stdev

from scipy.special import stdtrit

from cacheclip.metrics import harmonic_mean
from cacheclip.results import Row
from cacheclip.study.table import Table
from cacheclip.study.target_table import cells_of, halves_of, shown

Draws = Mapping[Hashable, float]  # seed -> accuracy, that of several starts their mean
ZERO_SHOT = "zero-shot"


def intervals(rows: Sequence[Row]) -> Iterator[tuple[str, Table]]:
    """A table of the intervals and one of the differences from zero-shot, each with its title.

    Args:
        rows: of one data set; nothing comes of those that are no base-to-new, or of one draw.
    """
    names, cells = cells_of(rows)
    halves = halves_of(names, rows)
    if len(halves) < 2:
        return
    lines = {line: _draws(cell, names) for line, cell in cells.items()}
    drawn = {line: own for line, own in lines.items() if len(own["mean H"]) > 1}
    if not drawn:
        return
    headers = ["method", "shots", *names, "mean H"]
    told = [[*shown(line), *(_interval(x) for x in own.values())] for line, own in drawn.items()]
    yield "95 % intervals over draws", (headers, told)
    floor = next((own for line, own in lines.items() if line[0] == ZERO_SHOT), None)
    if floor is not None:
        told = [
            [*shown(line), *(_interval(_less(x, floor[name])) for name, x in own.items())]
            for line, own in drawn.items()
        ]
        yield "points beyond zero-shot, 95 % over draws, paired", (headers, told)


def _draws(cell: Mapping[str, Sequence[Row]], names: Sequence[str]) -> dict[str, Draws]:
    """Each target's accuracies by seed in percent, and their harmonic means."""
    found: dict[str, Draws] = {}
    for name in names:
        of_seed: dict[Hashable, list[float]] = {}
        for row in cell.get(name, []):
            if row.top1_test is not None:
                of_seed.setdefault(row.seed, []).append(100 * row.top1_test)
        found[name] = {seed: mean(own) for seed, own in of_seed.items()}
    base, new = (found[name] for name in names[:2])
    both = {seed: harmonic_mean(x, new[seed]) for seed, x in base.items() if seed in new}
    return found | {"mean H": both}


def _less(draws: Draws, floor: Draws) -> Draws:
    """Draw by draw less the floor, which is one number where it draws nothing."""
    alone = floor.get(None)
    pairs = {seed: floor.get(seed, alone) for seed in draws}
    return {seed: draws[seed] - own for seed, own in pairs.items() if own is not None}


def _interval(draws: Draws) -> str:
    """Student's 95 % interval of the mean; blank of one draw."""
    values = list(draws.values())
    if len(values) < 2:
        return ""
    wide = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / sqrt(len(values))
    return f"{mean(values) - wide:.1f} to {mean(values) + wide:.1f}"
