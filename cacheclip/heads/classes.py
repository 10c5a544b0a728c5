"""Counts and sums over the rows of each class: the same to the last bit wherever they are made.

Scattered sums add in any order on a GPU. There, and where a sum is made once a fit, a class's rows
are brought side by side and added up from the first to the last.
"""

import torch
from torch import Tensor


def class_counts(labels: Tensor, n_classes: int) -> Tensor:
    """Rows of each class: labels [V, n] -> [V, C] int64."""
    counts = labels.new_zeros(len(labels), n_classes)
    return counts.scatter_add_(1, labels, labels.new_ones(1).expand_as(labels))


def class_sums(x: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """The sum [V, C, ...] of each class's rows x [V, n, ...]; labels [V, n] int64."""
    V = len(labels)
    first = torch.arange(0, V * n_classes, n_classes, device=labels.device)
    own = (labels + first[:, None]).flatten()  # [V n], no two variants share a class
    by_class = x.flatten(0, 1)[own.argsort(stable=True)]
    lengths = class_counts(labels, n_classes).flatten()
    sums = torch.segment_reduce(by_class, "sum", lengths=lengths, initial=0)
    return sums.view(V, n_classes, *x.shape[2:])


def class_means(x: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """The mean [V, C, D] of each class's rows x [V, n, D]; 0 of a class without any."""
    counts = class_counts(labels, n_classes).to(x.dtype).clamp_min(1)
    return class_sums(x, labels, n_classes) / counts.unsqueeze(-1)


def class_votes(weights: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """The weights [V, n, M] of M keys, added up by the keys' labels [V, M]: [V, n, C]."""
    if weights.is_cuda:
        return class_sums(weights.mT, labels, n_classes).mT
    votes = weights.new_zeros(*weights.shape[:-1], n_classes)
    return votes.scatter_add_(-1, labels.unsqueeze(-2).expand(weights.shape), weights)
