"""Gaussian classes of one covariance: the linear head that Bayes' rule gives for them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cacheclip.heads.classes import class_means
from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.points import Points, tried
from cacheclip.task import Query

SPREAD = 1e-10  # of unit rows, squared and a row: less is rounding around the means


def discriminant(x: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Weight [V, C, D] and bias [V, C] with equal priors (2402.04087, equations 5 to 7).

    With S the sum over rows of (x_i - mu_i)(x_i - mu_i)^T around their classes' means and n rows,

        P = D (S + tr(S) / (n - 1) I)^-1        w_c = P mu_c        b_c = -ln C - mu_c P mu_c / 2

    P is the inverse covariance that Kubokawa and Srivastava shrink. Its condition is n at most, so
    Cholesky does; that alone runs in float64. Rows that all lie on their means say nothing of a
    covariance: there P is 0, the pseudo-inverse of 0, and so is w.

    Args:
        x: [V, n, D], unit rows or shorter ones.
        labels: [V, n] int64. A class without rows has the mean 0.
        n_classes: C.
    """
    _, n, D = x.shape
    means = class_means(x, labels, n_classes)  # [V, C, D]
    centred = x - means.gather(1, labels.unsqueeze(-1).expand(x.shape))
    scatter = (centred.mT @ centred).double()  # [V, D, D]
    diagonal = scatter.diagonal(dim1=1, dim2=2)  # a view
    trace = diagonal.sum(1)
    flat = trace <= SPREAD * n
    diagonal += torch.where(flat, 1, trace / max(1, n - 1)).unsqueeze(-1)
    factor = torch.linalg.cholesky(scatter)
    weight = D * torch.cholesky_solve(means.double().mT, factor).mT  # [V, C, D]
    weight = weight.masked_fill(flat[:, None, None], 0.0).to(x.dtype)
    return weight, -math.log(n_classes) - (weight * means).sum(-1) / 2


def beside_text(params: dict[str, Tensor], query: Query) -> tuple[Tensor, Tensor]:
    """The logits of class text and those of the discriminant, [V, n, C] each.

    Args:
        params: `text` [V, C, D] and `logit_scale` [V]; `weight` [V, C, D] and `bias` [V, C].
        query: `image` [n, D] or [V, n, D].
    """
    gaussian = query["image"] @ params["weight"].mT + params["bias"][:, None]
    return cosine_logits(query, params["text"], params["logit_scale"]), gaussian


def weighed(params: dict[str, Tensor], query: Query) -> Tensor:
    """The logits of class text + alpha times those of the discriminant, [V, n, C].

    Args:
        params: as `beside_text` reads them, and `alpha` [V].
        query: as there.
    """
    text, gaussian = beside_text(params, query)
    return text + params["alpha"][:, None, None] * gaussian


def weigh(
    params: dict[str, Tensor],
    query: Query,
    labels: Tensor,
    alphas: Sequence[float],
    folds: int = 1,
) -> Points:
    """What `weighed` does for each alpha, on the same two logits.

    Args:
        params: as `beside_text` reads them.
        query: as there.
        labels: [n] or [V, n] int64.
        alphas: T numbers.
        folds: as `tried` has it.
    """
    text, gaussian = beside_text(params, query)
    points = (({"alpha": text.new_full((len(text),), a)}, text + a * gaussian) for a in alphas)
    return tried(points, labels, folds)
