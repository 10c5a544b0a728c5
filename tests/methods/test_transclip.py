"""TransCLIP against its equations written out picture by picture, and what they imply."""

from itertools import pairwise
from math import exp

import pytest
import torch
from torch import Tensor

from cacheclip.heads import transclip
from cacheclip.heads.neighbours import Neighbours, nearest_others
from cacheclip.methods.base import Method, Settings
from cacheclip.methods.transclip_fs import TransclipFs
from cacheclip.methods.transclip_zs import TransclipZs
from cacheclip.task import unit
from tests.methods.explicit import C, D, N, normal, problem

n, K = 14, 3
SCALE = 3.0
X = unit(normal(n, D, seed=4))
NO_KEYS, NO_LABELS = X[:0], torch.zeros(0, C, dtype=torch.float64)


def rows(keys: Tensor, first: int) -> Tensor:
    """W [m, n] of these rows: 3 nearest pictures, from the `first` nearest on."""
    W = torch.zeros(len(keys), n, dtype=torch.float64)
    for r, key in enumerate(keys):
        cosines = X @ key
        for i in cosines.argsort(descending=True)[first : first + K].tolist():
            W[r, i] = max(0.0, float(cosines[i]))
    return W


def softmax(scores: list[float]) -> list[float]:
    high = max(scores)
    total = sum(exp(s - high) for s in scores)
    return [exp(s - high) / total for s in scores]


def written_out(
    p: Tensor, means: Tensor, W: Tensor, keys: Tensor, y: Tensor, power: float, gamma: float
) -> Tensor:
    """Z [n, C] after 10 turns and 11 times 5 steps."""
    z, v = p.clone(), torch.full((D,), 1 / D, dtype=torch.float64)
    shares = [1 / n] * n + [50 * gamma / len(keys) for _ in keys]
    weights = torch.tensor(shares, dtype=torch.float64)
    everyone = torch.cat([X, keys])
    for turn in range(11):
        if turn:
            belongs = torch.cat([z, y])
            means = torch.stack([unit((weights * belongs[:, c]) @ everyone) for c in range(C)])
            spread = torch.stack([(everyone - means[c]).square() for c in range(C)], 1)
            v = (weights[:, None, None] * belongs[..., None] * spread).sum((0, 1)) / weights.sum()
        likely = torch.tensor(
            [[float(-((x - m).square() / v).sum() / 2) for m in means] for x in X],
            dtype=torch.float64,
        )
        for _ in range(5):
            pulls = W.T @ torch.cat([z, y]) + W[:n] @ z
            score = (likely + 50 / (2 * K) * pulls) / 50 + power * p.log()
            z = torch.tensor([softmax(row) for row in score.tolist()], dtype=torch.float64)
    return z


def test_zero_shot_is_the_equations_written_out() -> None:
    made = problem(TransclipZs, [{}, {"text_weight": 0.3}], scale=SCALE)
    got = made.logits({"image": X}).softmax(-1)
    p = (SCALE * X @ made.task.text["norm-mean"].T).softmax(-1)
    sure = [p[:, c].argsort(descending=True)[:8] for c in range(C)]
    means = torch.stack([unit(p[own, c] @ X[own]) for c, own in enumerate(sure)])
    for v, power in enumerate((1.0, 0.3)):
        exact = written_out(p, means, rows(X, 1), NO_KEYS, NO_LABELS, power, 0.0)
        torch.testing.assert_close(got[v], exact, rtol=0, atol=1e-10)
    assert (got[0] - p).abs().max() > 0.01


@pytest.mark.parametrize("order", ["support-first", "pictures-first"])
def test_few_shots_are_the_equations_written_out(order: str) -> None:
    own: Settings = {"pairing": order}
    made = problem(TransclipFs, [own, own | {"gamma": 0.2, "text_weight": 1.0}], scale=SCALE)
    got = made.logits({"image": X}).softmax(-1)
    p = (SCALE * X @ made.task.text["norm-mean"].T).softmax(-1)
    for v, (power, gamma) in enumerate(((0.5, 0.02), (1.0, 0.2))):
        keys, labels = made.variant(v)
        y = torch.eye(C, dtype=torch.float64)[labels]
        means = torch.stack([unit(keys[labels == c].sum(0)) for c in range(C)])
        released = torch.cat([rows(keys, 1), rows(X, 1)])
        aligned = torch.cat([rows(X, 1), rows(keys, 0)])
        W = released if order == "support-first" else aligned
        exact = written_out(p, means, W, keys, y, power, gamma)
        torch.testing.assert_close(got[v], exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [TransclipZs, TransclipFs])
def test_text_alone_decides_where_it_counts_without_bounds(method: type[Method]) -> None:
    made = problem(method, [{"text_weight": 1e6, "neighbours": 0}] * 2, scale=SCALE)
    zero_shot = (X @ made.task.text["norm-mean"].T).argmax(-1)
    assert torch.equal(made.logits({"image": X}).argmax(-1), zero_shot.expand(2, n))


@pytest.mark.parametrize(
    ("method", "order"),
    [(TransclipZs, None), (TransclipFs, "pictures-first"), (TransclipFs, "support-first")],
)
def test_pictures_in_another_order_have_the_same_answers(
    method: type[Method], order: str | None
) -> None:
    """But not where rows of W stand for others than those of z."""
    made = problem(method, [{"pairing": order} if order else {}] * 2, scale=SCALE)
    moved = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    there = made.logits({"image": X[moved]})
    same = torch.allclose(there, made.logits({"image": X})[:, moved], rtol=0, atol=1e-9)
    assert same == (order != "support-first")


def test_no_step_of_z_raises_what_it_minimises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transclip, "TURNS", 0)
    log_p = (SCALE * X @ unit(normal(C, D, seed=9)).T).log_softmax(-1)
    means, graph = unit(normal(C, D, seed=7)), nearest_others(X, K)
    W = torch.eye(n, dtype=torch.float64)
    W = graph.pulled(W)
    likely = torch.stack([-((x - means).square() * D).sum(-1) / 2 for x in X])
    one, none = torch.tensor(1.0), torch.tensor(0.0)

    def objective(steps: int) -> float:
        monkeypatch.setattr(transclip, "INNER", steps)
        scores = transclip.clustered(
            X, log_p, means, graph, 1 / (2 * K), one, NO_KEYS, NO_LABELS, none
        )
        z = scores.softmax(-1)
        between = (z * (W @ z)).sum() / (2 * K)
        return float((z * (z.log() - log_p - likely / 50)).sum() - between)

    values = [objective(steps) for steps in range(1, 7)]
    assert all(after <= before + 1e-12 for before, after in pairwise(values))
    assert values[-1] < values[0] - 1e-6


def test_supports_hold_their_clusters() -> None:
    """With a gamma that drowns the pictures the means stay the support's."""
    made = problem(TransclipFs, [{"gamma": 1e6, "text_weight": 0.0, "neighbours": 0}] * 2)
    got = made.logits({"image": X})
    for v in range(2):
        keys, labels = made.variant(v)
        means = torch.stack([unit(keys[labels == c].sum(0)) for c in range(C)])
        spread = torch.stack([(keys - means[c]).square() for c in range(C)], 1)
        var = spread[torch.arange(N), labels].mean(0)
        near = torch.stack([-((x - means).square() / var).sum(-1) for x in X])
        assert torch.equal(got[v].argmax(-1), near.argmax(-1))


def test_neighbours_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheclip.heads.neighbours.PAIRS", 3 * n)  # rows by threes
    graph, z = nearest_others(X, K), normal(n, 2, seed=1)
    assert isinstance(graph, Neighbours)
    W = rows(X, 1)
    torch.testing.assert_close(graph.pulled(z), W @ z, rtol=0, atol=1e-12)
    torch.testing.assert_close(graph.pushed(z, n), W.T @ z, rtol=0, atol=1e-12)


def test_unasked_it_is_the_paper_and_the_slip_stays_to_be_asked_for() -> None:
    """Rows of either recipe have the settings that they always had."""
    plain: Settings = {"gamma": 0.02, "text_weight": 0.5, "neighbours": 3}
    assert TransclipFs.recipe() == "as-paper"
    own = TransclipFs.fixed(4, 100.0, "as-paper")
    assert own == plain | {"pairing": "pictures-first"}
    assert TransclipFs.fixed(4, 100.0, "as-code") == plain | {"pairing": "support-first"}
