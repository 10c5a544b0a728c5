"""AMU-Tuning against its training written out picture by picture, and what its settings end at."""

from collections.abc import Mapping
from dataclasses import replace
from math import cos, pi

import torch
from torch import Tensor

from cacheclip.heads.auxiliary import unsure
from cacheclip.methods.amu import Amu
from cacheclip.methods.base import Value
from cacheclip.task import unit
from tests.methods.explicit import SHOTS, C, D, N, Problem, normal, problem

OTHER = unit(normal(2 * N, D + 3, seed=6))
X, X2 = unit(normal(5, D, seed=3)), unit(normal(5, D + 3, seed=9))
QUERY = {"image": X, "aux:image": X2}
SCALE = 5.0


def made_of(*settings: Mapping[str, Value]) -> Problem:
    steps = {"epochs": 3, "batch_size": 5, "lr": 0.02}
    made = problem(Amu, [{**steps, **own} for own in settings], scale=SCALE)
    return replace(made, task=replace(made.task, pool={**made.task.pool, "aux:image": OTHER}))


def standardised(row: Tensor) -> Tensor:
    away = row - row.sum() / C
    return away / ((away * away).sum() / (C - 1)) ** 0.5


def logits_of(
    x: Tensor, other: Tensor, text: Tensor, W: Tensor, own: Mapping[str, float]
) -> Tensor:
    zero_shot = SCALE * text @ x
    fourth = (standardised(zero_shot.softmax(0)) ** 4).sum() / C
    counts = own["alpha"] * (fourth / (C / 4)) ** -own["power"]
    return zero_shot + counts * standardised(W @ other)


def test_it_is_the_training_written_out() -> None:
    settings = (
        {"alpha": 0.7, "share": 0.2, "power": 0.4},
        {"alpha": 1.5, "share": 0.9, "power": 0.0},
    )
    made = made_of(*settings)
    got, text = made.logits(QUERY), made.task.text["norm-mean"]
    for v in range(2):
        own = {name: made.setting(name, v) for name in ("alpha", "share", "power")}
        keys, labels = made.variant(v)
        others = OTHER[made.task.rows[v]]
        W = torch.stack([others[labels == c].sum(0) / SHOTS for c in range(C)])
        W = W.clone().requires_grad_()
        optimizer = torch.optim.AdamW([W], lr=0.02, weight_decay=0.01, eps=1e-4)
        orders, total, step = made.orders(v), 3 * 3, 0
        for _ in range(3):
            order = next(orders)
            for first in range(0, N, 5):
                part = order[first : first + 5].tolist()
                losses = []
                for i in part:
                    both = logits_of(keys[i], others[i], text, W, own).log_softmax(0)[labels[i]]
                    alone = standardised(W @ others[i]).log_softmax(0)[labels[i]]
                    losses.append(-own["share"] * both - (1 - own["share"]) * alone)
                optimizer.param_groups[0]["lr"] = 0.02 * (1 + cos(pi * step / total)) / 2
                optimizer.zero_grad()
                (sum(losses) / len(part)).backward()  # type: ignore[union-attr]
                optimizer.step()
                step += 1
        with torch.no_grad():
            exact = [logits_of(x, y, text, W, own) for x, y in zip(X, X2, strict=True)]
        torch.testing.assert_close(got[v], torch.stack(exact), rtol=0, atol=1e-9)


def test_without_weight_it_is_zero_shot_and_without_power_all_pictures_count_the_same() -> None:
    made = made_of({"alpha": 0.0}, {"power": 0.0})
    zero_shot = SCALE * X @ made.task.text["norm-mean"].T
    own = made.logits(QUERY) - zero_shot
    assert own[0].abs().max() < 1e-12
    spread = own[1].std(-1)
    torch.testing.assert_close(spread, torch.full_like(spread, 0.5), rtol=0, atol=1e-12)


def test_the_surer_zero_shot_is_the_less_the_other_encoder_counts() -> None:
    rising = torch.tensor([0.0, 1.0, 3.0, 9.0], dtype=torch.float64)
    logits = rising[:, None] * torch.tensor([1.0, 0.0, 0.0, 0.2], dtype=torch.float64)
    counts = unsure(logits[None], torch.tensor([0.4], dtype=torch.float64))[0, :, 0]
    assert counts.isfinite().all()
    assert counts[1] > counts[3]
    ones = unsure(logits[None], torch.zeros(1, dtype=torch.float64))
    assert torch.equal(ones, torch.ones_like(ones))


def test_one_class_and_logits_that_do_not_differ_are_finite() -> None:
    for shape in ((1, 3, 1), (1, 3, 2), (1, 3, 5)):
        assert unsure(torch.zeros(shape), torch.tensor([0.4])).isfinite().all()
