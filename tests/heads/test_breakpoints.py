"""The best alpha of all numbers in its range, against brute force."""

import pytest
import torch
from torch import Tensor

from cacheclip.heads.breakpoints import MOST, Margins, most_overlap, or_zero

SIZES = [(1, 2, 1), (1, 5, 3), (7, 2, 2), (20, 20, 2), (33, 9, 3)]  # pictures, classes, votes
KINDS = ["random", "whole", "no votes", "equal votes", "twin classes", "against"]


def problem(kind: str, n: int, C: int, P: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(n * C + P)
    zero_shot = 3 * torch.randn(n, C, generator=g, dtype=torch.float64)
    votes = torch.rand(P, n, C, generator=g, dtype=torch.float64)
    labels = torch.randint(C, (n,), generator=g)
    if kind == "whole":  # ties everywhere, of logits and of ends
        zero_shot, votes = zero_shot.round(), (3 * votes).round()
    if kind == "no votes":
        votes[..., 0] = 0
        votes[0] = 0
    if kind == "equal votes":
        votes[..., 1] = votes[..., 0]
    if kind == "twin classes":
        votes[..., -1], zero_shot[:, -1] = votes[..., 0], zero_shot[:, 0]
    if kind == "against":  # the best alpha is below 0
        votes = -5 * torch.nn.functional.one_hot(labels, C) * votes + 1e-3 * votes
    return zero_shot.to(dtype), votes.to(dtype), labels


def best_alpha(zero_shot: Tensor, votes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return or_zero(*most_overlap(*Margins(zero_shot, labels).ends(votes)), zero_shot, labels)


def hits(zero_shot: Tensor, votes: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
    logits = zero_shot + alpha[:, None, None] * votes
    return (logits.argmax(-1) == labels).sum(-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_point_of_a_dense_grid_is_better(
    kind: str, size: tuple[int, int, int], dtype: torch.dtype
) -> None:
    zero_shot, votes, labels = problem(kind, *size, dtype)
    alpha, found = best_alpha(zero_shot, votes, labels)
    assert torch.equal(hits(zero_shot, votes, labels, alpha), found)
    # Off the round numbers: on one a tie may fall to a label that no alpha beside it favours.
    assert ((alpha >= 0) & (alpha <= MOST)).all()
    for point in [*torch.linspace(0.0013, 3.0017, 1501), *torch.linspace(0.013, MOST, 500)]:
        tried = hits(zero_shot, votes, labels, point.to(dtype).expand(len(votes)))
        assert (tried <= found).all()


def test_ends_are_those_of_each_pictures_wins() -> None:
    zero_shot, votes, labels = problem("random", 40, 6, 1, torch.float64)
    lower, upper = Margins(zero_shot, labels).ends(votes[0])
    for alpha in torch.linspace(-20, 20, 401, dtype=torch.float64):
        right = (zero_shot + alpha * votes[0]).argmax(-1) == labels
        assert torch.equal(right, (lower < alpha) & (alpha < upper))


def intervals(*pairs: tuple[float, float]) -> tuple[Tensor, Tensor]:
    lower, upper = torch.tensor(pairs, dtype=torch.float64).T
    return lower, upper


INF = float("inf")


@pytest.mark.parametrize(
    ("pairs", "alpha", "count"),
    [
        ([(1, 3)], 1.1, 1),  # near its lower end
        ([(1, 3), (2, 5)], 2.2, 2),
        ([(2, 2.2), (2.1, 2.2)], 2.15, 2),  # in the middle of a narrow one
        ([(6, 8), (-5, -3), (9, 10)], 6.6, 1),  # nothing below 0
        ([(9, 10), (6, 8)], 6.6, 1),  # nearest to 0
        ([(3, INF)], 3.3, 1),
        ([(0.05, INF)], 0.06, 1),
        ([(-INF, 4)], 0.01, 1),
        ([(-INF, INF)], 0.01, 1),
        ([(49, 70)], 49.5, 1),  # up to the end of the range
        ([(60, 70), (2, 3)], 2.2, 1),  # not beyond it
        ([(60, 70), (-3, -2)], MOST, 0),
        ([(1, 2), (2, 3)], 1.1, 1),  # open: they do not meet
        ([(1, 3), (4, 2), (5, 5)], 1.1, 1),  # none is none
        ([(4, 2)], MOST, 0),
        ([(1, 4), (2, 2 + 1e-15)], 1.1, 1),  # too narrow to stand in
    ],
)
def test_where_most_intervals_overlap(
    pairs: list[tuple[float, float]], alpha: float, count: int
) -> None:
    found, inside = most_overlap(*intervals(*pairs))
    assert int(inside) == count
    assert float(found) == pytest.approx(alpha)


def test_a_tie_goes_to_zero_shot() -> None:
    """Votes that change no answer leave alpha at 0, and so do votes that help nowhere."""
    zero_shot = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    labels = torch.tensor([0, 1])
    votes = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    alpha, found = best_alpha(zero_shot, votes, labels)
    assert (float(alpha), int(found)) == (0.0, 2)
