"""Picking the rows of a batch from features that variants share, and its transpose."""

import torch
from torch import Tensor

from cacheclip.kernels.launch import Workspace


def check(rows: Tensor | None, variants: int) -> None:
    """Refuse rows that are no int64 [B] or [V,B]; their range is the caller's promise."""
    if rows is None or (rows.dtype == torch.int64 and rows.shape[:-1] in ((), (variants,))):
        return
    shapes = f"[B] or [{variants},B]"
    raise ValueError(f"rows must be int64 {shapes}, not {rows.dtype} {list(rows.shape)}")


def gather(x: Tensor, rows: Tensor | None, variants: int, work: Workspace | None = None) -> Tensor:
    """x[rows] as [V,B,D] from [N,D] or [V,N,D]; a view where every variant reads the same rows.

    Rows of shared features go to the memory that `work` holds, if given.
    """
    if rows is None:
        return x.expand(variants, -1, -1)
    if x.ndim == 3:
        rows = rows.expand(variants, -1)
        return x.gather(1, rows[..., None].expand(-1, -1, x.shape[-1]))
    if work is None:
        return x[rows].expand(variants, -1, -1)
    picked = work.take("picked", (*rows.shape, x.shape[-1]), x)
    torch.index_select(x, 0, rows.flatten(), out=picked.view(-1, x.shape[-1]))
    return picked.expand(variants, -1, -1)


def scatter(dx: Tensor, x: Tensor, rows: Tensor | None) -> Tensor:
    """The gradient of x from that of its picked rows [V,B,D]; repeated rows add up."""
    V, _, D = dx.shape
    if rows is None:
        return (dx.sum(0) if x.ndim == 2 else dx).to(x.dtype)
    total = torch.zeros(x.shape, dtype=dx.dtype, device=x.device)
    rows = rows.expand(V, -1)
    if x.ndim == 2:
        return total.index_add_(0, rows.flatten(), dx.flatten(0, 1)).to(x.dtype)
    return total.scatter_add_(1, rows[..., None].expand(-1, -1, D), dx).to(x.dtype)
