"""Classes as the means of their pictures, and episodes of a few classes, which these tell apart."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cacheclip.task import Generators

SOFTENED = 5.0  # what logits are divided by where one answer teaches another


def class_means(x: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """The mean of the rows of each class [V, C, E], 0 without any, and how many there are [V, C].

    Args:
        x: [V, n, E].
        labels: [V, n] int64.
        n_classes: C.
    """
    sums = x.new_zeros(len(x), n_classes, x.shape[-1])
    sums = sums.scatter_add(1, labels.unsqueeze(-1).expand(x.shape), x)
    counts = x.new_zeros(labels.shape[0], n_classes)
    counts = counts.scatter_add(1, labels, x.new_ones(labels.shape))
    return sums / counts.clamp_min(1).unsqueeze(-1), counts


def episode_logits(h: Tensor, labels: Tensor, n_classes: int, scale: Tensor) -> Tensor:
    """Logits s h p_c [V, B, C] of the pictures of an episode, p_c the mean of those of a class.

    Classes that are not in the episode are out of the question: -inf.

    Args:
        h: [V, B, E] unit rows, each a member of its class's mean.
        labels: [V, B] int64.
        n_classes: C.
        scale: [V], s.
    """
    means, counts = class_means(h, labels, n_classes)
    logits = scale[:, None, None] * (h @ means.mT)
    return logits.masked_fill((counts == 0)[:, None], -torch.inf)


def distilled(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy [V] of a student against its teacher, both softened; logits [V, B, C]."""
    p = (teacher / SOFTENED).softmax(-1)
    return -(p * (student / SOFTENED).log_softmax(-1)).sum(-1).mean(-1)


def episodes(labels: Tensor, n_classes: int, way: int, random: Generators) -> Iterator[Tensor]:
    """The pictures of each episode for ever: positions [V, B] of `way` classes drawn anew.

    Classes are drawn by the first of their pictures in a random order, so that their numbers do not
    count. Where sizes are unequal B is that of `way` classes of mean size, and the last class drawn
    may be there in part. Of no more classes than `way` all pictures are an episode.

    Args:
        labels: [V, N] int64.
        n_classes: C.
        way: classes of an episode.
        random: what they are drawn from.
    """
    V, N = labels.shape
    size = round(N * way / n_classes)
    while size >= N:
        yield torch.arange(N, device=labels.device).expand(V, -1)
    while True:
        ranks = random.permutations(N)  # [V, N]
        first = ranks.new_full((V, n_classes), N).scatter_reduce(1, labels, ranks, "amin")
        yield first.gather(1, labels).argsort(dim=1, stable=True)[:, :size]
