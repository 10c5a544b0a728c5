"""The one temperature that makes logits likeliest, so that heads of any scale can be compared."""

import torch
from torch import Tensor

WIDEST = 2.0**8  # how many times smaller or larger than 1 / spread the inverse temperature may get
STEPS = 10
HALVINGS = 30


def fit_temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """T [V] that maximises the mean of log softmax(logits / T) at the labels.

    That mean is concave in 1 / T (1706.04599): Newton's steps, within brackets. T stays within
    `WIDEST` of the spread of the logits: rows that are all told right have none that is best.

    Args:
        logits: [V, n, C].
        labels: [n] or [V, n] int64.
    """
    centred = logits - logits.mean(-1, keepdim=True)
    spread = centred.square().mean((1, 2)).sqrt().clamp_min(1e-12)  # [V]
    z = centred / spread[:, None, None]
    own = _at(z, labels)  # [V, n]
    low, high = torch.full_like(spread, 1 / WIDEST), torch.full_like(spread, WIDEST)
    inverse = torch.ones_like(spread)
    for _ in range(STEPS):
        p = (z * inverse[:, None, None]).softmax(-1)
        mean = (p * z).sum(-1)  # [V, n]
        slope = (own - mean).mean(-1)
        bend = (p * z.square()).sum(-1).sub_(mean.square()).mean(-1).clamp_min(1e-12)
        low, high = torch.where(slope > 0, inverse, low), torch.where(slope > 0, high, inverse)
        newton = inverse + slope / bend
        outside = (newton < low) | (newton > high)
        inverse = torch.where(outside, (low * high).sqrt(), newton)
    return spread / inverse


def true_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """T [V] at which the mean probability of the answers is the share of them that is right.

    Likelihood asks about every class, and where logits err in more than their scale, its
    temperature leaves the answers far too timid or too bold; this one does not (2303.02644). Of n
    rows that are all right no more is believed than n + 1 in n + 2.

    Args:
        logits: [V, n, C].
        labels: [n] or [V, n] int64.
    """
    centred = logits.float() - logits.float().mean(-1, keepdim=True)
    spread = centred.square().mean((1, 2)).sqrt().clamp_min(1e-12)
    z = centred / spread[:, None, None]
    right = (logits.argmax(-1) == labels).sum(-1)
    share = (right + 1) / (logits.shape[1] + 2)
    low, high = torch.full_like(spread, 1 / WIDEST), torch.full_like(spread, WIDEST)
    for _ in range(HALVINGS):
        inverse = (low * high).sqrt()
        timid = (z * inverse[:, None, None]).softmax(-1).amax(-1).mean(-1) < share
        low, high = torch.where(timid, inverse, low), torch.where(timid, high, inverse)
    return spread / (low * high).sqrt()


def label_log_p(logits: Tensor, labels: Tensor) -> Tensor:
    """Log probability [V, n] of the labels, each variant at the temperature that suits it best.

    n pictures prove no certainty beyond n in n + 1, so that share of uniform answers is mixed in:
    one picture that is told wrong with confidence does not decide.
    """
    n, C = logits.shape[1:]
    scaled = logits / fit_temperature(logits, labels)[:, None, None]
    p = _at(scaled.log_softmax(-1), labels).exp()
    return ((n * p + 1 / C) / (n + 1)).log()


def _at(x: Tensor, labels: Tensor) -> Tensor:
    """The entries of x [V, n, C] at labels [n] or [V, n]: [V, n]."""
    return x.gather(-1, labels.expand(x.shape[:-1]).unsqueeze(-1)).squeeze(-1)
