"""Softmax attention: what looks takes the mean of what it sees, by how much these agree."""

from math import sqrt

from torch import Tensor


def seen(affinity: Tensor, values: Tensor) -> Tensor:
    """The mean [..., Q, E] of M values [..., M, E] under the softmax of affinities [..., Q, M]."""
    return affinity.softmax(-1) @ values


def attend(query: Tensor, keys: Tensor, values: Tensor, heads: int = 1) -> Tensor:
    """Scaled dot-product attention of several heads (1706.03762, without its projections).

    Args:
        query: [..., Q, D]; leading axes broadcast.
        keys: [..., M, D].
        values: [..., M, E].
        heads: how many slices of D and of E attend each by itself.

    Returns:
        [..., Q, E].
    """
    q, k, v = (_by_head(x, heads) for x in (query, keys, values))
    return seen(q @ k.mT / sqrt(q.shape[-1]), v).transpose(-2, -3).flatten(-2)


def _by_head(x: Tensor, heads: int) -> Tensor:
    parts = x.view(*x.shape[:-1], heads, x.shape[-1] // heads)
    return parts.transpose(-2, -3)  # [..., heads, rows, width / heads]
