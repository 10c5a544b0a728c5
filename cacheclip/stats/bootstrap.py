"""What a mean over data sets and seeds is worth: both are drawn again, data sets first."""

from collections.abc import Mapping, Sequence

import numpy as np

TIMES = 10_000


def interval(values: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean over data sets of their means over seeds.

    Data sets are drawn with replacement, and for each one drawn its seeds. With one data set only
    its seeds are drawn, and the interval says nothing of other data sets.

    Args:
        values: of each data set, one a seed.

    Returns:
        None where there is one value alone.
    """
    if sum(map(len, values.values())) < 2:
        return None
    random = np.random.default_rng(0)
    n = len(values)
    chosen = random.integers(0, n, (TIMES, n))
    drawn = np.empty((TIMES, n))
    for k, own in enumerate(values.values()):
        here = chosen == k
        seeds = random.integers(0, len(own), (int(here.sum()), len(own)))
        drawn[here] = np.asarray(own)[seeds].mean(1)
    low, high = np.quantile(drawn.mean(1), [0.025, 0.975])
    return float(low), float(high)
