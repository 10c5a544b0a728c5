"""The discriminant of Gaussian classes, against a loop with a pseudo-inverse and scikit-learn."""

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from cacheclip.heads.gaussian import discriminant
from cacheclip.task import unit

C, D = 4, 6


def draw(counts: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(C).repeat_interleave(torch.tensor(counts))
    centre = torch.randn(C, D, generator=g, dtype=torch.float64)
    rows = centre[labels] + torch.randn(len(labels), D, generator=g, dtype=torch.float64)
    order = torch.randperm(len(labels), generator=g)
    return unit(rows)[order], labels[order]


def explicit(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Class by class and row by row, as the paper has it."""
    n = len(x)
    means = torch.stack([x[labels == c].mean(0) for c in range(C)])
    covariance = torch.zeros(D, D, dtype=x.dtype)
    for i in range(n):
        away = x[i] - means[labels[i]]
        covariance += torch.outer(away, away) / (n - 1)
    shrunk = (n - 1) * covariance + torch.trace(covariance) * torch.eye(D, dtype=x.dtype)
    P = D * torch.linalg.pinv(shrunk)
    bias = [torch.log(torch.tensor(1 / C).double()) - means[c] @ P @ means[c] / 2 for c in range(C)]
    return means @ P, torch.stack(bias)


def test_it_is_the_explicit_loop_for_each_variant() -> None:
    both = [draw((3, 1, 5, 2), seed) for seed in (1, 2)]
    x, labels = (torch.stack(part) for part in zip(*both, strict=True))
    weight, bias = discriminant(x, labels, C)
    for v in range(2):
        exact = explicit(x[v], labels[v])
        torch.testing.assert_close(weight[v], exact[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(bias[v], exact[1], rtol=0, atol=1e-10)


def test_float32_is_close_where_rows_are_fewer_than_columns() -> None:
    x, labels = draw((1, 1, 1, 2), 3)
    weight, bias = discriminant(x.float()[None], labels[None], C)
    exact = explicit(x, labels)
    torch.testing.assert_close(weight[0].double(), exact[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(bias[0].double(), exact[1], rtol=1e-4, atol=1e-3)


def test_balanced_classes_are_those_of_shrunken_linear_discriminant_analysis() -> None:
    """P is (n - 1) D / (n (n - 1 + D)) times the inverse of scikit-learn at its shrinkage."""
    x, labels = draw((5, 5, 5, 5), 4)
    n = len(x)
    weight, bias = discriminant(x[None], labels[None], C)
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=D / (n - 1 + D), priors=[1 / C] * C
    ).fit(x.numpy(), labels.numpy())
    factor = D * (n - 1) / (n * (n - 1 + D))
    query, _ = draw((9, 9, 9, 9), 5)
    ours = query @ weight[0].T + bias[0]
    scores = torch.from_numpy(theirs.decision_function(query.numpy())) * factor
    centre = scores.mean(-1, keepdim=True)
    torch.testing.assert_close(
        ours - ours.mean(-1, keepdim=True), scores - centre, atol=1e-9, rtol=0
    )


def test_rows_on_their_means_say_nothing_of_a_covariance() -> None:
    x, labels = draw((1, 1, 1, 1), 6)
    for rows, classes in ((x, labels), (x.repeat(10, 1), labels.repeat(10))):
        for dtype in (torch.float64, torch.float32):
            weight, bias = discriminant(rows.to(dtype)[None], classes[None], C)
            assert not weight.any()
            assert len(bias.unique()) == 1
