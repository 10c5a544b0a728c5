"""Logits of a second encoder beside zero-shot's (AMU-Tuning, 2404.08958).

Standardised over the C classes: a = (l - mean) / d, d^2 = sum_c (l_c - mean)^2 / (C - 1). With g
the gradient in a, the one in l is (g - mean(g) - a sum_c(g_c a_c) / (C - 1)) / d.
"""

import torch
from torch import Tensor

LEAST = 1e-12  # of a deviation: logits that do not differ stand for nothing


def deviation(logits: Tensor) -> Tensor:
    """The deviation d over the classes [..., C]: [..., 1]; of one class there is none."""
    if logits.shape[-1] == 1:
        return torch.ones_like(logits)
    return logits.std(-1, keepdim=True).clamp_min(LEAST)


def standard(logits: Tensor) -> Tensor:
    """The standardised logits a [..., C]."""
    return (logits - logits.mean(-1, keepdim=True)) / deviation(logits)


def standard_grad(gradient: Tensor, own: Tensor, logits: Tensor) -> Tensor:
    """The gradient in the logits l [..., C].

    Args:
        gradient: g in the standardised ones.
        own: those, a.
        logits: l.
    """
    along = (gradient * own).sum(-1, keepdim=True) / max(1, own.shape[-1] - 1)
    centred = gradient - gradient.mean(-1, keepdim=True) - own * along
    return centred / deviation(logits)


def unsure(logits: Tensor, power: Tensor) -> Tensor:
    """How unsure a classifier is of its pictures: (k / (C / 4))^-power, [V, n, 1].

    k is the mean fourth power of the standardised probabilities: about C where one class has all
    of it, and never less than (1 - 1 / C)^2, which stands too where all have the same.

    Args:
        logits: [V, n, C].
        power: [V]; 0 gives 1 for every picture.
    """
    fourth = standard(logits.softmax(-1)).pow(4).mean(-1, keepdim=True)
    C = logits.shape[-1]
    least = max(1 / 4, (1 - 1 / C) ** 2)
    return (fourth.clamp_min(least) / (C / 4)).pow(-power[:, None, None])
