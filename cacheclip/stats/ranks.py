"""Many methods on the same units: Friedman's test, and how far apart mean ranks must be."""

from dataclasses import dataclass
from math import sqrt
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from cacheclip.stats.averages import over_seeds
from cacheclip.stats.board import Board


@dataclass(frozen=True)
class Ranks:
    """k methods ranked on N units (Demšar, JMLR 7, 2006).

    Attributes:
        mean: [k], the mean rank of each, 1 is best.
        chi2: Friedman's statistic, ties within a unit accounted for.
        p: its probability where no method differs from another, by chi squared of k - 1.
        critical: mean ranks that differ by less are not told apart at 0.05 (Nemenyi).
    """

    mean: NDArray[np.float64]
    chi2: float
    p: float
    critical: float

    @property
    def tells_apart(self) -> bool:
        """Whether units are enough that any two methods could be told apart."""
        return self.critical <= len(self.mean) - 1

    @property
    def groups(self) -> list[list[int]]:
        """The longest runs of methods, best first, of which no two are told apart."""
        order = [int(k) for k in self.mean.argsort(kind="stable")]
        runs = [
            [k for k in order[first:] if self.mean[k] - self.mean[best] < self.critical]
            for first, best in enumerate(order)
        ]
        ends = [first + len(run) for first, run in enumerate(runs)]
        return [run for k, run in enumerate(runs) if k == 0 or ends[k] > ends[k - 1]]


def ranked(board: Board) -> Ranks | None:
    """Friedman's test over data sets, or over the seeds of one; None of fewer than two of these."""
    trials = board.common()
    columns = []
    for name in board.names:
        each = over_seeds({trial: board.top1(name, trial) for trial in trials})
        of_sets = [mean(own.values()) for own in each.values()]
        columns.append(of_sets if len(each) != 1 else [*next(iter(each.values())).values()])
    values = np.array(columns).T.round(9)  # [N, k]
    return friedman(values) if len(values) > 1 and len(board.names) > 2 else None


def friedman(values: NDArray[np.float64]) -> Ranks:
    """From values [N, k], the greatest of a unit being the best; equal ones share their rank."""
    from scipy.special import chdtrc

    N, k = values.shape
    better = (values[:, None, :] > values[:, :, None]).sum(2)  # [N, k], of the others
    equal = (values[:, None, :] == values[:, :, None]).sum(2)  # itself among them
    ranks = better + (equal + 1) / 2
    mean = ranks.mean(0)
    spread = ((ranks - (k + 1) / 2) ** 2).sum() / (N * (k - 1))  # k (k + 1) / 12 without ties
    chi2 = float(N * ((mean - (k + 1) / 2) ** 2).sum() / spread) if spread else 0.0
    return Ranks(mean, chi2, float(chdtrc(k - 1, chi2)), critical_difference(k, N))


def critical_difference(k: int, N: int) -> float:
    """Of the mean ranks of k methods on N units, at 0.05: q sqrt(k (k + 1) / 6 N)."""
    return _studentized(k) / sqrt(2) * sqrt(k * (k + 1) / (6 * N))


def _studentized(k: int) -> float:
    """What the range of k normal numbers exceeds once in 20: the q of Tukey's tables at infinity.

    P(range <= q) = k integral phi(z) (Phi(z) - Phi(z - q))^(k - 1) dz, z being the greatest.
    """
    from scipy.special import ndtr

    z, step = np.linspace(-9, 9, 4001, retstep=True)
    weight = k * step * np.exp(-(z**2) / 2) / sqrt(2 * np.pi)
    low, high = 0.0, 18.0
    while high - low > 1e-10:
        q = (low + high) / 2
        within = (weight * (ndtr(z) - ndtr(z - q)) ** (k - 1)).sum()
        low, high = (q, high) if within < 0.95 else (low, q)
    return low
