"""Exact tests of paired differences: no normal approximation, whatever the number of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same pictures: only those count that one alone has right."""

    first_only: int
    second_only: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "McNemar":
        """From what is right, [n] each (McNemar 1947)."""
        return cls(int((first & ~second).sum()), int((second & ~first).sum()))

    @property
    def p(self) -> float:
        """Exact, two-sided."""
        return sign_p(self.first_only, self.second_only)


def sign_p(wins: int, losses: int) -> float:
    """Two-sided p of the sign test: a fair coin that is as uneven; ties were left out before."""
    n = wins + losses
    tail = ways = 1  # to choose none of n
    for k in range(1, min(wins, losses) + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return float(min(1.0, 2 * tail / 2**n))


def wilcoxon_p(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed ranks (1945); zeros are left out, equal sizes share a rank.

    The sum of the positive ranks is compared with that of every choice of signs, counted exactly
    over twice the ranks, which are whole.
    """
    d = np.array([x for x in differences if x])
    sizes, place, count = np.unique(np.abs(d), return_inverse=True, return_counts=True)
    twice = (2 * count.cumsum() - count + 1)[place] if len(sizes) else np.empty(0, np.int64)
    chance = np.ones(1)  # of each sum of positive ranks, doubled
    for rank in twice:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    positive = int(twice[d > 0].sum())
    tail = min(chance[: positive + 1].sum(), chance[positive:].sum())
    return float(min(1.0, 2 * tail))
