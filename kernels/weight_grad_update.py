"""Weight gradients with the optimizer in the epilogue: the gradient never reaches memory.

    g[v] = a[v]^T b[v] + own[v] w[v] - pull[v] anchor                      (the Outer's meaning)
    adamw   w <- w - lr wd w             then the Adam step on g           (arXiv 1711.05101)
    adam    g <- g + wd w                then the Adam step on g           (coupled L2, as Dassl's)
            m <- b1 m + (1-b1) g,   s <- b2 s + (1-b2) g^2
            w <- w - lr m / (1-b1^t) / (sqrt(s / (1-b2^t)) + eps)          (arXiv 1412.6980)
    sgd     g <- g + wd w,   m <- momentum m + g,   w <- w - lr m
            nesterov:                                      w <- w - lr (g + momentum m)

Axes: V variants, B rows of the batch, m x n the weight. a [V,B,m] and b [V,B,n] share a dtype;
w [V,m,n] and the optimizer's state are float32, contiguous, and change in place; lr and weight
decay are [V]. own and pull scale the rows of w and of an anchor: what a penalty |w - anchor|^2 and
a division by |w_i| add to a gradient. There is no backward: this is the end of a step, not an
autograd Function.

Work a step and variant: 2Bmn flop; 24mn bytes for Adam (16mn for SGD), the floor of any optimizer,
4mn for an anchor, and (m+n)B elements of the factors, where a gradient in memory would add 8mn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from cacheclip.kernels import launch, tile
from cacheclip.kernels.launch import Setting, Workspace, jit, tl

Optimizer = Literal["adamw", "adam", "sgd"]
MOMENTS = {"adamw": 2, "adam": 2, "sgd": 1}


@dataclass(frozen=True)
class Outer:
    """The gradient a^T b + own w - pull anchor of a weight w [V,m,n], not formed.

    Attributes:
        a: [V,B,m].
        b: [V,B,n], of a's dtype.
        own: [V,m] or [V,1] of w's dtype, what each row of w counts; None for 0.
        pull: the same for the anchor's rows.
        anchor: [V,m,n], or [m,n] for all variants, of w's dtype; there with `pull` alone.
    """

    a: Tensor
    b: Tensor
    own: Tensor | None = None
    pull: Tensor | None = None
    anchor: Tensor | None = None

    def formed(self, weight: Tensor) -> Tensor:
        """The gradient after all, [V,m,n] in the weight's dtype."""
        return self.add_memory(torch.bmm(self.a.mT, self.b).to(weight.dtype), weight)

    def add_memory(self, product: Tensor, weight: Tensor) -> Tensor:
        """The product [V,m,n] with own w - pull anchor added in place."""
        if self.own is not None:
            product.addcmul_(self.own[..., None], weight)
        if self.pull is not None and self.anchor is not None:
            product.addcmul_(self.pull[..., None], self.anchor, value=-1)
        return product


@dataclass(frozen=True)
class Rule:
    """What one optimizer does with a gradient; the constants that no variant varies."""

    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in MOMENTS:
            raise ValueError(f"optimizer {self.optimizer!r} is none of {', '.join(MOMENTS)}")

    @property
    def moments(self) -> int:
        """How many tensors of the weight's shape a step remembers."""
        return MOMENTS[self.optimizer] if self.optimizer != "sgd" or self.momentum else 0

    def state(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Zeroed moments for `weight`: (m, s) for Adam, (m,) for SGD, () without momentum."""
        return tuple(torch.zeros_like(weight) for _ in range(self.moments))


class Rates(NamedTuple):
    """Learning rates of one step and what goes with them, one value a variant."""

    lr: Tensor  # [V] float32
    weight_decay: Tensor  # [V] float32; decoupled for adamw, coupled for adam and sgd
    step: Tensor  # float32, 1 for the first
    runs: Sequence[tuple[int, int, float, float]]  # neighbours first..last-1 of one lr and decay

    @classmethod
    def of(cls, lr: Tensor, weight_decay: Tensor, step: float | Tensor = 1) -> "Rates":
        """From [V] each; a step on the device can be captured in a CUDA graph."""
        lr, weight_decay = lr.float().contiguous(), weight_decay.float().contiguous()
        step = torch.as_tensor(step, device=lr.device, dtype=torch.float32)
        values = list(zip(lr.tolist(), weight_decay.tolist(), strict=True))
        return cls(lr, weight_decay, step, [(a, b, *values[a]) for a, b in neighbours(values)])


def neighbours(values: Sequence[Any]) -> list[tuple[int, int]]:
    """First and last of each run of equal values."""
    starts = [k for k in range(len(values)) if k == 0 or values[k] != values[k - 1]]
    return list(zip(starts, [*starts[1:], len(values)], strict=True))


def reference(
    weight: Tensor,
    grad: Tensor | Outer,
    state: tuple[Tensor, ...],
    rule: Rule,
    rates: Rates,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The new weight and state in plain torch; any dtype, nothing in place."""
    g = grad.formed(weight) if isinstance(grad, Outer) else grad.to(weight.dtype)  # [V,m,n]
    lr, weight_decay = (r[:, None, None].to(g) for r in rates[:2])  # [V,1,1]
    if rule.optimizer == "adamw":
        weight = weight - lr * weight_decay * weight
    else:
        g = g + weight_decay * weight
    if rule.optimizer == "sgd" and not state:
        return weight - lr * g, ()
    if rule.optimizer == "sgd":
        m = rule.momentum * state[0] + g
        return weight - lr * (g + rule.momentum * m if rule.nesterov else m), (m,)
    b1, b2 = rule.betas
    m = b1 * state[0] + (1 - b1) * g
    s = b2 * state[1] + (1 - b2) * g * g
    debias1, debias2 = 1 - b1 ** rates.step.double(), 1 - b2 ** rates.step.double()
    denominator = (s / debias2).sqrt() + rule.eps
    return weight - lr * (m / debias1) / denominator, (m, s)


@jit
def _product_kernel(
    a, b, own, pull, anchor, w, m1, m2, lr, decay, step,
    sav, sab, sam, sbv, sbb, sbn, sov, som, spv, spm, scv, scm, scn,
    B, M, N,
    beta1, beta2, gain1, gain2, log_beta1, log_beta2, eps,
    OPTIMIZER: tl.constexpr, OWN: tl.constexpr, PULL: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One tile of one variant's weight; OPTIMIZER "none" writes the product to w instead."""
    tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    v = (tl.program_id(0) // (tiles_m * tiles_n)).to(tl.int64)
    place = tl.program_id(0) % (tiles_m * tiles_n)
    i, j = tile.span((place // tiles_n) * BM, BM), tile.span((place % tiles_n) * BN, BN)
    in_i, in_j = i < M, j < N
    g = tl.zeros((BM, BN), tl.float32)
    for first in range(0, B, BK):
        k = tile.span(first, BK)
        left = tile.load(a + v * sav, i, k, in_i, k < B, sam, sab)
        right = tile.load(b + v * sbv, k, j, k < B, in_j, sbb, sbn)
        g = tile.dot(left, right, g)

    at = v * M * N + i[:, None] * N + j[None, :]
    inside = in_i[:, None] & in_j[None, :]
    if OPTIMIZER == "none":
        tl.store(w + at, g.to(w.dtype.element_ty), mask=inside)
    else:
        rate, shrink = tl.load(lr + v), tl.load(decay + v)
        weight = tl.load(w + at, mask=inside, other=0.0)
        if OWN:
            g += tl.load(own + v * sov + i * som, mask=in_i, other=0.0)[:, None] * weight
        if PULL:
            held = tile.load(anchor + v * scv, i, j, in_i, in_j, scm, scn)
            g -= tl.load(pull + v * spv + i * spm, mask=in_i, other=0.0)[:, None] * held
        if OPTIMIZER == "adamw":
            weight -= rate * shrink * weight
        else:
            g += shrink * weight
        if OPTIMIZER == "plain":
            weight -= rate * g
        elif OPTIMIZER == "sgd" or OPTIMIZER == "nesterov":
            m = beta1 * tl.load(m1 + at, mask=inside, other=0.0) + g
            weight -= rate * (g + beta1 * m if OPTIMIZER == "nesterov" else m)
            tl.store(m1 + at, m, mask=inside)
        else:
            m = beta1 * tl.load(m1 + at, mask=inside, other=0.0) + gain1 * g
            s = beta2 * tl.load(m2 + at, mask=inside, other=0.0) + gain2 * g * g
            # In float64: 1 - beta2^t loses four digits of float32 at t = 1.
            t = tl.load(step).to(tl.float64)
            debias1 = (1.0 - tl.exp(t * log_beta1)).to(tl.float32)
            debias2 = (1.0 - tl.exp(t * log_beta2)).to(tl.float32)
            weight -= rate * (m / debias1) / (tl.sqrt(s / debias2) + eps)
            tl.store(m1 + at, m, mask=inside)
            tl.store(m2 + at, s, mask=inside)
        tl.store(w + at, weight, mask=inside)


# By the bytes of a factor's element: float32 products run on the plain units, which hold a whole
# step of both factors in registers.
SETTINGS = {
    2: (
        Setting({"BM": 64, "BN": 64, "BK": 32}, warps=4, stages=3),
        Setting({"BM": 64, "BN": 128, "BK": 32}, warps=8, stages=3),
        Setting({"BM": 32, "BN": 64, "BK": 64}, warps=4, stages=3),
    ),
    4: (
        Setting({"BM": 32, "BN": 64, "BK": 32}, warps=4),
        Setting({"BM": 64, "BN": 64, "BK": 32}, warps=8),
    ),
}


def _launch_product(outer: Outer, w: Tensor, update: dict[str, Any], trial: Any = None) -> None:
    """Write a^T b to w, or with the arguments of an update change w by the whole gradient."""
    a, b = outer.a, outer.b
    (V, B, M), N = a.shape, b.shape[-1]
    unused: dict[str, Any] = dict.fromkeys(("m1", "m2", "lr", "decay", "step"), w)
    unused |= dict.fromkeys(("beta1", "beta2", "gain1", "gain2", "log_beta1", "log_beta2"), 0.0)
    named: dict[str, Any] = {"a": a, "b": b, "w": w, "B": B, "M": M, "N": N}
    named |= launch.strides("sav sab sam", a) | launch.strides("sbv sbb sbn", b)
    named |= unused | _memory(outer, w) | {"eps": 0.0, "OPTIMIZER": "none"} | update

    def grid(blocks: dict[str, int]) -> int:
        return V * launch.tiles(M, blocks["BM"]) * launch.tiles(N, blocks["BN"])

    launch.run(_product_kernel, grid, named, SETTINGS[a.element_size()], trial)


def _memory(outer: Outer, w: Tensor) -> dict[str, Any]:
    """The kernel's arguments for what a gradient has of its weight; w stands for what is None."""
    rows = [None if x is None else x.expand(w.shape[:2]) for x in (outer.own, outer.pull)]
    named: dict[str, Any] = {"own": w, "pull": w, "anchor": w}
    there = zip(named, (*rows, outer.anchor), strict=True)
    named |= {name: x for name, x in there if x is not None}
    named |= launch.strides("sov som", rows[0]) | launch.strides("spv spm", rows[1])
    named |= launch.strides("scv scm scn", outer.anchor)
    return named | {"OWN": outer.own is not None, "PULL": outer.pull is not None}


def weight_grad(outer: Outer, dtype: torch.dtype) -> Tensor:
    """The product a^T b formed after all, [V,m,n] in `dtype`: what autograd has to return."""
    a, b = outer.a, outer.b
    if not launch.uses_triton(a):
        return torch.bmm(a.mT, b).to(dtype)
    g = torch.empty(a.shape[0], a.shape[2], b.shape[2], dtype=dtype, device=a.device)
    _launch_product(outer, g, {})
    return g


def _update_triton(
    weight: Tensor,
    outer: Outer,
    state: tuple[Tensor, ...],
    rule: Rule,
    rates: Rates,
) -> None:
    b1, b2 = (rule.momentum, 0.0) if rule.optimizer == "sgd" else rule.betas
    kind = "nesterov" if rule.optimizer == "sgd" and rule.nesterov else rule.optimizer
    moments = dict(zip(("m1", "m2"), state, strict=False))
    update: dict[str, Any] = {**moments, "step": rates.step}
    update |= {"lr": rates.lr, "decay": rates.weight_decay}
    update |= {"eps": rule.eps, "OPTIMIZER": kind if state else "plain"}
    update |= {"beta1": b1, "beta2": b2, "gain1": 1 - b1, "gain2": 1 - b2}
    update |= {"log_beta1": _log(b1), "log_beta2": _log(b2)}

    def trial() -> dict[str, Tensor]:
        return {name: x.clone() for name, x in {"w": weight, **moments}.items()}

    _launch_product(outer, weight, update, trial)


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0 else -math.inf


def _update_torch(
    weight: Tensor, grad: Tensor, state: tuple[Tensor, ...], rule: Rule, rates: Rates
) -> None:
    """The fused in-place steps of torch, one call for all variants with equal rates."""
    alike: dict[tuple[float, float], list[tuple[int, int]]] = {}
    for first, last, *own in rates.runs:
        alike.setdefault((own[0], own[1]), []).append((first, last))
    for (lr, decay), runs in alike.items():
        w, g, *moments = ([t[a:b] for a, b in runs] for t in (weight, grad, *state))
        if rule.optimizer == "sgd":
            torch._fused_sgd_(
                w,
                g,
                moments[0] if moments else [],
                weight_decay=decay,
                momentum=rule.momentum,
                lr=lr,
                dampening=0.0,
                nesterov=rule.nesterov and bool(moments),
                maximize=False,
                is_first_step=False,
            )
            continue
        fused: Any = torch._fused_adamw_ if rule.optimizer == "adamw" else torch._fused_adam_
        fused(
            *(w, g, *moments, [], [rates.step] * len(w)),
            lr=lr,
            beta1=rule.betas[0],
            beta2=rule.betas[1],
            weight_decay=decay,
            eps=rule.eps,
            amsgrad=False,
            maximize=False,
        )


def weight_grad_update(
    weight: Tensor,
    grad: Outer | Tensor,
    state: tuple[Tensor, ...],
    rule: Rule,
    rates: Rates,
    *,
    work: Workspace | None = None,
) -> None:
    """One optimizer step of V weights, in place.

    Args:
        weight: [V,m,n] float32 (or float64, in torch), contiguous; with a dense `grad` any [V,...].
        grad: an `Outer`, or a gradient that exists already, of the weight's shape.
        state: what `rule.state(weight)` made, changed in place.
        rule: the optimizer and its constants.
        rates: of this step.
        work: holds the formed gradient on a CPU from step to step.

    Raises:
        ValueError: shapes, dtypes or layouts do not fit.
    """
    _check(weight, grad, state, rule, rates)
    if isinstance(grad, Outer):
        if launch.uses_triton(grad.a) and weight.dtype == torch.float32:
            _update_triton(weight, grad, state, rule, rates)
            return
        work = work or Workspace()
        formed = work.take(f"gradient {tuple(weight.shape)}", weight.shape, grad.a)
        torch.bmm(grad.a.mT, grad.b, out=formed)
        wide = work.rounded(f"wide gradient {tuple(weight.shape)}", formed, weight.dtype)
        dense = grad.add_memory(wide, weight)
    else:
        dense = grad.to(weight.dtype).contiguous()  # the fused steps read memory, not strides
    if weight.device.type == "cpu":
        _update_torch(weight, dense, state, rule, rates)
        return
    # The fused steps of torch read lr from the host: not to be captured in a CUDA graph.
    shape = (len(weight), -1, 1)
    parts = tuple(t.view(shape) for t in state)
    new, moments = reference(weight.view(shape), dense.reshape(shape), parts, rule, rates)
    for old, fresh in zip((weight, *state), (new, *moments), strict=True):
        old.copy_(fresh.view_as(old))


def _check(
    weight: Tensor, grad: Outer | Tensor, state: tuple[Tensor, ...], rule: Rule, rates: Rates
) -> None:
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"weight is {weight.dtype}; optimizers keep float32 weights")
    if len(state) != rule.moments:
        raise ValueError(f"{rule.optimizer} has {rule.moments} moments, not {len(state)}")
    if len(rates.lr) != len(weight):
        raise ValueError(f"rates are for {len(rates.lr)} variants, not {len(weight)}")
    for t in (weight, *state):
        if t.shape != weight.shape or t.dtype != weight.dtype or not t.is_contiguous():
            raise ValueError("weight and state must be contiguous and agree in shape and dtype")
    if isinstance(grad, Outer):
        a, b = grad.a, grad.b
        if a.ndim != 3 or b.ndim != 3 or a.shape[:2] != b.shape[:2] or a.dtype != b.dtype:
            raise ValueError(
                f"Outer needs a [V,B,m] and b [V,B,n] of one dtype, "
                f"not {list(a.shape)} {a.dtype} and {list(b.shape)} {b.dtype}"
            )
        shape = [a.shape[0], a.shape[2], b.shape[2]]
        _check_memory(grad, weight)
    else:
        shape = list(grad.shape)
    if shape != list(weight.shape):
        raise ValueError(f"gradient {shape} does not fit weight {list(weight.shape)}")


def _check_memory(outer: Outer, weight: Tensor) -> None:
    if (outer.pull is None) != (outer.anchor is None):
        raise ValueError("Outer has both pull and anchor, or neither")
    rows = [weight.shape[:2], (len(weight), 1)]
    whole = [weight.shape, weight.shape[1:]]
    for name, shapes in (("own", rows), ("pull", rows), ("anchor", whole)):
        x = getattr(outer, name)
        if x is not None and (x.shape not in shapes or x.dtype != weight.dtype):
            raise ValueError(
                f"{name} {list(x.shape)} {x.dtype} does not fit "
                f"weight {list(weight.shape)} {weight.dtype}"
            )
