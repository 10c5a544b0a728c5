"""APE-T against its recipe written out, key by key, with torch's own optimizer and schedule."""

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.methods.ape_t import ApeT
from cacheclip.methods.base import Settings
from cacheclip.methods.tip_adapter import TipAdapter
from cacheclip.task import unit
from tests.methods.explicit import C, D, N, normal, problem

EPOCHS, BATCH, X = 4, 5, unit(normal(9, D, seed=4))
OWN: Settings = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.01, "channels": 0.5}


def telling(text: Tensor, variance: float, Q: int) -> Tensor:
    """The channels by loops over pairs of classes."""
    alike = torch.zeros(D).double()
    for i in range(C):
        for j in range(C):
            alike += text[i] * text[j] * (i != j)
    score = variance * text.var(0) - (1 - variance) * alike / (C * (C - 1))
    return score.argsort(descending=True)[:Q]


def scores(x: Tensor, parts: tuple[Tensor, ...], told: tuple[float, float]) -> Tensor:
    text, keys, labels, shift, values = parts
    alpha, beta = told
    logits = 100 * x @ (text + shift).T
    votes = torch.zeros_like(logits)
    for k, key in enumerate(keys):
        c = labels[k]
        vote = values[k] * torch.exp(-beta * (1 - x @ (key + shift[c])))
        votes = votes + vote[:, None] * functional.one_hot(c, C)
    return logits + alpha * votes


def test_it_is_the_recipe_written_out() -> None:
    made = problem(ApeT, [OWN, {**OWN, "alpha": 0.7, "beta": 2.0, "variance": 0.1}])
    logits, text = made.logits({"image": X}), made.task.text["all:norm-mean"]
    for v in range(2):
        told = made.setting("alpha", v), made.setting("beta", v)
        x, labels = made.variant(v)
        channels = telling(text, made.setting("variance", v), D // 2)
        residual = torch.zeros(C, D // 2).double().requires_grad_()
        values = torch.ones(N).double().requires_grad_()
        adam = torch.optim.AdamW([residual, values], lr=0.01, eps=1e-3, weight_decay=0.1)
        steps = EPOCHS * -(-N // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        orders = made.orders(v)
        for _ in range(EPOCHS):
            order = next(orders)
            for first in range(0, N, BATCH):
                batch = order[first : first + BATCH]
                shift = torch.zeros(C, D).double().index_add(1, channels, residual)
                guess = scores(x[batch], (text, x, labels, shift, values), told)
                adam.zero_grad()
                torch.autograd.backward(functional.cross_entropy(guess, labels[batch]))
                adam.step()
                schedule.step()
        assert residual.detach().abs().max() > 0.01
        shift = torch.zeros(C, D).double().index_add(1, channels, residual.detach())
        exact = scores(X, (text, x, labels, shift, values.detach()), told)
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-7)


def test_it_starts_as_tip_adapter() -> None:
    text = unit(normal(C, D, seed=9))
    still: Settings = {"epochs": 1, "lr": 0.0, "alpha": 3.0, "beta": 4.0}
    made = problem(ApeT, [still] * 2, text={"all:norm-mean": text})
    same: Settings = {"alpha": 3.0, "beta": 4.0}
    tip = problem(TipAdapter, [same] * 2, text={"norm-mean": text})
    expected = tip.logits({"image": X})
    torch.testing.assert_close(made.logits({"image": X}), expected, rtol=0, atol=1e-10)


def test_other_channels_stay_as_they_were() -> None:
    made = problem(ApeT, [OWN] * 2)
    moved = made.head()["weight"][0] - made.task.text["all:norm-mean"]
    channels = telling(made.task.text["all:norm-mean"], 0.8, D // 2)
    assert set(moved.abs().sum(0).nonzero().flatten().tolist()) == set(channels.tolist())
