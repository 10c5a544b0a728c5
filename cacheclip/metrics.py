"""What is measured on logits, and what a measured share is worth.

Tensors come in, and yet torch is not loaded here: the results log is read by the same measures.
"""

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Z95 = NormalDist().inv_cdf(0.975)


def hits(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """How many rows have their largest logit at the label; ties go to the lowest class.

    Args:
        logits: [V, n, C].
        labels: [n] shared by all variants, or [V, n].

    Returns:
        [V] int64.
    """
    return (logits.argmax(-1) == labels).sum(-1)


def at_label(values: "Tensor", labels: "Tensor") -> "Tensor":
    """Each row's value of the class that its label names; values [V, n, C] -> [V, n]."""
    index = labels.expand(values.shape[:-1]).unsqueeze(-1)  # [V, n, 1]
    return values.gather(-1, index).squeeze(-1)


def true_rank(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """How many classes stand before each row's label; equal logits count as `hits` counts them.

    Args:
        logits: [V, n, C].
        labels: [n] shared by all variants, or [V, n].

    Returns:
        [V, n] int64, 0 where the label has the largest logit.
    """
    index = labels.unsqueeze(-1)  # [V, n, 1] or [n, 1]
    own = at_label(logits, labels).unsqueeze(-1)  # [V, n, 1]
    classes = index.new_ones(logits.shape[-1]).cumsum(0) - 1  # [C], 0 to C - 1
    lower = classes < index  # [V, n, C]
    return ((logits > own) | ((logits == own) & lower)).sum(-1)


def first_classes(logits: "Tensor", most: int) -> "Tensor":
    """The classes of the largest logits, falling: the first is what `hits` takes for the answer.

    Of equal logits the lowest class stands first; which of those that are equal to the last are
    left out is not said.

    Args:
        logits: [V, n, C].
        most: classes, if there are so many.

    Returns:
        [V, n, k] int64.
    """
    k = min(most, logits.shape[-1])
    answer = logits.argmax(-1, keepdim=True)
    ahead = logits.scatter(-1, answer, float("inf"))  # for any of many equal ones may be taken
    found = ahead.topk(k, -1).indices.sort(-1).values
    order = ahead.gather(-1, found).sort(dim=-1, descending=True, stable=True).indices
    return found.gather(-1, order)


def calibration_error(top_p: ArrayLike, right: ArrayLike, bins: int = 15) -> NDArray[np.float64]:
    """How far confidence is from accuracy: the debiased l2 error (1909.10155, section 4).

    Rows go into bins of equal size by their confidence. What the squared gaps of a bin would be by
    chance alone is taken off, since with few rows a plain error is never near zero.

    Args:
        top_p: [V, n] probability of the prediction.
        right: [V, n] bool.
        bins: at most; each has ten rows at least.

    Returns:
        [V].
    """
    weight, gap, by_chance = _calibration_bins(np.asarray(top_p), np.asarray(right), bins)
    found: NDArray[np.float64] = np.sqrt((weight * (gap**2 - by_chance)).sum(1).clip(0))
    return found


def calibration_interval(top_p: ArrayLike, right: ArrayLike, bins: int = 15) -> tuple[float, float]:
    """The 95 % interval of `calibration_error` of one classifier: top_p and right are [n].

    The gap of a bin is a mean, so its square less its variance v has variance 4 g^2 v + 2 v^2; the
    sum over bins is taken as normal, and its bounds give those of the root. That of a calibrated
    classifier holds 0 at least 39 times in 40.
    """
    top_p, right = np.asarray(top_p)[None], np.asarray(right)[None]
    weight, gap, by_chance = _calibration_bins(top_p, right, bins)
    squared = gap**2 - by_chance
    variance = 4 * squared.clip(0) * by_chance + 2 * by_chance**2
    half = Z95 * np.sqrt((weight**2 * variance).sum())
    low, high = np.sqrt(np.clip((weight * squared).sum() + half * np.array([-1, 1]), 0, 1))
    return float(low), float(high)


def _calibration_bins(
    top_p: NDArray[Any], right: NDArray[Any], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Bins of equal size by confidence, from [V, n]: shares [bins] of the rows, gaps [V, bins].

    The third is the variance of each gap by chance alone, [V, bins].
    """
    n = top_p.shape[1]
    bins = min(bins, max(1, n // 10))
    order = top_p.argsort(1, kind="stable")
    p = np.take_along_axis(top_p, order, 1).astype(np.float64)
    hit = np.take_along_axis(right, order, 1).astype(np.float64)
    first = np.arange(bins) * n // bins
    size = np.diff([*first, n])
    share = np.add.reduceat(hit, first, 1) / size  # [V, bins]
    gap = np.add.reduceat(p, first, 1) / size - share
    by_chance = share * (1 - share) / (np.maximum(2, size) - 1)
    return size / n, gap, by_chance


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n pictures by Wilson's score, as fractions.

    It says how far the share may be off because no more than n pictures were looked at, and nothing
    of what other draws or starts would have given.
    """
    middle = share + Z95**2 / (2 * n)
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    whole = 1 + Z95**2 / n
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def harmonic_mean(one: float, other: float) -> float:
    """Of two accuracies; 0 where either is."""
    return 2 * one * other / (one + other) if one and other else 0.0


def per_class(
    right: NDArray[np.bool_], labels: NDArray[np.unsignedinteger[Any]], n_classes: int
) -> NDArray[np.int64]:
    """Each class's pictures, and how many of them are right: [C, 2]."""
    return np.stack(
        [np.bincount(labels, minlength=n_classes), np.bincount(labels[right], minlength=n_classes)],
        axis=1,
    )


def macro(right: NDArray[np.bool_], labels: NDArray[np.unsignedinteger[Any]]) -> float:
    """The mean recall of the classes that have pictures: each class counts the same."""
    counts = per_class(right, labels, int(labels.max()) + 1)
    counts = counts[counts[:, 0] > 0]
    return float((counts[:, 1] / counts[:, 0]).mean())
