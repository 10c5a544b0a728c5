"""Nearest neighbours among pictures, and sums over them: what joins pictures without labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cacheclip.heads.classes import class_sums

PAIRS = 2**24  # cosines that are looked at together: the matrix of all pairs is never whole


@dataclass(frozen=True)
class Neighbours:
    """A sparse matrix W [n, m] with k entries a row.

    Attributes:
        places: [n, k] int64, the column of each entry.
        weights: [n, k].
    """

    places: Tensor
    weights: Tensor

    def part(self, first: int, last: int) -> "Neighbours":
        """The rows first..last-1."""
        return Neighbours(self.places[first:last], self.weights[first:last])

    def below(self, other: "Neighbours") -> "Neighbours":
        """Rows of as many entries, and these rows below them."""
        places = torch.cat([other.places, self.places])
        return Neighbours(places, torch.cat([other.weights, self.weights]))

    def pulled(self, z: Tensor) -> Tensor:
        """W z for z [m, C]: what each row's neighbours say, [n, C]."""
        out = z.new_zeros(len(self.places), z.shape[1])
        for places, weights in zip(self.places.T, self.weights.T, strict=True):
            out.addcmul_(z[places], weights[:, None])
        return out

    def pushed(self, z: Tensor, m: int) -> Tensor:
        """W^T z for z [n, C]: what those say to whom a column is a neighbour, [m, C]."""
        if z.is_cuda:
            said = self.weights.T[..., None] * z  # [k, n, C]
            return class_sums(said.flatten(0, 1)[None], self.places.T.flatten()[None], m)[0]
        out = z.new_zeros(m, z.shape[1])
        for places, weights in zip(self.places.T, self.weights.T, strict=True):
            out.index_add_(0, places, z * weights[:, None])
        return out


def nearest(x: Tensor, keys: Tensor, k: int, *, after: int = 0) -> Neighbours:
    """The k keys of the largest cosine to each row, the nearest first; a cosine below 0 counts 0.

    There are fewer where there are fewer keys.

    Args:
        x: [n, D], unit rows.
        keys: [m, D], unit rows.
        k: how many.
        after: how many still nearer ones are left out.
    """
    return _nearest(x, keys, k + after, others=False, first=after)


def nearest_others(x: Tensor, k: int) -> Neighbours:
    """The k other rows of the largest cosine to each row; see `nearest`."""
    return _nearest(x, x, k, others=True, first=0)


def _nearest(x: Tensor, keys: Tensor, k: int, *, others: bool, first: int) -> Neighbours:
    k = min(k, len(keys) - others)
    step = max(1, PAIRS // max(1, len(keys)))
    places, weights = [], []
    for start in range(0, len(x), step):
        cosines = x[start : start + step] @ keys.T
        if others:
            cosines.diagonal(start).fill_(-torch.inf)
        best = cosines.topk(k)
        places.append(best.indices[:, first:])
        weights.append(best.values[:, first:].clamp_min(0))
    return Neighbours(torch.cat(places), torch.cat(weights))
