"""Boxes [n, 4] as left, top, width, height: how far they overlap, and which one stands."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Boxes = NDArray[np.floating]


def overlaps(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4], all of some area."""
    from torchvision.ops import box_iou

    found: NDArray[np.float64] = box_iou(_corners(first), _corners(second)).numpy()
    return found


def best_match(boxes: Boxes, others: Boxes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each box the one of `others` that overlaps it most, [n], and how far, [n]."""
    found = overlaps(boxes, others)
    return found.argmax(1), found.max(1)


def strongest(
    boxes: Boxes, scores: NDArray[np.floating], labels: NDArray[np.int64], most: float
) -> NDArray[np.int64]:
    """Non-maximum suppression class by class: the rows that stay, the strongest first.

    Args:
        boxes: [n, 4].
        scores: [n].
        labels: [n], boxes of different classes leave each other alone.
        most: the overlap beyond which the weaker of two boxes goes.
    """
    from torchvision.ops import batched_nms

    given = torch.from_numpy(np.asarray(scores, np.float64)), torch.from_numpy(labels)
    kept: NDArray[np.int64] = batched_nms(_corners(boxes), *given, most).numpy()
    return kept


def _corners(boxes: Boxes) -> Tensor:
    """The first and the last corner, [n, 4]."""
    x = np.asarray(boxes, np.float64)
    return torch.from_numpy(np.concatenate([x[:, :2], x[:, :2] + x[:, 2:]], 1))
