import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cacheclip.heads.class_balance import balanced_weights
from cacheclip.heads.logistic import logistic_regression

GRID = [1e-3, 1.0, 30.0, 1e3, 1e5]


def problem(n: int, classes: int, D: int, seed: int, cone: float = 0.0) -> tuple[Tensor, Tensor]:
    """Unit rows, n a class, around one direction a class; `cone` of one that all share."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(n)
    centres = torch.randn(classes, D, generator=g)
    x = centres[labels] + 1.5 * torch.randn(len(labels), D, generator=g)
    return torch.nn.functional.normalize(x + cone * torch.randn(D, generator=g), dim=-1), labels


def solve(x: Tensor, y: Tensor, grid: list[float], classes: int) -> tuple[Tensor, Tensor]:
    """Every C of one draw."""
    draw = torch.zeros(len(grid), dtype=torch.int64)
    return logistic_regression(x[None], y[None], draw, torch.tensor(grid).to(x), classes)


def mean_objective(x: Tensor, y: Tensor, W: np.ndarray, b: np.ndarray, C: float) -> float:
    z = x.double().numpy() @ W.T.astype(float) + b
    z = z - z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    penalty = 0.5 * np.square(W, dtype=float).sum() / (C * len(y))
    return float(-log_p[np.arange(len(y)), y.numpy()].mean() + penalty)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cone", [0.0, 5.0])
@pytest.mark.parametrize(("n", "classes", "D"), [(1, 4, 9), (5, 3, 6), (3, 8, 40), (16, 10, 20)])
def test_the_objective_is_at_most_scikit_learns(
    n: int, classes: int, D: int, cone: float, dtype: torch.dtype
) -> None:
    x, y = problem(n, classes, D, 0, cone)
    W, b = solve(x.to(dtype), y, GRID, classes)
    assert W.dtype == b.dtype == dtype
    for v, C in enumerate(GRID):
        # To a tight tolerance: lower than with the default one, which the bench times.
        theirs = LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(x.double().numpy(), y)
        bound = mean_objective(x, y, theirs.coef_, theirs.intercept_, C)
        assert mean_objective(x, y, W[v].numpy(), b[v].numpy(), C) <= bound + 1e-6


def test_float64_is_the_optimum_to_float64() -> None:
    x, y = problem(6, 4, 40, 5, cone=2.0)
    (W,), (b,) = solve(x.double(), y, [10.0], 4)
    p = (x.double() @ W.T + b).softmax(-1)
    residual = torch.nn.functional.one_hot(y) - p
    torch.testing.assert_close(W, 10 * residual.T @ x.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(residual.sum(0), torch.zeros(4).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("C", [0.1, 10.0])
@pytest.mark.parametrize(("counts", "D"), [((3, 20, 9), 5), ((1, 12, 4), 30)])
def test_balanced_weights_are_scikit_learns(counts: tuple[int, ...], D: int, C: float) -> None:
    x, y = problem(max(counts), len(counts), D, 2)
    kept = torch.cat([(y == c).nonzero().flatten()[:n] for c, n in enumerate(counts)])
    x, y = x[kept].double(), y[kept]
    weights = balanced_weights(y[None], len(counts))
    draw = torch.zeros(1, dtype=torch.int64)
    penalty = torch.tensor([C]).double()
    (W,), (b,) = logistic_regression(x[None], y[None], draw, penalty, len(counts), weights)
    theirs = LogisticRegression(C=C, class_weight="balanced", tol=1e-12, max_iter=100_000)
    theirs.fit(x.numpy(), y)
    p, q = (x @ W.T + b).softmax(-1), torch.from_numpy(theirs.predict_proba(x.numpy()))
    torch.testing.assert_close(p, q, rtol=0, atol=1e-6)
    torch.testing.assert_close(W - W.mean(0), torch.from_numpy(theirs.coef_), rtol=0, atol=1e-5)


def test_weights_of_one_change_nothing() -> None:
    x, y = problem(5, 3, 6, 0)
    draw, C = torch.zeros(1, dtype=torch.int64), torch.tensor([10.0]).double()
    plain = logistic_regression(x[None].double(), y[None], draw, C, 3)
    ones = torch.ones(1, len(y)).double()
    weighted = logistic_regression(x[None].double(), y[None], draw, C, 3, ones)
    torch.testing.assert_close(weighted, plain, rtol=0, atol=1e-9)


def test_draws_and_penalties_together_equal_one_by_one() -> None:
    draws = [problem(3, 5, 12, seed) for seed in range(3)]
    x = torch.stack([x for x, _ in draws]).double()
    y = torch.stack([y for _, y in draws])
    draw, C = torch.tensor([2, 0, 2, 1, 0]), torch.tensor([1.0, 1e3, 1e-2, 30.0, 10.0]).double()
    W, b = logistic_regression(x, y, draw, C, 5)
    for v, u in enumerate(draw.tolist()):
        alone = solve(x[u], y[u], [float(C[v])], 5)
        torch.testing.assert_close((W[v : v + 1], b[v : v + 1]), alone, rtol=0, atol=1e-9)


def test_permuting_the_samples_leaves_the_optimum() -> None:
    x, y = problem(6, 4, 8, 0)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        solve(x.double(), y, [10.0], 4), solve(x[order].double(), y[order], [10.0], 4)
    )


def test_separable_data_are_learned_as_c_grows() -> None:
    x, y = problem(1, 6, 12, 3)
    (W,), (b,) = solve(x, y, [1e4], 6)
    assert torch.equal((x @ W.T + b).argmax(1), y)


@pytest.mark.parametrize("classes", [1, 3, 5])
def test_the_edges_are_finite(classes: int) -> None:
    """Extreme penalties; one class; classes without a row; the same row twice."""
    x, y = problem(4, min(classes, 3), 6, 1)
    x[1] = x[0]
    for rows in (slice(None), slice(1)):
        W, b = solve(x[rows], y[rows], [1e-9, 1e9], classes)
        assert W.isfinite().all() and b.isfinite().all()


def test_steps_that_run_out_are_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheclip.heads.logistic.MAX_STEPS", 3)
    x, y = problem(4, 3, 6, 1)
    W, b = solve(x, y, [1e-3, 1e3], 3)
    assert W[0].isfinite().all() and W[1].isnan().all() and b[1].isnan().all()


def test_rows_that_are_not_finite_spoil_their_own_draw_alone() -> None:
    x, y = problem(4, 3, 6, 1)
    broken = x.clone()
    broken[2, 3] = torch.nan
    draw, C = torch.tensor([0, 1]), torch.tensor([1.0, 1.0])
    W, b = logistic_regression(torch.stack([broken, x]), torch.stack([y, y]), draw, C, 3)
    assert W[0].isnan().all() and b[0].isnan().all()
    assert W[1].isfinite().all()
