"""Suite `kernels`: each op, forward and backward, against autograd through its formula."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.bench.ops import OPS, Op, Sizes
from cacheclip.errors import FitError

BATCH = 256
BUDGET = {"cpu": 5e9, "cuda": 1e12}  # flop of one timed call
MOST_CALLS = 100
BUFFERS = 3  # input sets that take turns, so that none stays in a cache
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}  # relative, of a whole array
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Call = Callable[..., Tensor]


def cases(setup: Setup) -> Iterator[Case]:
    """Each op with V = 1 and many variants; bf16 too on a GPU, where the kernels take it."""
    on_gpu = setup.device.type == "cuda"
    for name, op in OPS.items():
        for variants in dict.fromkeys((1, max(setup.variants, 64) if on_gpu else setup.variants)):
            for precision in ("fp32", "bf16") if on_gpu else ("fp32",):
                yield _case(setup, name, op, variants, precision)


def _case(setup: Setup, name: str, op: Op, variants: int, precision: str) -> Case:
    shape, kind = setup.shape, setup.device.type
    sizes = Sizes(
        V=variants,
        B=BATCH,
        D=shape.dim,
        H=shape.hidden,
        C=shape.classes,
        N=shape.support,
        dtype=DTYPES[precision],
        device=setup.device,
    )
    calls = max(1, min(MOST_CALLS, int(BUDGET[kind] / op.flops(sizes))))
    buffers = [op.inputs(sizes) for _ in range(BUFFERS)]
    baselines = {"autograd": Timed(_repeat(op.reference, op, buffers, calls), calls)}
    if kind == "cuda":
        compiled: Call = torch.compile(op.reference, dynamic=False)
        baselines["torch.compile"] = Timed(_repeat(compiled, op, buffers, calls), calls)
    arithmetic = op.flops(sizes) / setup.rates.matmul[precision]
    return Case(
        name=f"{name} V={variants} {precision}",
        unit="call",
        ours=Timed(_repeat(op.call, op, buffers, calls), calls),
        baselines=baselines,
        says={
            "shape": shape.name,
            "variants": variants,
            "batch_size": BATCH,
            "precision": precision,
            "epochs": None,
            "optimizer": "adamw" if not op.wants else None,
            "gradients": op.wants,
            "gflop": op.flops(sizes) / 1e9,
            "megabytes": op.bytes(sizes) / 1e6,
            "calls_timed": calls,
            "ceiling": "flops / matmul or bytes / copy, the larger; a cache can beat the latter",
        },
        limit=max(arithmetic, op.bytes(sizes) / setup.rates.copy),
        job="call",
        check=lambda: _agreement(name, op, buffers[0], precision),
    )


def _repeat(
    call: Call, op: Op, buffers: Sequence[dict[str, Any]], calls: int
) -> Callable[[], None]:
    """Calls on the buffers in turn, each with a gradient that lies there."""
    with torch.no_grad():
        upstream = torch.randn_like(op.reference(**buffers[0])) if op.wants else None
    turns = cycle(buffers)

    def run() -> None:
        for _ in range(calls):
            both_ways(call, op, next(turns), upstream)

    return run


def both_ways(
    call: Call, op: Op, inputs: dict[str, Any], upstream: Tensor | None
) -> tuple[Tensor, ...]:
    """The output, and the gradients that the op wants."""
    if upstream is None:
        with torch.no_grad():
            return (call(**inputs),)
    wanted = {name: inputs[name].detach().requires_grad_() for name in op.wants}
    out = call(**inputs | wanted)
    gradients = torch.autograd.grad(out, list(wanted.values()), upstream.to(out.dtype))
    return (out.detach(), *gradients)


def _agreement(name: str, op: Op, inputs: dict[str, Any], precision: str) -> dict[str, float]:
    """Output and gradients are those of the formula in float32."""
    wide = {
        key: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in inputs.items()
    }
    own = {k: v.clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    with torch.no_grad():
        shape = op.reference(**wide)
    upstream = torch.randn_like(shape) if op.wants else None
    exact = both_ways(op.reference, op, wide, upstream)
    got = both_ways(op.call, op, own, upstream)
    off = max(
        float((a.float() - b.float()).norm() / b.float().norm())
        for a, b in zip(got, exact, strict=True)
    )
    if not off <= TOLERANCE[precision]:
        raise FitError(
            f"{name} is {off:.1e} off its formula",
            where=f"{precision}, inputs of the bench",
            fix="this is a bug; speed means nothing before it is found",
        )
    return {"relative_error": off}
