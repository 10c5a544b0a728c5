"""Splitting an image tower before its last linear map, so that one pass gives both sides."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Projection = Callable[[Tensor], Tensor]


def take_last_projection(tower: Any) -> Projection | None:
    """Remove the last projection of an open_clip image tower and give it back as a function.

    Afterwards the tower gives the features before it, [B, E], and `projection(features)` gives what
    the tower gave before, [B, D]. Three forms are known: the `proj` matrix of a vision transformer,
    the linear `head.proj` of a timm tower, and `attnpool.c_proj` of CLIP's ResNets.

    Returns:
        The projection, or None where the tower does not end in one of these (it is left as it was).
    """
    if isinstance(getattr(tower, "proj", None), nn.Parameter):
        matrix: Tensor = tower.proj  # [E, D]
        tower.proj = None
        return lambda features: features @ matrix  # as the tower itself writes it
    head = getattr(tower, "head", None)
    if isinstance(head, nn.Sequential) and len(head) and isinstance(head[-1], nn.Linear):
        linear: Projection = head[-1]
        head[-1] = nn.Identity()
        return linear
    pool = getattr(tower, "attnpool", None)
    if isinstance(getattr(pool, "c_proj", None), nn.Linear):
        return _take_pool_projection(pool)
    return None


def _take_pool_projection(pool: Any) -> Projection:
    projection: nn.Linear = pool.c_proj
    # Attention pooling hands this layer's weight to a function, so it cannot simply be skipped. A
    # product with the identity changes no bit: every other term of the sums is zero.
    weight = projection.weight
    unit = torch.eye(projection.in_features, dtype=weight.dtype, device=weight.device)
    pool.c_proj = nn.Linear(len(unit), len(unit), bias=False, device="meta")
    pool.c_proj.weight = nn.Parameter(unit, requires_grad=False)
    return projection
