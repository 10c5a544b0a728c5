"""Kernel ridge regression against plain solves, and its left-out answers against refits."""

import torch
from torch import Tensor

from cacheclip.heads.ridge import Ridge, rbf
from cacheclip.task import unit

V, N, C, D = 2, 9, 3, 5
G = torch.Generator().manual_seed(0)
X = unit(torch.randn(V, N, D, generator=G, dtype=torch.float64))
R = torch.randn(V, N, C, generator=G, dtype=torch.float64)
BETA, LAM = torch.tensor([0.7, 4.0]).double(), torch.tensor([0.03, 0.8]).double()
K = rbf(X, X, BETA)


def dual(kernel: Tensor, targets: Tensor, lam: Tensor) -> Tensor:
    shifted = kernel / lam + torch.eye(len(kernel), dtype=kernel.dtype)
    weights: Tensor = torch.linalg.solve(shifted, targets)
    return weights


def test_the_kernel_is_a_gaussian_of_the_distance() -> None:
    apart = torch.cdist(X, X).square()
    torch.testing.assert_close(K, (-BETA[:, None, None] * apart / 2).exp(), rtol=0, atol=1e-12)
    shared = rbf(X[0], X, BETA)
    assert torch.equal(shared[0], K[0])


def test_one_decomposition_gives_what_a_solve_gives_for_every_lambda() -> None:
    ridge = Ridge(K, R)
    for lam in (LAM, 10 * LAM, 1e-4 * LAM):
        plain = torch.stack([dual(K[v], R[v], lam[v]) for v in range(V)])
        torch.testing.assert_close(ridge.dual(lam), plain, rtol=0, atol=1e-9)


def test_the_ends_of_lambda() -> None:
    ridge = Ridge(K, R)
    assert not ridge.dual(torch.zeros(V)).any()
    small = torch.full((V,), 1e-9).double()
    interpolated = K @ ridge.dual(small) / small[:, None, None]
    torch.testing.assert_close(interpolated, R, rtol=0, atol=1e-5)
    flat = Ridge(torch.ones(V, N, N, dtype=torch.float64), R)  # a kernel that tells nothing apart
    f = torch.ones(V, N, N, dtype=torch.float64) @ flat.dual(LAM)
    torch.testing.assert_close(f, f[:, :1].expand_as(f), rtol=0, atol=1e-12)


def test_rows_left_out_are_answered_as_a_refit_without_them_does() -> None:
    left = Ridge(K, R).left_out(LAM)
    for v in range(V):
        for i in range(N):
            rest = [k for k in range(N) if k != i]
            a = dual(K[v][rest][:, rest], R[v, rest], LAM[v])
            torch.testing.assert_close(left[v, i], K[v, i, rest] @ a, rtol=0, atol=1e-10)


def test_it_is_float64_inside_whatever_comes_and_goes() -> None:
    found = Ridge(K.float(), R.float()).dual(LAM.float())
    assert found.dtype == torch.float32
    plain = torch.stack([dual(K[v], R[v], LAM[v]) for v in range(V)])
    torch.testing.assert_close(found.double(), plain, rtol=0, atol=1e-3)
