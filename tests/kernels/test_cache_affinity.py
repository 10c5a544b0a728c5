from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cacheclip.kernels import cache_affinity as op

Close = Callable[..., None]
#        V, N, B, keys a class, D, P
SIZES: list[tuple[int, int, int, list[int], int, int]] = [
    (1, 1, 1, [1], 1, 1),
    (3, 5, 3, [3] * 5, 127, 1),
    (2, 3, 129, [1, 0, 5, 127, 0], 5, 3),
    (1, 129, 5, [1] * 129, 129, 5),
]


def problem(
    device: str, dtype: torch.dtype, V: int, N: int, B: int, counts: Sequence[int], D: int, P: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x [N,D], keys [V,K,D], offsets [C+1], betas [V,P], rows [V,B], dout [V,P,B,C]."""
    make = torch.Generator().manual_seed(V * 1000 + D)
    x = normalize(torch.randn(N, D, generator=make), dim=-1)
    keys = normalize(torch.randn(V, sum(counts), D, generator=make), dim=-1)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    betas = 6 * torch.rand(V, P, generator=make)
    rows = torch.randint(N, (V, B), generator=make)
    dout = torch.randn(V, P, B, len(counts), generator=make)
    x, keys = x.to(device, dtype), keys.to(device, dtype)
    return x, keys, offsets.to(device), betas.to(device), rows.to(device), dout.to(device)


def results(
    function: Callable[..., Tensor],
    x: Tensor,
    keys: Tensor,
    offsets: Tensor,
    betas: Tensor,
    rows: Tensor | None,
    dout: Tensor,
) -> list[Tensor]:
    keys = keys.detach().requires_grad_()
    out = function(x, keys, offsets, betas, rows)
    return [out.detach(), *torch.autograd.grad(out, keys, dout.to(out.dtype))]


def exact(
    x: Tensor, keys: Tensor, offsets: Tensor, betas: Tensor, rows: Tensor | None, dout: Tensor
) -> list[Tensor]:
    return results(op.reference, x.double(), keys.double(), offsets, betas.double(), rows, dout)


def test_the_reference_is_the_papers_formula(device: str, close: Close) -> None:
    x, keys, offsets, betas, _, _ = problem(device, torch.float64, 1, 4, 4, [2, 1, 3], 5, 1)
    values = torch.eye(3, dtype=torch.float64, device=device)[[0, 0, 1, 2, 2, 2]]
    affinity = torch.exp(-betas.double().item() * (1 - x @ keys[0].T))
    got = op.reference(x, keys, offsets, betas.double())
    close([got], [(affinity @ values)[None, None]], torch.float64)


@pytest.mark.parametrize("sizes", SIZES)
def test_float32_with_gathered_rows(
    path: str, device: str, close: Close, sizes: tuple[int, int, int, list[int], int, int]
) -> None:
    case = problem(device, torch.float32, *sizes)
    close(results(op.cache_affinity, *case), exact(*case), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(path: str, device: str, close: Close, dtype: torch.dtype) -> None:
    case = problem(device, dtype, 2, 9, 35, [4, 4, 1, 70], 33, 2)
    got = results(op.cache_affinity, *case)
    assert [t.dtype for t in got] == [torch.float32, dtype]
    close(got, exact(*case), dtype)


def test_a_search_shares_keys_rows_and_betas(path: str, device: str, close: Close) -> None:
    x, keys, offsets, betas, _, dout = problem(device, torch.float32, 1, 5, 5, [2, 2, 2], 9, 7)
    case = (x, keys[0], offsets, betas[0], None, dout)
    close(results(op.cache_affinity, *case), exact(*case), torch.float32)


def test_transposed_inputs(path: str, device: str, close: Close) -> None:
    x, keys, offsets, betas, rows, dout = problem(device, torch.float32, 2, 5, 3, [2, 3, 2], 9, 2)
    x, keys, betas, rows, dout = (t.mT.contiguous().mT for t in (x, keys, betas, rows, dout))
    case = (x, keys, offsets, betas, rows, dout)
    close(results(op.cache_affinity, *case), exact(*case), torch.float32)


@pytest.mark.parametrize("setting", [(0, 2), (1, 2)], indirect=True)
def test_every_setting(setting: None, device: str, close: Close) -> None:
    case = problem(device, torch.float32, 2, 70, 35, [3, 0, 37, 5, *[1] * 14], 67, 2)
    close(results(op.cache_affinity, *case), exact(*case), torch.float32)


def test_float64_gradcheck(device: str) -> None:
    x, keys, offsets, betas, rows, _ = problem(device, torch.float64, 2, 3, 4, [2, 1], 5, 2)
    assert torch.autograd.gradcheck(
        lambda k: op.cache_affinity(x, k, offsets, betas.double(), rows), keys.requires_grad_()
    )


def test_beta_zero_counts_the_keys(path: str, device: str) -> None:
    x, keys, offsets, _, _, _ = problem(device, torch.float32, 1, 3, 3, [4, 0, 2], 5, 1)
    counted = op.cache_affinity(x, keys, offsets, torch.zeros(1, device=device))
    assert torch.equal(counted[0, 0], offsets.diff().float().expand(3, -1))


def test_arguments_that_do_not_fit() -> None:
    x, keys, offsets, betas, rows, _ = problem("cpu", torch.float32, 2, 5, 3, [2, 3], 9, 2)
    with pytest.raises(ValueError, match="must agree"):
        op.cache_affinity(x[:, :8], keys, offsets, betas)
    with pytest.raises(ValueError, match="offsets must be int64"):
        op.cache_affinity(x, keys, offsets.int(), betas)
    with pytest.raises(ValueError, match=r"betas must be \[P\] or \[2,P\]"):
        op.cache_affinity(x, keys, offsets, torch.ones(3, 2))
    with pytest.raises(ValueError, match="rows must be int64"):
        op.cache_affinity(x, keys, offsets, betas, rows.int())
    with pytest.raises(ValueError, match="only keys have a gradient"):
        op.cache_affinity(x, keys, offsets, betas.requires_grad_())
