"""What is timed of each kernel: its inputs, its formula, and the work that both directions are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cacheclip.kernels import (
    cache_affinity,
    cosine_cross_entropy,
    residual_mlp,
    weight_grad_update,
)
from cacheclip.kernels.weight_grad_update import Outer, Rates, Rule


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
        norm: Tensor = x.norm(dim=-1, keepdim=True)
        return (x / norm).to(self.dtype)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Random int64 below `high`."""
        return torch.randint(high, shape, device=self.device)


@dataclass(frozen=True)
class Op:
    """How an op is timed, forward and backward.

    Attributes:
        inputs: makes the arguments of `call` and `reference` by name.
        call: the public op.
        reference: the formula in plain torch.
        wants: arguments whose gradients are taken; none for an op without a backward.
        flops: of the products that both directions need.
        bytes: that both directions must move, each array once each way.
    """

    inputs: Callable[[Sizes], dict[str, Any]]
    call: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    wants: tuple[str, ...]
    flops: Callable[[Sizes], float]
    bytes: Callable[[Sizes], float]


def _mlp_inputs(s: Sizes) -> dict[str, Any]:
    return {
        "x": s.unit(s.N, s.D),
        "w1": s.randn(s.V, s.H, s.D, wide=True) / s.D**0.5,
        "w2": s.randn(s.V, s.D, s.H, wide=True) / s.H**0.5,
        "alpha": torch.linspace(0.2, 0.8, s.V, device=s.device),
        "rows": s.integers(s.N, s.V, s.B),
    }


def _mlp_bytes(s: Sizes) -> float:
    """Picked rows and dz in, z out and in again; both weights in twice, their gradients out."""
    return s.V * (4 * s.B * s.D * s.dtype.itemsize + 3 * 2 * s.D * s.H * 4)


def _loss_inputs(s: Sizes) -> dict[str, Any]:
    return {
        "y": s.randn(s.V, s.B, s.D),
        "text": s.unit(s.C, s.D),
        "labels": s.integers(s.C, s.V, s.B),
        "scale": 100.0,
    }


def _step_inputs(s: Sizes) -> dict[str, Any]:
    return {
        "weight": s.randn(s.V, s.H, s.D, wide=True),
        "a": s.randn(s.V, s.B, s.H),
        "b": s.randn(s.V, s.B, s.D),
        "m": s.randn(s.V, s.H, s.D, wide=True),
        "s": s.randn(s.V, s.H, s.D, wide=True).square(),
    }


def _rates(weight: Tensor) -> Rates:
    each = weight.new_ones(len(weight))
    return Rates.of(1e-3 * each, 1e-2 * each, 10)


def _adamw(weight: Tensor, a: Tensor, b: Tensor, m: Tensor, s: Tensor) -> Tensor:
    rates = _rates(weight)
    weight_grad_update.weight_grad_update(weight, Outer(a, b), (m, s), Rule(), rates)
    return weight


def _adamw_reference(weight: Tensor, a: Tensor, b: Tensor, m: Tensor, s: Tensor) -> Tensor:
    rates = _rates(weight)
    return weight_grad_update.reference(weight, Outer(a, b), (m, s), Rule(), rates)[0]


def _cache_inputs(s: Sizes) -> dict[str, Any]:
    keys = s.N // s.C * s.C
    return {
        "x": s.unit(s.N, s.D),
        "keys": s.unit(s.V, keys, s.D),
        "offsets": torch.arange(0, keys + 1, keys // s.C, device=s.device),
        "betas": torch.full((s.V, 1), 5.5, device=s.device),
        "rows": s.integers(s.N, s.V, s.B),
    }


OPS: Mapping[str, Op] = MappingProxyType(
    {
        "residual_mlp": Op(
            inputs=_mlp_inputs,
            call=residual_mlp.residual_mlp,
            reference=residual_mlp.reference,
            wants=("w1", "w2"),
            flops=lambda s: s.V * s.B * 10 * s.D * s.H,
            bytes=_mlp_bytes,
        ),
        "cosine_cross_entropy": Op(
            inputs=_loss_inputs,
            call=cosine_cross_entropy.cosine_cross_entropy,
            reference=cosine_cross_entropy.reference,
            wants=("y",),
            flops=lambda s: s.V * s.B * 4 * s.C * s.D,
            bytes=lambda s: (3 * s.V * s.B * s.D + 2 * s.C * s.D) * s.dtype.itemsize,
        ),
        "weight_grad_update": Op(
            inputs=_step_inputs,
            call=_adamw,
            reference=_adamw_reference,
            wants=(),
            flops=lambda s: s.V * 2 * s.B * s.H * s.D,
            bytes=lambda s: s.V * (24 * s.H * s.D + (s.H + s.D) * s.B * s.dtype.itemsize),
        ),
        "cache_affinity": Op(
            inputs=_cache_inputs,
            call=cache_affinity.cache_affinity,
            reference=cache_affinity.reference,
            wants=("keys",),
            flops=lambda s: s.V * s.B * 4 * s.N * s.D,
            bytes=lambda s: s.V * (3 * s.N * s.D + 2 * s.B * s.D) * s.dtype.itemsize,
        ),
    }
)
