"""What is measured on logits, and what a measured share is worth."""

from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Z95 = NormalDist().inv_cdf(0.975)


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many rows have their largest logit at the label; ties go to the lowest class.

    Args:
        logits: [V, n, C].
        labels: [n] shared by all variants, or [V, n].

    Returns:
        [V] int64.
    """
    return (logits.argmax(-1) == labels).sum(-1)


def true_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """The log of the softmax probability of each row's label; logits [V, n, C] -> [V, n]."""
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)  # [V, n, 1]
    return torch.log_softmax(logits.float(), -1).gather(-1, index).squeeze(-1)


def true_rank(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes stand before each row's label; equal logits count as `hits` counts them.

    Args:
        logits: [V, n, C].
        labels: [n] shared by all variants, or [V, n].

    Returns:
        [V, n] int64, 0 where the label has the largest logit.
    """
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)  # [V, n, 1]
    own = logits.gather(-1, index)
    lower = torch.arange(logits.shape[-1], device=logits.device) < index  # [V, n, C]
    return ((logits > own) | ((logits == own) & lower)).sum(-1)


def calibration_error(top_p: Tensor, right: Tensor, bins: int = 15) -> Tensor:
    """How far confidence is from accuracy: the debiased l2 error (1909.10155, section 4).

    Rows go into bins of equal size by their confidence. What the squared gaps of a bin would be by
    chance alone is taken off, since with few rows a plain error is never near zero.

    Args:
        top_p: [V, n] probability of the prediction.
        right: [V, n] bool.
        bins: at most; each has ten rows at least.

    Returns:
        [V] float64.
    """
    n = top_p.shape[1]
    bins = min(bins, max(1, n // 10))
    order = top_p.argsort(1)
    p, hit = top_p.double().gather(1, order), right.double().gather(1, order)
    squared = top_p.new_zeros(len(top_p)).double()
    for k in range(bins):
        part = slice(k * n // bins, (k + 1) * n // bins)
        share = hit[:, part].mean(1)
        size = max(2, hit[:, part].shape[1])
        by_chance = share * (1 - share) / (size - 1)
        gap = (p[:, part].mean(1) - share).square() - by_chance
        squared += gap * hit[:, part].shape[1] / n
    return squared.clamp_min(0).sqrt()


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n pictures by Wilson's score, as fractions.

    It says how far the share may be off because no more than n pictures were looked at, and nothing
    of what other draws or starts would have given.
    """
    middle = share + Z95**2 / (2 * n)
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    whole = 1 + Z95**2 / n
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


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
