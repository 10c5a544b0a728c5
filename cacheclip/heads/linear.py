"""Heads with a free weight row for each class: their gradients, as products that are never formed.

For the mean cross-entropy of logits l [V, B, C], with the residual r = (softmax(l) - one-hot) / B:

    l_c = x w_c                   dL/dw_c = sum_b r_bc x_b
    l_c = s x w_c / |w_c|         dL/dw_c = s / |w_c| sum_b r_bc x_b - w_c / |w_c|^2 sum_b r_bc l_bc
    + k_c / 2 |w_c - a_c|^2       + k_c w_c - k_c a_c

The second is orthogonal to w_c: a cosine does not know how long w_c is.
"""

from dataclasses import replace

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.task import Query, unit


def residual(logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy in its logits [V, B, C]; labels [V, B]."""
    r = logits.softmax(-1)
    r.scatter_add_(-1, labels.unsqueeze(-1), -torch.ones_like(r[..., :1]))
    return r.div_(logits.shape[1])


def cosine_grad(query: Query, labels: Tensor, weight: Tensor, logit_scale: Tensor) -> Outer:
    """The gradient of the mean cross-entropy of s x w_c / |w_c| in w.

    Args:
        query: `image` [V, B, D], unit rows.
        labels: [V, B] int64.
        weight: [V, C, D], rows of any length.
        logit_scale: [V].
    """
    logits = cosine_logits(query, unit(weight), logit_scale)
    r = residual(logits, labels)
    length = weight.norm(dim=-1)  # [V, C]
    along = (r * logits).sum(1)  # [V, C]
    scaled = r.mul_((logit_scale[:, None] / length)[:, None])
    return Outer(scaled, query["image"], own=-along / length.square())


def pulled(gradient: Outer, strength: Tensor, anchor: Tensor) -> Outer:
    """The gradient with that of the sum over rows of strength_c / 2 |w_c - anchor_c|^2 added.

    Args:
        gradient: of a weight [V, C, D] without an anchor yet.
        strength: [V, C] or [V, 1].
        anchor: [V, C, D] or [C, D].
    """
    own = strength if gradient.own is None else gradient.own + strength
    return replace(gradient, own=own, pull=strength, anchor=anchor)
