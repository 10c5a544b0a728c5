import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cacheclip.heads.logistic import logistic_regression


def problem(n_per_class: int, classes: int, D: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(n_per_class)
    centres = torch.randn(classes, D, generator=g)
    x = centres[labels] + 1.5 * torch.randn(len(labels), D, generator=g)
    return torch.nn.functional.normalize(x, dim=-1), labels


def mean_objective(x: np.ndarray, y: np.ndarray, W: np.ndarray, b: np.ndarray, C: float) -> float:
    z = x @ W.T + b
    z = z - z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(y)), y].mean() + 0.5 * (W * W).sum() / (C * len(y)))


@pytest.mark.parametrize(("n", "classes", "D"), [(1, 4, 9), (5, 3, 6), (16, 10, 20)])
def test_the_objective_is_at_most_scikit_learns(n: int, classes: int, D: int) -> None:
    grid = [1e-2, 1.0, 1e2, 1e4]
    problems = [problem(n, classes, D, seed) for seed in range(len(grid))]
    x = torch.stack([p[0] for p in problems])
    y = torch.stack([p[1] for p in problems])
    W, b = logistic_regression(x, y, torch.tensor(grid), classes)
    for v, C in enumerate(grid):
        xs, ys = x[v].double().numpy(), y[v].numpy()
        theirs = LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(xs, ys)
        bound = mean_objective(xs, ys, theirs.coef_, theirs.intercept_, C)
        ours = mean_objective(xs, ys, W[v].double().numpy(), b[v].double().numpy(), C)
        assert ours <= bound + 1e-6


def test_permuting_the_samples_leaves_the_optimum() -> None:
    x, y = problem(6, 4, 8, 0)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    C = torch.tensor([10.0])
    W, b = logistic_regression(x[None], y[None], C, 4)
    W2, b2 = logistic_regression(x[order][None], y[order][None], C, 4)
    torch.testing.assert_close(W, W2, rtol=0, atol=1e-4)
    torch.testing.assert_close(b, b2, rtol=0, atol=1e-4)


def test_separable_data_are_learned_as_c_grows() -> None:
    x, y = problem(1, 6, 12, 3)
    W, b = logistic_regression(x[None], y[None], torch.tensor([1e4]), 6)
    assert torch.equal((x @ W[0].T + b[0]).argmax(1), y)
