"""Caches of a stream: each class keeps the few pictures of least entropy among those it was given.

What a cache holds when a picture is answered for depends on entropies and classes alone, so that
many pictures go through it at once: one stays as long as fewer than P of its class come before it,
of less entropy, or of the same and earlier.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Passage:
    """B pictures on their way through a cache of C classes with P places: K = C P + B candidates.

    Attributes:
        there: [V, B, K], which candidates the cache holds when each picture is answered for, that
            picture itself among them.
        classes: [V, K] int64, whose places they may have.
        last: [V, C P] int64, the candidate in each place after the last picture.
    """

    there: Tensor
    classes: Tensor
    last: Tensor

    def kept(self, candidates: Tensor) -> Tensor:
        """What the places hold after the last picture: of candidates [V, K, ...], [V, C P, ...]."""
        variant = torch.arange(len(candidates), device=candidates.device)[:, None]
        return candidates[variant, self.last]


def through(held: Tensor, own: Tensor, entropy: Tensor) -> Passage:
    """The way of B pictures through a cache.

    Args:
        held: [V, C, P], entropies of the places, rising; C, more than any, where a place is empty.
        own: [V, B] int64, the class that each picture is given.
        entropy: [V, B], C for a picture that may not enter.
    """
    V, C, P = held.shape
    B = own.shape[1]
    now = torch.arange(B, device=held.device)
    time = torch.cat([now.new_full((C * P,), -1), now])  # [K]
    places = torch.arange(C * P, device=held.device).expand(V, -1)
    classes = torch.cat([places // P, own], 1)  # [V, K]
    value = torch.cat([held.flatten(1), entropy], 1)  # [V, K]
    less = entropy[..., None] < value[:, None]  # [V, B, K]
    same = (entropy[..., None] == value[:, None]) & (now[:, None] < time)
    overtakes = (less | same) & (own[..., None] == classes[:, None])
    before = (held.gather(1, own[..., None].expand(V, B, P)) <= entropy[..., None]).sum(-1)
    first = torch.cat([places % P, before], 1)  # [V, K], the rank that each starts from
    rank = first[:, None] + overtakes.cumsum(1)  # [V, B, K]
    there = (rank < P) & (time <= now[:, None]) & (value < C)[:, None]
    variant, candidate = (rank[:, -1] < P).nonzero(as_tuple=True)
    place = classes[variant, candidate] * P + rank[variant, -1, candidate]
    last = torch.empty_like(places, memory_format=torch.contiguous_format)
    last[variant, place] = candidate
    return Passage(there, classes, last)
