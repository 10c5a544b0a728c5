"""Cross entropy of scaled cosine logits, whose [V,B,C] array is never written.

    z = y / max(|y|, 1e-12)     l_c = scale z . t_c     loss[v] = mean_b (logsumexp_c l_c - l_label)

    g_c = softmax(l)_c - [c = label]         r = sum_c g_c l_c
    dy = dloss / (B |y|) (scale sum_c g_c t_c - z r)         dt_c = dloss scale / B sum_b g_c z

Axes: V variants, B rows, C classes, D feature width. y [V,B,D] of any length (the norm is taken
here), text [C,D] shared or [V,C,D], used as it is; labels [B] or [V,B]; scale is exp(logit_scale),
a constant. r comes with the sums of the forward pass, so the projection off z costs no pass of its
own. Both gradients compute the logits of a tile again, once for each chunk of D that they write.

Work a row: 2CD flop forward; dy 2CD + 2CD for each chunk of D; text's gradient the same. Bytes a
row: D elements in, D out, three float32; the text once for each tile of rows. The torch path holds
the logits: they are narrow beside y where C < D, and a second product would cost more there.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cacheclip.kernels import launch, tile
from cacheclip.kernels.launch import Setting, Workspace, jit, tl

EPS = 1e-12


def reference(y: Tensor, text: Tensor, labels: Tensor, scale: float) -> Tensor:
    """The formula in plain torch, [V]; any dtype, differentiable in y and text."""
    z = y / y.norm(dim=-1, keepdim=True).clamp_min(EPS)
    logits = scale * (z @ text.mT)  # [V,B,C]
    labels = labels.expand(logits.shape[:2])[..., None]
    return -logits.log_softmax(-1).gather(-1, labels).squeeze(-1).mean(-1)


@jit
def _logits(
    y, text, i, c, in_i, in_c, syb, syd, stc, std, D, factor,
    BM: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Logits factor[i] y_i . t_c of one tile, [BM,BC] float32; -inf beyond the last class."""
    acc = tl.zeros((BM, BC), tl.float32)
    for first in range(0, D, BD):
        d = tile.span(first, BD)
        ys = tile.load(y, i, d, in_i, d < D, syb, syd)
        ts = tile.load(text, d, c, d < D, in_c, std, stc)
        acc = tile.dot(ys, ts, acc)
    return tl.where(in_c[None, :], acc * factor[:, None], float("-inf"))


@jit
def _loss_kernel(
    y, text, labels, loss, total, inverse, along,
    syv, syb, syd, stv, stc, std, slv, slb,
    B, C, D, scale, eps,
    BM: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Row losses and what the gradients need: logsumexp, 1/|y| and r."""
    tiles = tl.cdiv(B, BM)
    v = (tl.program_id(0) // tiles).to(tl.int64)
    i = tile.span((tl.program_id(0) % tiles) * BM, BM)
    in_i = i < B
    y += v * syv
    text += v * stv
    label = tl.load(labels + v * slv + i * slb, mask=in_i, other=0)
    square = tl.zeros((BM,), tl.float32)
    for first in range(0, D, BD):
        d = tile.span(first, BD)
        ys = tile.load(y, i, d, in_i, d < D, syb, syd).to(tl.float32)
        square += tl.sum(ys * ys, axis=1)
    inv = 1.0 / tl.maximum(tl.sqrt(square), eps)
    factor = inv * scale

    top = tl.full((BM,), -3.0e38, tl.float32)  # finite, so that a row of NaN leaves no inf - inf
    mass = tl.zeros((BM,), tl.float32)  # sum of exp(l - top)
    mean = tl.zeros((BM,), tl.float32)  # sum of exp(l - top) l
    own = tl.zeros((BM,), tl.float32)  # the label's logit
    for first in range(0, C, BC):
        c = tile.span(first, BC)
        in_c = c < C
        ls = _logits(y, text, i, c, in_i, in_c, syb, syd, stc, std, D, factor, BM, BC, BD)
        higher = tl.maximum(top, tl.max(ls, axis=1))
        fade = tl.exp(top - higher)
        weight = tl.exp(ls - higher[:, None])
        finite = tl.where(in_c[None, :], ls, 0.0)
        mass = mass * fade + tl.sum(weight, axis=1)
        mean = mean * fade + tl.sum(weight * finite, axis=1)
        own += tl.sum(tl.where(c[None, :] == label[:, None], finite, 0.0), axis=1)
        top = higher
    lse = top + tl.log(mass)
    tl.store(loss + v * B + i, lse - own, mask=in_i)
    tl.store(total + v * B + i, lse, mask=in_i)
    tl.store(inverse + v * B + i, inv, mask=in_i)
    tl.store(along + v * B + i, mean / mass - own, mask=in_i)


@jit
def _grad_y_kernel(
    y, text, labels, total, inverse, along, dloss, dy,
    syv, syb, syd, stv, stc, std, slv, slb,
    B, C, D, scale, eps,
    BM: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BN columns of dy for BM rows of one variant."""
    chunks = tl.cdiv(D, BN)
    tiles = tl.cdiv(B, BM) * chunks
    v = (tl.program_id(0) // tiles).to(tl.int64)
    place = tl.program_id(0) % tiles
    i, n = tile.span((place // chunks) * BM, BM), tile.span((place % chunks) * BN, BN)
    in_i, in_n = i < B, n < D
    y += v * syv
    text += v * stv
    label = tl.load(labels + v * slv + i * slb, mask=in_i, other=0)
    lse = tl.load(total + v * B + i, mask=in_i, other=0.0)
    inv = tl.load(inverse + v * B + i, mask=in_i, other=0.0)
    factor = inv * scale
    acc = tl.zeros((BM, BN), tl.float32)
    for first in range(0, C, BC):
        c = tile.span(first, BC)
        in_c = c < C
        ls = _logits(y, text, i, c, in_i, in_c, syb, syd, stc, std, D, factor, BM, BC, BD)
        g = tl.exp(ls - lse[:, None]) - tl.where(c[None, :] == label[:, None], 1.0, 0.0)
        ts = tile.load(text, c, n, in_c, in_n, stc, std)
        acc = tile.dot(g.to(ts.dtype), ts, acc)
    ys = tile.load(y, i, n, in_i, in_n, syb, syd).to(tl.float32)
    r = tl.load(along + v * B + i, mask=in_i, other=0.0)
    r = tl.where(inv * eps < 1.0, r * inv, 0.0)  # a clamped norm is a constant
    acc = (acc * scale - ys * r[:, None]) * (inv * (tl.load(dloss + v) / B))[:, None]
    tile.store(dy + v * B * D, i, n, in_i, in_n, D, 1, acc)


@jit
def _grad_text_kernel(
    y, text, labels, total, inverse, dloss, dtext,
    syv, syb, syd, stv, stc, std, slv, slb,
    B, C, D, scale,
    BM: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BN columns of dtext for BC classes of one variant."""
    chunks = tl.cdiv(D, BN)
    tiles = tl.cdiv(C, BC) * chunks
    v = (tl.program_id(0) // tiles).to(tl.int64)
    place = tl.program_id(0) % tiles
    c, n = tile.span((place // chunks) * BC, BC), tile.span((place % chunks) * BN, BN)
    in_c, in_n = c < C, n < D
    y += v * syv
    text += v * stv
    acc = tl.zeros((BC, BN), tl.float32)
    for first in range(0, B, BM):
        i = tile.span(first, BM)
        in_i = i < B
        label = tl.load(labels + v * slv + i * slb, mask=in_i, other=-1)
        lse = tl.load(total + v * B + i, mask=in_i, other=float("inf"))
        inv = tl.load(inverse + v * B + i, mask=in_i, other=0.0)
        factor = inv * scale
        ls = _logits(y, text, i, c, in_i, in_c, syb, syd, stc, std, D, factor, BM, BC, BD)
        g = tl.exp(ls - lse[:, None]) - tl.where(c[None, :] == label[:, None], 1.0, 0.0)
        ys = tile.load(y, i, n, in_i, in_n, syb, syd)
        zs = (ys.to(tl.float32) * inv[:, None]).to(ys.dtype)
        acc = tile.dot(tl.trans(g.to(ys.dtype)), zs, acc)
    acc *= scale * (tl.load(dloss + v) / B)
    tile.store(dtext + v * C * D, c, n, in_c, in_n, D, 1, acc)


# By the bytes of an element: float32 products run on the plain units, which hold a whole step of
# both factors in registers, so they take short ones.
LOSS_SETTINGS = {
    2: (
        Setting({"BM": 64, "BC": 64, "BD": 64}, warps=4, stages=3),
        Setting({"BM": 64, "BC": 128, "BD": 32}, warps=8, stages=3),
        Setting({"BM": 16, "BC": 64, "BD": 64}, warps=4, stages=3),
    ),
    4: (
        Setting({"BM": 32, "BC": 64, "BD": 16}, warps=4),
        Setting({"BM": 32, "BC": 64, "BD": 16}, warps=8),
    ),
}
GRAD_SETTINGS = {
    2: (
        Setting({"BM": 64, "BC": 32, "BD": 32, "BN": 256}, warps=8),
        Setting({"BM": 32, "BC": 32, "BD": 64, "BN": 128}, warps=4),
    ),
    4: (
        Setting({"BM": 32, "BC": 32, "BD": 16, "BN": 128}, warps=8),
        Setting({"BM": 32, "BC": 32, "BD": 16, "BN": 64}, warps=8),
    ),
}


class Saved(NamedTuple):
    """What `backward` needs of a `forward`."""

    y: Tensor
    text: Tensor
    labels: Tensor
    inverse: Tensor  # 1/|y| [V,B]
    along: Tensor  # r [V,B]
    rest: Tensor  # logsumexp [V,B] from the kernel, softmax less one-hot [V,B,C] in torch


class Grads(NamedTuple):
    """Gradients of y [V,B,D] and, if asked for, of each variant's text [V,C,D]."""

    y: Tensor
    text: Tensor | None


def _arguments(saved: Saved, scale: float) -> dict[str, Any]:
    """The arguments that all three kernels share."""
    y, text, labels = saved[:3]
    named: dict[str, Any] = {"y": y, "text": text, "labels": labels, "total": saved.rest}
    named |= {"inverse": saved.inverse, "scale": scale}
    named |= {"B": y.shape[1], "C": text.shape[-2], "D": y.shape[2]}
    named |= launch.strides("syv syb syd", y) | launch.strides("stv stc std", text)
    return named | launch.strides("slv slb", labels)


def _forward_triton(
    y: Tensor, text: Tensor, labels: Tensor, scale: float, work: Workspace
) -> tuple[Tensor, Saved]:
    V, B, _ = y.shape
    names = ("loss", "total", "inverse", "along")
    loss, total, inverse, along = (work.take(n, (V, B), y, torch.float32) for n in names)
    saved = Saved(y, text, labels, inverse, along, total)
    launch.run(
        _loss_kernel,
        lambda blocks: V * launch.tiles(B, blocks["BM"]),
        _arguments(saved, scale) | {"loss": loss, "along": along, "eps": EPS},
        LOSS_SETTINGS[y.element_size()],
    )
    return loss.mean(1), saved


def _backward_triton(
    saved: Saved, dloss: Tensor, scale: float, wants_text: bool, work: Workspace
) -> Grads:
    (V, B, D), C = saved.y.shape, saved.text.shape[-2]
    shared = _arguments(saved, scale) | {"dloss": dloss}
    dy = work.take("dy", (V, B, D), saved.y)
    launch.run(
        _grad_y_kernel,
        lambda blocks: V * launch.tiles(B, blocks["BM"]) * launch.tiles(D, blocks["BN"]),
        shared | {"dy": dy, "along": saved.along, "eps": EPS},
        GRAD_SETTINGS[saved.y.element_size()],
    )
    if not wants_text:
        return Grads(dy, None)
    dtext = work.take("dtext", (V, C, D), saved.y, torch.float32)
    launch.run(
        _grad_text_kernel,
        lambda blocks: V * launch.tiles(C, blocks["BC"]) * launch.tiles(D, blocks["BN"]),
        shared | {"dtext": dtext},
        GRAD_SETTINGS[saved.y.element_size()],
    )
    return Grads(dy, dtext)


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """The product of left [V,B,K] and right [V,K,N], or one flat product with a shared [K,N]."""
    if right.ndim == 2 and left.is_contiguous():
        torch.mm(left.flatten(0, 1), right, out=out.flatten(0, 1))
        return out
    return torch.bmm(left, right.expand(left.shape[0], -1, -1), out=out)


def _forward_torch(
    y: Tensor, text: Tensor, labels: Tensor, scale: float, work: Workspace, wants_loss: bool
) -> tuple[Tensor | None, Saved]:
    """The same with the logits held, in float32 where the features are 16-bit."""
    wide = torch.float64 if y.dtype == torch.float64 else torch.float32
    shape = (*y.shape[:2], text.shape[-2])
    logits, g = (work.take(name, shape, y, wide) for name in ("logits", "g"))
    # The norm of 16-bit rows is summed wide and rounded once: a wide copy of y would cost a pass.
    inverse = torch.linalg.vector_norm(y, dim=-1).to(wide).clamp_min_(EPS).reciprocal_()
    products = _multiply(y, text.mT, work.take("products", shape, y))
    torch.mul(products, (scale * inverse)[..., None], out=logits)
    labels = labels.expand(shape[:2])[..., None]
    loss = None
    if wants_loss:
        torch.log_softmax(logits, -1, out=g)
        loss = -g.gather(-1, labels).mean((1, 2))
        g.exp_()
    else:
        torch.softmax(logits, -1, out=g)
    g.scatter_add_(-1, labels, g.new_full((1, 1, 1), -1.0).expand_as(labels))
    along = logits.mul_(g).sum(-1)
    along.mul_(inverse * EPS < 1)  # a clamped norm is a constant
    return loss, Saved(y, text, labels, inverse, along, g)


def _backward_torch(
    saved: Saved, dloss: Tensor | None, scale: float, wants_text: bool, work: Workspace
) -> Grads:
    y, text, _, inverse, along, g = saved
    share = inverse / y.shape[1]  # [V,B]
    if dloss is not None:
        share.mul_(dloss[:, None])
    scaled = torch.mul(g, (scale * share)[..., None], out=work.take("products", g.shape, y))
    dy = _multiply(scaled, text, work.take("dy", y.shape, y))
    dy.addcmul_(y, (share * along * inverse).to(y.dtype)[..., None], value=-1)
    dtext = torch.bmm(scaled.mT, y).to(inverse.dtype) if wants_text else None
    return Grads(dy, dtext)


@torch.no_grad()
def forward(
    y: Tensor,
    text: Tensor,
    labels: Tensor,
    scale: float,
    *,
    wants_loss: bool = True,
    work: Workspace | None = None,
) -> tuple[Tensor | None, Saved]:
    """`cosine_cross_entropy` without autograd: the loss [V], if wanted, and what `backward` needs.

    Without the loss the torch path spares a pass of exponentials.
    """
    _check(y, text, labels)
    work = work or Workspace()
    if launch.uses_triton(y):
        return _forward_triton(y, text, labels, scale, work)
    return _forward_torch(y, text, labels, scale, work, wants_loss)


@torch.no_grad()
def backward(
    saved: Saved,
    dloss: Tensor | None,
    scale: float,
    *,
    wants_text: bool = False,
    work: Workspace | None = None,
) -> Grads:
    """Gradients from dloss [V], None for ones; each variant's text gradient if wanted."""
    work = work or Workspace()
    if dloss is not None:
        dloss = dloss.to(saved.inverse.dtype).contiguous()
    if saved.rest.ndim == 3:
        return _backward_torch(saved, dloss, scale, wants_text, work)
    if dloss is None:
        dloss = saved.inverse.new_ones(len(saved.y))
    return _backward_triton(saved, dloss, scale, wants_text, work)


class _CosineCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, text, labels, scale):
        loss, saved = forward(y, text, labels, scale)
        ctx.save_for_backward(*saved)
        ctx.scale = scale
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, dloss):
        saved = Saved(*ctx.saved_tensors)
        wants_text = ctx.needs_input_grad[1]
        grads = backward(saved, dloss, ctx.scale, wants_text=wants_text)
        dtext: Any = grads.text
        if wants_text:
            dtext = (dtext.sum(0) if saved.text.ndim == 2 else dtext).to(saved.text.dtype)
        return grads.y, dtext, None, None


def cosine_cross_entropy(y: Tensor, text: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Mean cross entropy of each variant's cosine logits, differentiable in y and text.

    Args:
        y: [V,B,D] features of any length; float32, bfloat16, float16 (float64 in torch).
        text: [C,D] shared by all variants, or [V,C,D]; y's dtype, usually unit rows.
        labels: int64 [B] or [V,B], each in [0, C).
        scale: what multiplies the cosines, exp(logit_scale).

    Returns:
        [V] float32 (float64 for float64).

    Raises:
        ValueError: shapes or dtypes do not fit.
    """
    return _CosineCrossEntropy.apply(y, text, labels, scale)


def _check(y: Tensor, text: Tensor, labels: Tensor) -> None:
    if y.ndim != 3:
        raise ValueError(f"y must be [V,B,D], not {list(y.shape)}")
    V, B, D = y.shape
    if text.shape[-1] != D or tuple(text.shape[:-2]) not in ((), (V,)) or text.ndim < 2:
        raise ValueError(f"text must be [C,{D}] or [{V},C,{D}], not {list(text.shape)}")
    if text.dtype != y.dtype:
        raise ValueError(f"text is {text.dtype} and y {y.dtype}: they must agree")
    if labels.dtype != torch.int64 or tuple(labels.shape) not in ((B,), (V, B)):
        raise ValueError(
            f"labels must be int64 [{B}] or [{V},{B}], not {labels.dtype} {list(labels.shape)}"
        )
