"""SS-Text against the problem that it solves, and its ends."""

import torch

from cacheclip.methods.ss_text import SsText
from cacheclip.task import unit
from tests.methods.explicit import C, D, normal, problem

X = unit(normal(30, D, seed=4))


def test_the_weight_is_where_the_pull_holds_the_gain_of_unequal_classes_too() -> None:
    told = [{"strength": 0.2}, {"strength": 0.0}]
    made = problem(SsText, told)
    made.task.labels[0, :5] = 2  # unequal shots
    weight = made.head()["weight"][0].requires_grad_()
    x, labels = made.variant(0)
    text = made.task.text["norm-mean"]
    away = (weight - text).square().sum() / (2 * told[0]["strength"])
    gain = 100 * (x * weight[labels]).sum()
    (slope,) = torch.autograd.grad(away - gain, weight)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-10)
    assert len(set(labels.bincount(minlength=C).tolist())) > 1


def test_no_strength_is_zero_shot() -> None:
    made = problem(SsText, [{"strength": 0.0}] * 2)
    assert torch.equal(made.logits({"image": X})[1], 100 * (X @ made.task.text["norm-mean"].T))
