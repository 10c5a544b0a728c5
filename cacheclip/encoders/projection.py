"""Splitting an image tower before its last linear map, so that one pass gives both sides."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Projection:
    """The last map of a tower: features @ matrix, and the bias where it has one.

    Attributes:
        matrix: [E, D].
        bias: [D], None where there is none.
        linear: the layer that the tower itself has, None where it has the matrix alone.
    """

    matrix: Tensor
    bias: Tensor | None = None
    linear: nn.Linear | None = None

    @classmethod
    def of(cls, part: Any) -> "Projection | None":
        """The map of a matrix [E, D] or a linear layer; None of anything else."""
        if isinstance(part, nn.Parameter):
            return cls(part)
        if isinstance(part, nn.Linear):
            return cls(part.weight.T, part.bias, part)
        return None

    def __call__(self, features: Tensor) -> Tensor:
        """Features [B, E] to [B, D], bit for bit as the tower itself computes them."""
        if self.linear is None:
            return features @ self.matrix
        projected: Tensor = self.linear(features)
        return projected


def take_last_projection(tower: Any) -> Projection | None:
    """Remove the last projection of an open_clip image tower and give it back as a function.

    Afterwards the tower gives the features before it, [B, E], and `projection(features)` gives what
    the tower gave before, [B, D]. Three forms are known: the `proj` matrix of a vision transformer,
    the linear `head.proj` of a timm tower, and `attnpool.c_proj` of CLIP's ResNets.

    Returns:
        The projection, or None where the tower does not end in one of these (it is left as it was).
    """
    if isinstance(getattr(tower, "proj", None), nn.Parameter):
        matrix = Projection.of(tower.proj)
        tower.proj = None
        return matrix
    head = getattr(tower, "head", None)
    if isinstance(head, nn.Sequential) and len(head) and isinstance(head[-1], nn.Linear):
        linear = Projection.of(head[-1])
        head[-1] = nn.Identity()
        return linear
    pool = getattr(tower, "attnpool", None)
    if isinstance(getattr(pool, "c_proj", None), nn.Linear):
        return _take_pool_projection(pool)
    return None


def _take_pool_projection(pool: Any) -> Projection | None:
    projection: nn.Linear = pool.c_proj
    # Attention pooling hands this layer's weight to a function, so it cannot simply be skipped. A
    # product with the identity changes no bit: every other term of the sums is zero.
    weight = projection.weight
    unit = torch.eye(projection.in_features, dtype=weight.dtype, device=weight.device)
    pool.c_proj = nn.Linear(len(unit), len(unit), bias=False, device="meta")
    pool.c_proj.weight = nn.Parameter(unit, requires_grad=False)
    return Projection.of(projection)
