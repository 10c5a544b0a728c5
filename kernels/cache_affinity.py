"""Tip-Adapter's cache logits as a segment sum over class-sorted keys (arXiv 2207.09519, eq. 5).

    A_ik = x_i . k_k           out[p,i,c] = sum over class c's keys k of exp(-beta_p (1 - A_ik))

    S_ik = sum_p dout[p,i,class(k)] beta_p exp(-beta_p (1 - A_ik))          dkeys = S^T x

Axes: V variants, B rows, K keys, C classes, P betas, D feature width. The paper multiplies the
affinities by one-hot values; with keys sorted by class that product only adds neighbours, and
class c's keys are offsets[c] to offsets[c+1]. Several betas share one A. Features and betas are
given, not learned: only the keys have a gradient, which is what Tip-Adapter-F trains.

Work a row: 2KD flop and PK exp forward, for every four betas; the backward pass again and 2KD for
each chunk of D that it writes. Bytes: x and keys once a tile, 4PC a row out; [B,K] and its product
with the values stay on the chip.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacheclip.kernels import launch, tile
from cacheclip.kernels.launch import Setting, jit, tl
from cacheclip.kernels.rows import check, gather


def reference(
    x: Tensor, keys: Tensor, offsets: Tensor, betas: Tensor, rows: Tensor | None = None
) -> Tensor:
    """The formula in plain torch, with one-hot values; any dtype, differentiable."""
    x = gather(x, rows, _variants(x, keys, betas, rows))
    affinity = x @ keys.mT  # [V,B,K]
    betas = betas.to(x.dtype).expand(x.shape[0], -1)[..., None, None]
    values = torch.nn.functional.one_hot(_classes(offsets, keys), len(offsets) - 1).to(x.dtype)
    return torch.exp(-betas * (1 - affinity)[:, None]) @ values  # [V,P,B,C]


def _variants(x: Tensor, keys: Tensor, betas: Tensor, rows: Tensor | None) -> int:
    """V: the leading axis of whichever argument has one."""
    lead = [t.shape[0] for t, shared in ((x, 2), (keys, 2), (betas, 1)) if t.ndim > shared]
    if rows is not None and rows.ndim > 1:
        lead.append(rows.shape[0])
    return lead[0] if lead else 1


def _classes(offsets: Tensor, keys: Tensor) -> Tensor:
    """Each key's class, [K]."""
    places = torch.arange(keys.shape[-2], device=keys.device)
    return torch.searchsorted(offsets, places, right=True) - 1


@jit
def _affinity(
    x, keys, row, k, in_i, in_k, sxn, sxd, skk, skd, D,
    BM: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """The products x . key of one tile, [BM,BK] float32."""
    acc = tl.zeros((BM, BK), tl.float32)
    for first in range(0, D, BD):
        d = tile.span(first, BD)
        xs = tile.load(x, row, d, in_i, d < D, sxn, sxd)
        ks = tile.load(keys, d, k, d < D, in_k, skd, skk)
        acc = tile.dot(xs, ks, acc)
    return acc


@jit
def _forward_kernel(
    x, keys, offsets, betas, rows, out,
    sxv, sxn, sxd, skv, skk, skd, srv, srb,
    B, C, D, P,
    GATHER: tl.constexpr, NB: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """BC classes of BM rows for NB betas: [NB,BM,BK] affinities times [BK,BC] membership."""
    row_tiles, class_tiles, groups = tl.cdiv(B, BM), tl.cdiv(C, BC), tl.cdiv(P, NB)
    place = tl.program_id(0)
    i = tile.span((place % row_tiles) * BM, BM)
    place = place // row_tiles
    c = tile.span((place % class_tiles) * BC, BC)
    place = place // class_tiles
    p = tile.span((place % groups) * NB, NB)
    v = (place // groups).to(tl.int64)
    in_i, in_c = i < B, c < C
    row = i
    if GATHER:
        row = tl.load(rows + v * srv + i * srb, mask=in_i, other=0)
    beta = tl.load(betas + v * P + p, mask=p < P, other=0.0)
    start = tl.load(offsets + c, mask=in_c, other=0)
    stop = tl.load(offsets + c + 1, mask=in_c, other=0)
    last = tl.max(stop, axis=0)
    acc = tl.zeros((NB * BM, BC), tl.float32)
    for first in range(tl.min(tl.where(in_c, start, last), axis=0), last, BK):
        k = first + tl.arange(0, BK)
        in_k = k < last
        near = _affinity(
            x + v * sxv, keys + v * skv, row, k, in_i, in_k, sxn, sxd, skk, skd, D, BM, BK, BD
        )
        weight = tl.exp(beta[:, None, None] * (near - 1.0)[None, :, :])
        weight = tl.where(in_k[None, None, :], weight, 0.0)
        member = (k[:, None] >= start[None, :]) & (k[:, None] < stop[None, :])
        acc = tile.dot(tl.reshape(weight, (NB * BM, BK)), member.to(tl.float32), acc)
    inside = (p < P)[:, None, None] & in_i[None, :, None] & in_c[None, None, :]
    at = ((v * P + p[:, None, None]) * B + i[None, :, None]) * C + c[None, None, :]
    tl.store(out + at, tl.reshape(acc, (NB, BM, BC)), mask=inside)


@jit
def _grad_keys_kernel(
    x, keys, classes, betas, rows, dout, dkeys,
    sxv, sxn, sxd, skv, skk, skd, srv, srb,
    B, C, D, P, K,
    GATHER: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BN columns of dkeys for BK keys of one variant."""
    chunks = tl.cdiv(D, BN)
    tiles = tl.cdiv(K, BK) * chunks
    v = (tl.program_id(0) // tiles).to(tl.int64)
    place = tl.program_id(0) % tiles
    k, n = tile.span((place // chunks) * BK, BK), tile.span((place % chunks) * BN, BN)
    in_k, in_n = k < K, n < D
    x += v * sxv
    keys += v * skv
    own = tl.load(classes + k, mask=in_k, other=0)
    acc = tl.zeros((BK, BN), tl.float32)
    for first in range(0, B, BM):
        i = tile.span(first, BM)
        in_i = i < B
        row = i
        if GATHER:
            row = tl.load(rows + v * srv + i * srb, mask=in_i, other=0)
        near = _affinity(x, keys, row, k, in_i, in_k, sxn, sxd, skk, skd, D, BM, BK, BD)
        pull = tl.zeros((BM, BK), tl.float32)
        for p in range(0, P):
            beta = tl.load(betas + v * P + p)
            g = tile.load(dout + (v * P + p) * B * C, i, own, in_i, in_k, C, 1)
            pull += g * beta * tl.exp(beta * (near - 1.0))
        xs = tile.load(x, row, n, in_i, in_n, sxn, sxd)
        acc = tile.dot(tl.trans(pull.to(xs.dtype)), xs, acc)
    tile.store(dkeys + v * K * D, k, n, in_k, in_n, D, 1, acc)


# By the bytes of an element: float32 products run on the plain units, which hold a whole step of
# both factors in registers, so they take short ones.
FORWARD_SETTINGS = {
    2: (
        Setting({"BM": 32, "BK": 32, "BC": 16, "BD": 64}, warps=4),
        Setting({"BM": 32, "BK": 32, "BC": 16, "BD": 64}, warps=8),
    ),
    4: (
        Setting({"BM": 32, "BK": 32, "BC": 16, "BD": 16}, warps=4),
        Setting({"BM": 32, "BK": 32, "BC": 16, "BD": 16}, warps=8),
    ),
}
GRAD_SETTINGS = {
    2: (
        Setting({"BM": 32, "BK": 32, "BD": 32, "BN": 128}, warps=4),
        Setting({"BM": 32, "BK": 64, "BD": 32, "BN": 256}, warps=8),
    ),
    4: (
        Setting({"BM": 32, "BK": 16, "BD": 16, "BN": 128}, warps=4),
        Setting({"BM": 32, "BK": 32, "BD": 16, "BN": 64}, warps=4),
    ),
}


class Saved(NamedTuple):
    """What the backward pass needs; `held` is the torch path's: A - 1 [V,B,K]."""

    x: Tensor
    keys: Tensor
    offsets: Tensor
    betas: Tensor
    rows: Tensor | None
    held: tuple[Tensor, ...] = ()


def _arguments(saved: Saved, batch: int) -> dict[str, Any]:
    """The arguments that both kernels share."""
    x, keys, offsets, betas, rows = saved[:5]
    named: dict[str, Any] = {"x": x, "keys": keys, "betas": betas}
    named |= {"rows": offsets if rows is None else rows, "GATHER": rows is not None}
    named |= {"B": batch, "C": len(offsets) - 1, "D": x.shape[-1], "P": betas.shape[1]}
    named |= launch.strides("sxv sxn sxd", x) | launch.strides("skv skk skd", keys)
    return named | launch.strides("srv srb", rows)


def _forward_triton(saved: Saved, batch: int) -> tuple[Tensor, Saved]:
    V, P = saved.betas.shape
    C = len(saved.offsets) - 1
    NB = 1 if P == 1 else 4
    out = torch.empty(V, P, batch, C, device=saved.x.device)
    launch.run(
        _forward_kernel,
        lambda blocks: (
            V * launch.tiles(P, NB)
            * launch.tiles(batch, blocks["BM"]) * launch.tiles(C, blocks["BC"])
        ),
        _arguments(saved, batch) | {"offsets": saved.offsets, "out": out, "NB": NB},
        FORWARD_SETTINGS[saved.x.element_size()],
    )  # fmt: skip
    return out, saved


def _backward_triton(saved: Saved, dout: Tensor) -> Tensor:
    V, _, B, _ = dout.shape
    K, D = saved.keys.shape[-2:]
    dkeys = torch.empty(V, K, D, device=dout.device)
    launch.run(
        _grad_keys_kernel,
        lambda blocks: V * launch.tiles(K, blocks["BK"]) * launch.tiles(D, blocks["BN"]),
        _arguments(saved, B)
        | {"classes": _classes(saved.offsets, saved.keys), "K": K}
        | {"dout": dout.contiguous(), "dkeys": dkeys},
        GRAD_SETTINGS[saved.x.element_size()],
    )
    return dkeys


def _forward_torch(saved: Saved, batch: int) -> tuple[Tensor, Saved]:
    """One product for all betas, then one exp and one segment sum each in held memory."""
    x, keys, offsets, betas, rows, _ = saved
    V, P = betas.shape
    C = len(offsets) - 1
    near = torch.matmul(gather(x, rows, V).to(betas.dtype), keys.to(betas.dtype).mT)  # [V,B,K]
    near.sub_(1)
    out = near.new_empty(V, P, batch, C)
    weight = torch.empty_like(near)
    counts = offsets.diff()
    balanced = bool((counts == counts[0]).all()) and int(counts[0]) > 0
    values = None
    if not balanced:
        values = torch.nn.functional.one_hot(_classes(offsets, keys), C).to(near.dtype)
    for p in range(P):
        torch.mul(near, betas[:, p, None, None], out=weight).exp_()
        if values is None:
            torch.sum(weight.unflatten(-1, (C, -1)), -1, out=out[:, p])
        else:
            out[:, p] = weight @ values
    return out, saved._replace(held=(near,))


def _backward_torch(saved: Saved, dout: Tensor) -> Tensor:
    x, keys, offsets, betas, rows, (near,) = saved
    classes = _classes(offsets, keys)
    pull = torch.zeros_like(near)
    for p in range(betas.shape[1]):
        beta = betas[:, p, None, None]
        weight = torch.mul(near, beta).exp_().mul_(beta)
        pull.addcmul_(weight, dout[:, p].index_select(-1, classes))
    return torch.bmm(pull.mT, gather(x, rows, betas.shape[0]).to(betas.dtype))


class _CacheAffinity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, keys, offsets, betas, rows):
        saved = Saved(x, keys, offsets, betas, rows)
        batch = x.shape[-2] if rows is None else rows.shape[-1]
        run = _forward_triton if launch.uses_triton(x) else _forward_torch
        out, saved = run(saved, batch)
        ctx.save_for_backward(*saved[:-1], *saved.held)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        saved = Saved(*ctx.saved_tensors[:5])._replace(held=ctx.saved_tensors[5:])
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        run = _backward_torch if saved.held else _backward_triton
        dkeys = run(saved, dout)
        if saved.keys.ndim == 2:
            dkeys = dkeys.sum(0)
        return None, dkeys.to(saved.keys.dtype), None, None, None


def cache_affinity(
    x: Tensor,
    keys: Tensor,
    offsets: Tensor,
    betas: Tensor,
    rows: Tensor | None = None,
) -> Tensor:
    """Sums of exp(-beta (1 - x . key)) over each class's keys, differentiable in the keys.

    Args:
        x: unit rows [N,D] shared by all variants, or [V,N,D]; float32, bfloat16, float16 (float64
            in torch).
        keys: [K,D] or [V,K,D] in x's dtype, sorted by class.
        offsets: int64 [C+1] from 0 to K, not falling: class c's keys are offsets[c]:offsets[c+1].
        betas: [P], or [V,P] for each variant its own.
        rows: int64 [B] or [V,B], rows of x that each variant reads, in [0, N); all without it.

    Returns:
        [V,P,B,C] float32 (float64 for float64); V is 1 if no argument has a leading axis.

    Raises:
        ValueError: shapes or dtypes do not fit, or x or betas ask for a gradient.
    """
    _check(x, keys, offsets, betas, rows)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    V = _variants(x, keys, betas, rows)
    betas = betas.to(x.device, wide).expand(V, -1).contiguous()
    return _CacheAffinity.apply(x, keys, offsets.contiguous(), betas, rows)


def _check(x: Tensor, keys: Tensor, offsets: Tensor, betas: Tensor, rows: Tensor | None) -> None:
    V = _variants(x, keys, betas, rows)
    if tuple(x.shape[:-2]) not in ((), (V,)) or tuple(keys.shape[:-2]) not in ((), (V,)):
        raise ValueError(f"x {list(x.shape)} and keys {list(keys.shape)} must be 2-D or [{V},.,D]")
    if x.shape[-1] != keys.shape[-1] or x.dtype != keys.dtype:
        raise ValueError(
            f"x {list(x.shape)} {x.dtype} and keys {list(keys.shape)} {keys.dtype} must agree"
        )
    if offsets.dtype != torch.int64 or offsets.ndim != 1 or len(offsets) < 2:
        raise ValueError(f"offsets must be int64 [C+1], not {offsets.dtype} {list(offsets.shape)}")
    if tuple(betas.shape[:-1]) not in ((), (V,)) or betas.ndim == 0:
        raise ValueError(f"betas must be [P] or [{V},P], not {list(betas.shape)}")
    check(rows, V)
    if x.requires_grad or betas.requires_grad:
        raise ValueError("only keys have a gradient here: detach x and betas, or use `reference`")
