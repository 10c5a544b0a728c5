"""CLIP-Adapter's bottleneck MLP, residual blend and L2 norm in one kernel (arXiv 2110.04544).

    h = relu(x W1^T)   a = relu(h W2^T)   y = alpha a + (1 - alpha) x   z = y / max(|y|, 1e-12)

    dy = (dz - z (z . dz)) / |y|          (dy = dz without the norm)
    da = alpha dy [a > 0]                 dalpha = sum dy . (a - x)
    dh = da W2 [h > 0]                    dx = (1 - alpha) dy + dh W1, summed over repeated rows
    dW2 = da^T h                          dW1 = dh^T x

Axes: V variants, B rows of a batch, D feature width, H <= 512 hidden width. x [N,D] is shared by
all variants, or [V,N,D]; rows [B] or [V,B] picks from N; W1 [V,H,D], W2 [V,D,H], alpha [V].
Products run in x's dtype with float32 sums (float32 products in ieee precision); the weights may be
float32 beside a bfloat16 x and are rounded as they are read. The backward pass recomputes h and a.

Work a row: 4DH flop forward, 8DH backward (4DH of them again), 4DH for the weight gradients.
Bytes a row: 2D elements forward, 4D + 2H backward; the weights once for each tile of rows.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacheclip.kernels import launch, tile
from cacheclip.kernels.launch import Setting, Workspace, jit, tl
from cacheclip.kernels.rows import check, gather, scatter
from cacheclip.kernels.weight_grad_update import Outer, weight_grad

EPS = 1e-12
MAX_HIDDEN = 512


def reference(
    x: Tensor,
    w1: Tensor,
    w2: Tensor,
    alpha: float | Tensor,
    rows: Tensor | None = None,
    *,
    normalize: bool = True,
) -> Tensor:
    """The formula in plain torch, [V,B,D]; in the dtype of x, differentiable in everything."""
    x = gather(x, rows, w1.shape[0])
    alpha = torch.as_tensor(alpha, dtype=x.dtype, device=x.device).reshape(-1, 1, 1)
    h = (x @ w1.to(x.dtype).mT).relu()  # [V,B,H]
    a = (h @ w2.to(x.dtype).mT).relu()  # [V,B,D]
    y = alpha * a + (1 - alpha) * x
    return y / y.norm(dim=-1, keepdim=True).clamp_min(EPS) if normalize else y


@jit
def _hidden(
    x, w1, row, live, sxn, sxd, swh, swd, D, H, HP: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr
):
    """The first layer relu(x W1^T) of one tile of rows, [BM,HP] float32."""
    j = tile.span(0, HP)
    h = tl.zeros((BM, HP), tl.float32)
    for first in range(0, D, BD):
        d = tile.span(first, BD)
        xs = tile.load(x, row, d, live, d < D, sxn, sxd)
        ws = tile.load(w1, d, j, d < D, j < H, swd, swh)
        h = tile.dot(xs, ws.to(xs.dtype), h)
    return tl.where(h < 0.0, 0.0, h)  # keeps NaN, which tl.maximum drops


@jit
def _forward_kernel(
    x, w1, w2, alpha, rows, z, inverse,
    sxv, sxn, sxd, sw1v, sw1h, sw1d, sw2v, sw2d, sw2h, srv, srb,
    B, D, H, eps,
    GATHER: tl.constexpr, NORMALIZE: tl.constexpr, HP: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(B, BM)
    v = (tl.program_id(0) // tiles).to(tl.int64)
    i = tile.span((tl.program_id(0) % tiles) * BM, BM)
    live = i < B
    row = i
    if GATHER:
        row = tl.load(rows + v * srv + i * srb, mask=live, other=0)
    x += v * sxv
    z += v * B * D
    h = _hidden(x, w1 + v * sw1v, row, live, sxn, sxd, sw1h, sw1d, D, H, HP, BM, BD)
    h = h.to(x.dtype.element_ty)
    blend = tl.load(alpha + v)
    j = tile.span(0, HP)
    square = tl.zeros((BM,), tl.float32)
    for first in range(0, D, BD):
        d = tile.span(first, BD)
        ws = tile.load(w2 + v * sw2v, j, d, j < H, d < D, sw2h, sw2d)
        a = tile.dot(h, ws.to(h.dtype), tl.zeros((BM, BD), tl.float32))
        a = tl.where(a < 0.0, 0.0, a)
        xs = tile.load(x, row, d, live, d < D, sxn, sxd).to(tl.float32)
        y = blend * a + (1.0 - blend) * xs
        square += tl.sum(y * y, axis=1)
        tile.store(z, i, d, live, d < D, D, 1, y)

    if NORMALIZE:
        inv = 1.0 / tl.maximum(tl.sqrt(square), eps)
        tl.store(inverse + v * B + i, inv, mask=live)
        tl.debug_barrier()  # the tile is read back by other threads than wrote it
        for first in range(0, D, BD):
            d = tile.span(first, BD)
            y = tile.load(z, i, d, live, d < D, D, 1).to(tl.float32)
            tile.store(z, i, d, live, d < D, D, 1, y * inv[:, None])


@jit
def _widen(h, w, i, d, in_i, in_d, swh, swd, H, BM: tl.constexpr, BD: tl.constexpr):
    """Columns d of the second layer, from stored rows of h: registers never hold a whole row."""
    a = tl.zeros((BM, BD), tl.float32)
    for first in range(0, H, BD):
        j = tile.span(first, BD)
        hs = tile.load(h, i, j, in_i, j < H, H, 1)
        ws = tile.load(w, j, d, j < H, in_d, swh, swd)
        a = tile.dot(hs, ws.to(hs.dtype), a)
    return tl.where(a < 0.0, 0.0, a)


@jit
def _backward_kernel(
    x, w1, w2, alpha, rows, z, dz, inverse, da, dh, h_out, dalpha, dx,
    sxv, sxn, sxd, sw1v, sw1h, sw1d, sw2v, sw2d, sw2h, srv, srb, sgv, sgb, sgd,
    B, D, H, eps,
    GATHER: tl.constexpr, NORMALIZE: tl.constexpr, DX: tl.constexpr, HP: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """All of da, dh, h and dalpha, and of dx the blend's part, (1 - alpha) dy."""
    tiles = tl.cdiv(B, BM)
    v = (tl.program_id(0) // tiles).to(tl.int64)
    i = tile.span((tl.program_id(0) % tiles) * BM, BM)
    live = i < B
    row = i
    if GATHER:
        row = tl.load(rows + v * srv + i * srb, mask=live, other=0)
    x += v * sxv
    w2 += v * sw2v
    dz += v * sgv
    out = v * B + i  # this tile's rows in every [V,B,...] array
    j = tile.span(0, HP)
    h = _hidden(x, w1 + v * sw1v, row, live, sxn, sxd, sw1h, sw1d, D, H, HP, BM, BD)
    tile.store(h_out, out, j, live, j < H, H, 1, h)
    tl.debug_barrier()  # h is read back by other threads than wrote it

    inv = tl.full((BM,), 1.0, tl.float32)
    along = tl.zeros((BM,), tl.float32)
    if NORMALIZE:
        inv = tl.load(inverse + out, mask=live, other=0.0)
        for first in range(0, D, BD):
            d = tile.span(first, BD)
            zs = tile.load(z, out, d, live, d < D, D, 1).to(tl.float32)
            along += tl.sum(zs * tile.load(dz, i, d, live, d < D, sgb, sgd).to(tl.float32), axis=1)
        along = tl.where(inv * eps < 1.0, along, 0.0)  # a clamped norm is a constant

    blend = tl.load(alpha + v)
    ratio = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, HP), tl.float32)
    for first in range(0, D, BD):
        d = tile.span(first, BD)
        a = _widen(h_out, w2, out, d, live, d < D, sw2h, sw2d, H, BM, BD)
        g = tile.load(dz, i, d, live, d < D, sgb, sgd).to(tl.float32)
        if NORMALIZE:
            zs = tile.load(z, out, d, live, d < D, D, 1).to(tl.float32)
            g = (g - zs * along[:, None]) * inv[:, None]
        xs = tile.load(x, row, d, live, d < D, sxn, sxd).to(tl.float32)
        ratio += tl.sum(g * (a - xs), axis=1)
        if DX:
            tile.store(dx, out, d, live, d < D, D, 1, (1.0 - blend) * g)
        g = tl.where(a > 0.0, blend * g, 0.0).to(da.dtype.element_ty)
        tile.store(da, out, d, live, d < D, D, 1, g)
        ws = tile.load(w2, d, j, d < D, j < H, sw2d, sw2h)
        acc = tile.dot(g, ws.to(g.dtype), acc)
    tl.store(dalpha + out, ratio, mask=live)
    h = tile.load(h_out, out, j, live, j < H, H, 1).to(tl.float32)
    tile.store(dh, out, j, live, j < H, H, 1, tl.where(h > 0.0, acc, 0.0))


def _settings(width: int, size: int) -> tuple[Setting, ...]:
    """A row tile's hidden layer stays on the chip: the wider it is, the fewer rows."""
    few, many = max(16, min(32, 4096 // width)), max(16, min(128, 8192 // width))
    if size == 4:  # on the plain units, which hold a step of both factors in registers
        narrow = Setting({"BM": few, "BD": 16}, warps=8)
        return (narrow, Setting({"BM": many, "BD": 16}, warps=8)) if width <= 128 else (narrow,)
    wide = Setting({"BM": many, "BD": 32}, warps=8)
    if width > 256:
        return (wide,)
    deep = Setting({"BM": min(64, many), "BD": 64}, warps=8)
    return wide, deep, Setting({"BM": few, "BD": 32}, warps=4)


class Saved(NamedTuple):
    """What `backward` needs of a `forward`; `held` is the torch path's: x[rows], h^T, a."""

    x: Tensor
    w1: Tensor
    w2: Tensor
    alpha: Tensor
    rows: Tensor | None
    z: Tensor
    inverse: Tensor | None
    held: tuple[Tensor, ...] = ()


class Grads(NamedTuple):
    """Gradients: the weights' unformed, alpha [V] and the picked rows [V,B,D] if asked for."""

    w1: Outer
    w2: Outer
    alpha: Tensor | None
    x: Tensor | None


def _run(kernel: Any, saved: Saved, batch: int, others: dict[str, Any]) -> None:
    """Launch with the arguments that both kernels share, and others."""
    x, w1, w2, alpha, rows, z, inverse, _ = saved
    V, H, D = w1.shape
    named: dict[str, Any] = {"x": x, "w1": w1, "w2": w2, "alpha": alpha, "z": z, "eps": EPS}
    named |= {"rows": alpha if rows is None else rows, "GATHER": rows is not None}
    named |= {"inverse": z if inverse is None else inverse, "NORMALIZE": inverse is not None}
    named |= {"B": batch, "D": D, "H": H, "HP": launch.power_of_two(H)}
    named |= launch.strides("sxv sxn sxd", x) | launch.strides("srv srb", rows)
    named |= launch.strides("sw1v sw1h sw1d", w1) | launch.strides("sw2v sw2d sw2h", w2)
    settings = _settings(named["HP"], x.element_size())
    launch.run(
        kernel, lambda blocks: V * launch.tiles(batch, blocks["BM"]), named | others, settings
    )


def _backward_triton(saved: Saved, dz: Tensor, wants_x: bool, work: Workspace) -> Grads:
    (V, B, D), H, x = dz.shape, saved.w1.shape[1], saved.x
    da, dh = work.take("da", (V, B, D), x), work.take("dh", (V, B, H), x)
    h, dalpha = work.take("h", (V, B, H), x), work.take("dalpha", (V, B), x, torch.float32)
    dx = work.take("dx", (V, B, D), x, torch.float32) if wants_x else dalpha
    outputs = {"da": da, "dh": dh, "h_out": h, "dalpha": dalpha, "dx": dx, "DX": wants_x}
    _run(_backward_kernel, saved, B, outputs | {"dz": dz} | launch.strides("sgv sgb sgd", dz))
    if wants_x:
        dx += weight_grad(Outer(dh.mT, saved.w1.to(x.dtype)), torch.float32)
    picked = gather(x, saved.rows, V)
    return Grads(Outer(dh, picked), Outer(da, h), dalpha.sum(1), dx if wants_x else None)


def _forward_torch(saved: Saved, batch: int, work: Workspace) -> Saved:
    """The same by batched products into held memory; h and a are kept, not computed again.

    h is held transposed [V,H,B], as W1 x^T: transposing a short batch costs less than a weight.
    """
    x, w1, w2, alpha, rows, z, inverse, _ = saved
    V, H, D = w1.shape
    picked = gather(x, rows, V, work)
    h, a = work.take("h", (V, H, batch), x), work.take("a", (V, batch, D), x)
    torch.bmm(w1.to(x.dtype), picked.mT, out=h).relu_()
    torch.bmm(h.mT, w2.to(x.dtype).mT, out=a).relu_()
    torch.lerp(picked, a, alpha.to(x.dtype)[:, None, None], out=z)
    if inverse is not None:
        torch.linalg.vector_norm(z, dim=-1, dtype=alpha.dtype, out=inverse)
        z.mul_(inverse.clamp_min_(EPS).reciprocal_()[..., None])
    return saved._replace(held=(picked, h, a))


def _backward_torch(
    saved: Saved, dz: Tensor, wants_alpha: bool, wants_x: bool, work: Workspace
) -> Grads:
    x, w1, w2, alpha, _, z, inverse, (picked, h, a) = saved
    blend = alpha.to(x.dtype)[:, None, None]
    dy, da = dz, work.take("da", a.shape, x)
    if inverse is not None:
        dy = work.take("dy", a.shape, x)
        along = torch.mul(z, dz, out=dy).sum(-1, dtype=alpha.dtype)
        along.mul_(inverse * EPS < 1)  # a clamped norm is a constant
        torch.addcmul(dz, z, along.to(x.dtype)[..., None], value=-1, out=dy)
        dy.mul_(inverse[..., None])
    dalpha = dx = None
    if wants_alpha:
        dalpha = torch.sub(a, picked, out=da).mul_(dy).sum((1, 2), dtype=alpha.dtype)
    # alpha scales the narrow arrays (dh, h) in place of the wide one (da): a quarter of the work.
    torch.ops.aten.threshold_backward.grad_input(dy, a, 0, grad_input=da)
    dh = torch.bmm(w2.to(x.dtype).mT, da.mT, out=work.take("dh", h.shape, x))  # [V,H,B]
    torch.ops.aten.threshold_backward.grad_input(dh, h, 0, grad_input=dh)
    dh.mul_(blend)
    if wants_x:
        dx = (1 - blend) * dy + torch.bmm(dh.mT, w1.to(x.dtype))
    scaled = torch.mul(h, blend, out=work.take("scaled", h.shape, x))
    return Grads(Outer(dh.mT, picked), Outer(da, scaled.mT), dalpha, dx)


@torch.no_grad()
def forward(
    x: Tensor,
    w1: Tensor,
    w2: Tensor,
    alpha: float | Tensor,
    rows: Tensor | None = None,
    *,
    normalize: bool = True,
    work: Workspace | None = None,
) -> tuple[Tensor, Saved]:
    """`residual_mlp` without autograd: its result and what `backward` needs.

    Everything lies in `work` until the next step with it; give each adapter its own.
    """
    _check(x, w1, w2, rows)
    work = work or Workspace()
    V, batch = w1.shape[0], x.shape[-2] if rows is None else rows.shape[-1]
    alpha = _alpha(alpha, x, V).detach().contiguous()
    z = work.take("z", (V, batch, x.shape[-1]), x)
    inverse = work.take("inverse", (V, batch), x, alpha.dtype) if normalize else None
    saved = Saved(x, w1, w2, alpha, rows, z, inverse)
    if not launch.uses_triton(x):
        return z, _forward_torch(saved, batch, work)
    _run(_forward_kernel, saved, batch, {})
    return z, saved


@torch.no_grad()
def backward(
    saved: Saved,
    dz: Tensor,
    *,
    wants_alpha: bool = False,
    wants_x: bool = False,
    work: Workspace | None = None,
) -> Grads:
    """Gradients from dz [V,B,D]: `Outer`s for `weight_grad_update`, alpha's and x's if wanted."""
    work = work or Workspace()
    dz = dz.to(saved.x.dtype)
    if saved.held:
        return _backward_torch(saved, dz, wants_alpha, wants_x, work)
    return _backward_triton(saved, dz, wants_x, work)


class _ResidualMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w1, w2, alpha, rows, normalize):
        z, saved = forward(x, w1, w2, alpha, rows, normalize=normalize)
        ctx.save_for_backward(*saved[:-1], *saved.held)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, dz):
        saved = Saved(*ctx.saved_tensors[:7])._replace(held=ctx.saved_tensors[7:])
        wants_x, wants_w1, wants_w2, wants_alpha = ctx.needs_input_grad[:4]
        grads = backward(saved, dz, wants_alpha=wants_alpha, wants_x=wants_x)
        dx = None if grads.x is None else scatter(grads.x, saved.x, saved.rows)
        dw1 = weight_grad(grads.w1, saved.w1.dtype) if wants_w1 else None
        dw2 = weight_grad(grads.w2, saved.w2.dtype) if wants_w2 else None
        return dx, dw1, dw2, grads.alpha, None, None


def residual_mlp(
    x: Tensor,
    w1: Tensor,
    w2: Tensor,
    alpha: float | Tensor,
    rows: Tensor | None = None,
    *,
    normalize: bool = True,
) -> Tensor:
    """CLIP-Adapter's features of V variants, differentiable in x, w1, w2 and alpha.

    Args:
        x: [N,D] shared by all variants, or [V,N,D]; float32, bfloat16, float16 (float64 in torch).
        w1: [V,H,D], H at most 512; x's dtype or float32.
        w2: [V,D,H], likewise.
        alpha: how much of the adapter to blend in; a number or [V].
        rows: int64 [B] or [V,B], rows of x that each variant reads, in [0, N); all without it.
        normalize: whether rows leave with unit length; `cosine_cross_entropy` does not need it.

    Returns:
        [V,B,D] in x's dtype.

    Raises:
        ValueError: shapes or dtypes do not fit, or H is larger than 512.
    """
    return _ResidualMLP.apply(x, w1, w2, _alpha(alpha, x, w1.shape[0]), rows, normalize)


def _alpha(alpha: float | Tensor, x: Tensor, variants: int) -> Tensor:
    """One alpha for each variant, at least float32."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    alpha = torch.as_tensor(alpha, dtype=wide, device=x.device)
    if alpha.shape not in ((), (variants,)):
        raise ValueError(f"alpha must be a number or [{variants}], not {list(alpha.shape)}")
    return alpha.expand(variants)


def _check(x: Tensor, w1: Tensor, w2: Tensor, rows: Tensor | None) -> None:
    if w1.ndim != 3 or w2.ndim != 3 or w1.shape != w2.mT.shape:
        shapes = f"{list(w1.shape)} and {list(w2.shape)}"
        raise ValueError(f"w1 must be [V,H,D] and w2 [V,D,H], not {shapes}")
    V, H, D = w1.shape
    if H > MAX_HIDDEN:
        raise ValueError(f"hidden width H = {H} is over {MAX_HIDDEN}: use `reference`")
    if x.shape[-1] != D or x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[0] != V):
        raise ValueError(f"x must be [N,{D}] or [{V},N,{D}], not {list(x.shape)}")
    if any(w.dtype not in (x.dtype, torch.float32) for w in (w1, w2)):
        raise ValueError(f"weights are {w1.dtype} and {w2.dtype}: need float32 or x's {x.dtype}")
    check(rows, V)
