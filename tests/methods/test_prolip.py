"""ProLIP against its recipe written out, with torch's own optimizer and schedule."""

import torch
from torch.nn import functional

from cacheclip.methods.base import Settings
from cacheclip.methods.prolip import Prolip
from tests.methods.explicit import C, D, normal, problem

EPOCHS, E = 9, 8
ENCODER = {"projection": normal(E, D, seed=6), "projection-bias": 0.1 * normal(D, seed=7)}


def test_it_is_the_recipe_written_out() -> None:
    own: Settings = {"epochs": EPOCHS, "lr": 0.01}
    made = problem(
        Prolip, [own, {**own, "strength": 0.0}], layer="pre-projection", encoder=ENCODER, width=E
    )
    assert made.setting("strength", 0) == round(1 / 3, 4)
    v_test = normal(9, E, seed=4)
    logits = made.logits({"pre-projection": v_test})
    text, before = made.task.text["norm-mean"], ENCODER["projection"]
    for v in range(2):
        pictures, labels = made.variant(v)
        projection = before.clone().requires_grad_()
        adam = torch.optim.Adam([projection], lr=0.01, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS)
        for _ in range(EPOCHS):
            z = functional.normalize(pictures @ projection + ENCODER["projection-bias"], dim=-1)
            loss = functional.cross_entropy(100 * z @ text.T, labels)
            loss = loss + made.setting("strength", v) * ((projection - before) ** 2).sum()
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            schedule.step()
        tuned = projection.detach()
        assert (tuned - before).abs().max() > 0.01
        z = functional.normalize(v_test @ tuned + ENCODER["projection-bias"], dim=-1)
        torch.testing.assert_close(logits[v], 100 * z @ text.T, rtol=0, atol=1e-8)


def test_the_head_serves_other_classes() -> None:
    made = problem(Prolip, [{"epochs": 2}] * 2, layer="pre-projection", encoder=ENCODER, width=E)
    head = made.head()
    assert set(head) == {"weight", "projection", "projection_bias", "logit_scale"}
    assert head["weight"].shape == (2, C, D)


def test_constants_are_those_of_the_runs_without_validation() -> None:
    assert Prolip.fixed(4, 100.0) == {
        "strength": 0.25, "lr": 1e-5, "epochs": 300, "batch_size": 10**6, "optimizer": "adam",
        "weight_decay": 0.0, "schedule": "cosine",
    }  # fmt: skip
