"""The ceiling of a CLIP-Adapter step: its matrix products alone, and the update alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cacheclip.bench.adapters import Run
from cacheclip.bench.harness import Timed
from cacheclip.bench.machine import Rates

STATE_BYTES = {"adamw": 24, "adam": 24, "sgd": 16}  # read and written a weight and step


def parts(runs: Sequence[tuple[Run, Sequence[int]]], units: float) -> dict[str, Timed]:
    """What a CPU cannot leave out of all steps of some runs, in preallocated memory.

    Args:
        runs: each with the variants that the engine trained at once, chunk by chunk.
        units: units of work in all of them.
    """
    steps = [Step(run, size) for run, chunks in runs for size in chunks]

    def products() -> None:
        for step in steps:
            for _ in range(step.steps):
                step.products()

    def update() -> None:
        for step in steps:
            for _ in range(step.steps):
                step.update()

    return {"products alone": Timed(products, units), "update alone": Timed(update, units)}


class Step:
    """The unavoidable parts of one step of V variants, laid out as the engine lays them."""

    def __init__(self, run: Run, variants: int) -> None:
        V, B, (C, D) = variants, run.batch, run.task.text["norm-mean"].shape
        H = max(1, D // int(run.method.settings["reduction"]))
        dtype = torch.bfloat16 if run.precision == "bf16" else run.task.dtype
        self.steps = run.steps
        self._optimizer = str(run.method.settings["optimizer"])
        g = torch.Generator().manual_seed(0)

        def some(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.randn(*shape, generator=g).to(run.task.device, dtype)

        self._x, self._a = some(V, B, D), some(V, B, D)
        self._h, self._dh = some(V, H, B), some(V, H, B)
        self._down, self._up, self._text = some(V, H, D), some(V, H, D), some(C, D)
        self._logits = some(V * B, C)
        self._products = [some(V, H, D) for _ in range(2)]
        wide = torch.float32
        self._weights, self._grads = ([some(V, H, D, dtype=wide) for _ in range(2)] for _ in "wg")
        self._moments = [[some(V, H, D, dtype=wide).abs_() for _ in range(2)] for _ in "ms"]
        self._step = torch.ones((), device=run.task.device)

    def products(self) -> None:
        """Forward W1 x^T, h W2^T, z T^T; backward g T, W2^T da^T, h^T da, dh^T x."""
        x, h, a, dh = self._x, self._h, self._a, self._dh
        torch.bmm(self._down, x.mT, out=h)
        torch.bmm(h.mT, self._up, out=a)
        torch.mm(a.flatten(0, 1), self._text.mT, out=self._logits)
        torch.mm(self._logits, self._text, out=a.flatten(0, 1))
        torch.bmm(self._up, a.mT, out=dh)
        torch.bmm(h, a, out=self._products[1])
        torch.bmm(dh, x, out=self._products[0])

    def update(self) -> None:
        """The fused step of torch on gradients that lie there."""
        shared: dict[str, Any] = {"lr": 1e-6, "weight_decay": 1e-4, "maximize": False}
        weights, grads, (m, s) = self._weights, self._grads, self._moments
        if self._optimizer == "sgd":
            torch._fused_sgd_(
                weights, grads, m, momentum=0.9, dampening=0.0, nesterov=False,
                is_first_step=False, **shared,
            )  # fmt: skip
            return
        torch._fused_adamw_(
            weights, grads, m, s, [], [self._step] * 2, beta1=0.9, beta2=0.999, eps=1e-8,
            amsgrad=False, **shared,
        )  # fmt: skip


def flops(run: Run) -> float:
    """Of one step of one variant: 10DH + 4DC a row."""
    C, D = run.task.text["norm-mean"].shape
    H = max(1, D // int(run.method.settings["reduction"]))
    return float(run.batch * (10 * D * H + 4 * D * C))


def seconds(run: Run, rates: Rates) -> float:
    """A GPU's floor of one step of one variant: arithmetic or optimizer state, the larger."""
    D = run.task.text["norm-mean"].shape[1]
    H = max(1, D // int(run.method.settings["reduction"]))
    moved = 2 * D * H * STATE_BYTES[str(run.method.settings["optimizer"])]
    return max(flops(run) / rates.matmul[run.precision], moved / rates.copy)
