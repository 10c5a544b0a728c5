"""What `cacheclip bench kernels` needs to know of an op; each op's file ends with its `BENCH`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Axes as the op's file names them, and where and in what the inputs are."""

    V: int
    B: int
    D: int
    H: int
    C: int
    N: int
    dtype: torch.dtype
    device: torch.device

    def randn(self, *shape: int, wide: bool = False) -> Tensor:
        """Standard normal numbers in `dtype`, float32 if wide."""
        return torch.randn(*shape, device=self.device).to(torch.float32 if wide else self.dtype)

    def unit(self, *shape: int) -> Tensor:
        """Random rows of length 1."""
        x = torch.randn(*shape, device=self.device)
        return (x / x.norm(dim=-1, keepdim=True)).to(self.dtype)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Random int64 below `high`."""
        return torch.randint(high, shape, device=self.device)


@dataclass(frozen=True)
class BenchSpec:
    """How an op is timed, forward and backward.

    Attributes:
        inputs: makes the arguments of `op` and `reference` by name.
        op: the public op.
        reference: the formula in plain torch.
        wants: arguments whose gradients are taken; none for an op without a backward.
        flops: of the products that both directions need.
        bytes: that both directions must move, each array once each way.
    """

    inputs: Callable[[Sizes], dict[str, Any]]
    op: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    wants: tuple[str, ...]
    flops: Callable[[Sizes], float]
    bytes: Callable[[Sizes], float]
