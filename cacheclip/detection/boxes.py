"""Boxes [n, 4] as left, top, width, height: how far they overlap, and which ones stand."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]


def overlaps(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4], all of some area."""
    one, other = (np.asarray(x, np.float64) for x in (first[:, None], second[None]))
    begin = np.maximum(one[..., :2], other[..., :2])
    end = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    common = (end - begin).clip(0).prod(-1)
    found: NDArray[np.float64] = common / (one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - common)
    return found


def best_match(boxes: Boxes, others: Boxes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each box the one of `others` that overlaps it most, [n], and how far, [n]."""
    found = overlaps(boxes, others)
    return found.argmax(1), found.max(1)


def standing(boxes: Boxes, scores: NDArray[np.floating], most: float) -> NDArray[np.bool_]:
    """Non-maximum suppression, class by class: which boxes stand as which class, [n, C].

    From the strongest to the weakest, each box that still stands takes those of its class with it
    that overlap it too far. It is here and not of torchvision, whose import alone takes longer than
    hundreds of pictures, and which goes through classes one by one.

    Args:
        boxes: [n, 4].
        scores: [n, C]; of equal ones the first is the stronger.
        most: the overlap beyond which the weaker of two boxes goes.
    """
    too_far = overlaps(boxes, boxes) > most  # [n, n]
    order = np.argsort(-scores, axis=0, kind="stable")  # [n, C], strongest first
    place = np.argsort(order, axis=0)  # [n, C], where each box stands in it
    stands = np.ones(scores.shape, np.bool_)
    classes = np.arange(scores.shape[1])
    for rank, row in enumerate(order):
        taken = too_far[:, row] & (place > rank) & stands[row, classes]  # [n, C]
        stands &= ~taken
    return stands
