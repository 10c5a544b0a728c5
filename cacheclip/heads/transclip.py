"""Clusters of pictures, each picture held to what the text says of it (TransCLIP, 2406.01837)."""

import torch
from torch import Tensor

from cacheclip.heads.neighbours import Neighbours
from cacheclip.task import unit

TURNS, INNER = 10, 5  # of means and variance, and of z before each of them and after the last
UNITS = 50.0  # times less counts a picture's own likelihood against text and neighbours
LEAST = 1e-4  # of a variance times D: less is rounding


def clustered(
    x: Tensor,
    log_p: Tensor,
    means: Tensor,
    graph: Neighbours,
    near: float,
    text_weight: Tensor,
    keys: Tensor,
    labels: Tensor,
    gamma: Tensor,
) -> Tensor:
    """Scores [n, C] whose softmax is z, the classes that pictures belong to.

    Classes are Gaussians of means m_c and one diagonal variance v, from v = 1 / D. In turns

        l_ic = - sum_d (x_id - m_cd)^2 / (2 v_d)
        z_i  = softmax(text_weight ln p_i + l_i / 50 + near (W^T z + W z)_i)         five times
        m_c  = unit(mean_i z_ic x_i + g mean_s y_sc k_s)
        v_d  = sum_c (mean_i z_ic (x_id - m_cd)^2 + g mean_s y_sc (k_sd - m_cd)^2) / (1 + g)

    with g = 50 gamma; y marks the class of a support picture, and z before the first turn is p. The
    likelihood has no determinant, as released. W z reads the first n rows of W and W^T z all of
    them, those of z first and then the rows of y.

    Args:
        x: [n, D], unit rows.
        log_p: [n, C], what the text says: ln p.
        means: [C, D], unit rows, those of the first turn.
        graph: W [n + m, n].
        near: what a neighbour of cosine 1 counts.
        text_weight: a number.
        keys: [m, D], support pictures; there may be none.
        labels: [m, C] one-hot.
        gamma: a number, what the support counts beside the pictures.
    """
    n, D = x.shape
    variance = x.new_full((D,), 1 / D)
    z = log_p.exp()
    for turn in range(TURNS + 1):
        if turn:
            means, variance = _moments(x, z, keys, labels, UNITS * gamma)
        held = text_weight * log_p + _log_density(x, means, variance) / UNITS
        for _ in range(INNER):
            pulls = graph.part(0, n).pulled(z) + graph.pushed(torch.cat([z, labels]), n)
            scores = held + near * pulls
            z = scores.softmax(-1)
    return scores


def _log_density(x: Tensor, means: Tensor, variance: Tensor) -> Tensor:
    """The likelihoods l [n, C], up to what is the same for all classes."""
    scaled = means / variance
    return x @ scaled.T - (means * scaled).sum(-1) / 2


def _moments(
    x: Tensor, z: Tensor, keys: Tensor, labels: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """Means [C, D] and variance [D]."""
    n, D = x.shape
    rows, shares = x, z / n
    if len(keys):
        rows, shares = torch.cat([x, keys]), torch.cat([shares, labels * (g / len(keys))])
    sums = shares.T @ rows  # [C, D]
    means = unit(sums)
    # sum_ic share_ic (x_i - m_c)^2, multiplied out
    squares = shares.sum(1) @ rows.square() - 2 * (sums * means).sum(0)
    squares = squares + shares.sum(0) @ means.square()
    return means, (squares / shares.sum()).clamp_min(LEAST / D)
