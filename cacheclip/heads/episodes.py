"""Episodes: a few classes, which the means of their own pictures tell apart."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cacheclip.heads.classes import class_counts, class_means
from cacheclip.task import Generators

SOFTENED = 5.0  # what logits are divided by where one answer teaches another


def episode_logits(h: Tensor, labels: Tensor, n_classes: int, scale: Tensor) -> Tensor:
    """Logits s h p_c [V, B, C] of the pictures of an episode, p_c the mean of those of a class.

    Classes that are not in the episode are out of the question: -inf.

    Args:
        h: [V, B, E] unit rows, each a member of its class's mean.
        labels: [V, B] int64.
        n_classes: C.
        scale: [V], s.
    """
    logits = scale[:, None, None] * (h @ class_means(h, labels, n_classes).mT)
    absent = class_counts(labels, n_classes) == 0
    return logits.masked_fill(absent[:, None], -torch.inf)


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
