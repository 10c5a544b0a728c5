"""Heads with a free weight row for each class: their gradients, as products that are never formed.

For the mean cross-entropy of logits l [V, B, C], with the residual r = (softmax(l) - one-hot) / B:

    l_c = x w_c                   dL/dw_c = sum_b r_bc x_b
    l_c = s x w_c / |w_c|         dL/dw_c = s / |w_c| sum_b r_bc x_b - w_c / |w_c|^2 sum_b r_bc l_bc
    + k_c / 2 |w_c - a_c|^2       + k_c w_c - k_c a_c

The second is orthogonal to w_c: a cosine does not know how long w_c is. `of_map` is for a head
whose text stays and whose pictures go through a map.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.kernels import cosine_cross_entropy
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.task import Batch, Query, unit


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


def of_map(x: Tensor, y: Tensor, params: Mapping[str, Tensor], batch: Batch) -> Outer:
    """The gradient of the mean cross-entropy of s y t_c / |y| in P [V, E, D], where y = x P + b.

    Args:
        x: [V, B, E], what the map takes.
        y: [V, B, D], what it makes of that.
        params: `weight` [V, C, D], unit rows t that all variants share, and `logit_scale` [V].
        batch: its labels, and the memory that its run shares.
    """
    scale, work = float(params["logit_scale"][0]), batch.work["loss"]
    _, saved = cosine_cross_entropy.forward(
        y, params["weight"][0], batch.labels, scale, wants_loss=False, work=work
    )
    return Outer(x, cosine_cross_entropy.backward(saved, None, scale, work=work).y)


def of_residual(gradient: Outer, alpha: Tensor, base: Tensor) -> Outer:
    """The gradient in R of a head whose weight is base + alpha R, given that in the weight.

    Args:
        gradient: in the weight [V, C, D], without an anchor.
        alpha: [V].
        base: [V, C, D] or [C, D].
    """
    scaled = replace(gradient, a=gradient.a * alpha[:, None, None])
    if gradient.own is None:
        return scaled
    own = gradient.own * alpha[:, None]
    return replace(scaled, own=own * alpha[:, None], pull=-own, anchor=base)


def pulled(gradient: Outer, strength: Tensor, anchor: Tensor) -> Outer:
    """The gradient with that of the sum over rows of strength_c / 2 |w_c - anchor_c|^2 added.

    Args:
        gradient: of a weight [V, C, D] without an anchor yet.
        strength: [V, C] or [V, 1].
        anchor: [V, C, D] or [C, D].
    """
    own = strength if gradient.own is None else gradient.own + strength
    return replace(gradient, own=own, pull=strength, anchor=anchor)
