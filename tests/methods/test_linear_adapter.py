"""The linear adapter against its recipe written out, with torch's own optimizer and schedule."""

import torch
from torch.nn import functional

from cacheclip.methods.base import Settings
from cacheclip.methods.linear_adapter import LinearAdapter
from cacheclip.methods.prolip import Prolip
from cacheclip.task import unit
from tests.methods.explicit import C, D, normal, problem

EPOCHS = 9


def test_it_is_the_recipe_written_out() -> None:
    own: Settings = {"epochs": EPOCHS, "lr": 0.01}
    made = problem(LinearAdapter, [own, {**own, "strength": 0.0}])
    assert made.setting("strength", 0) == round(1 / 3, 4)
    x_test = unit(normal(9, D, seed=4))
    logits, text = made.logits({"image": x_test}), made.task.text["norm-mean"]
    identity = torch.eye(D).double()
    for v in range(2):
        x, labels = made.variant(v)
        tuned = identity.clone().requires_grad_()
        adam = torch.optim.Adam([tuned], lr=0.01, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS)
        for _ in range(EPOCHS):
            z = functional.normalize(x @ tuned, dim=-1)
            loss = functional.cross_entropy(100 * z @ text.T, labels)
            loss = loss + made.setting("strength", v) * ((tuned - identity) ** 2).sum()
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            schedule.step()
        assert (tuned.detach() - identity).abs().max() > 0.01
        z = functional.normalize(x_test @ tuned.detach(), dim=-1)
        torch.testing.assert_close(logits[v], 100 * z @ text.T, rtol=0, atol=1e-8)


def test_of_unit_features_it_is_prolip_with_the_identity_as_projection() -> None:
    own: Settings = {"epochs": EPOCHS, "lr": 0.01}
    made = problem(LinearAdapter, [own, {**own, "lr": 0.1}])
    identity = {"projection": torch.eye(D).double(), "projection-bias": torch.zeros(D).double()}
    twin = problem(Prolip, [own, {**own, "lr": 0.1}], layer="pre-projection", encoder=identity)
    twin.task.pool["pre-projection"][:] = made.task.pool["image"]
    got, expected = made.head()["map"], twin.head()["projection"]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_a_stronger_pull_stays_nearer_to_zero_shot() -> None:
    x = unit(normal(9, D, seed=4))
    away = []
    for strength in (0.0, 1.0, 100.0, 1e5):
        own: Settings = {"epochs": 60, "lr": 0.01, "strength": strength}
        made = problem(LinearAdapter, [own, own])
        zero_shot = 100 * x @ made.task.text["norm-mean"].T
        away.append(float((made.logits({"image": x}) - zero_shot).abs().max()))
    assert away[0] > away[1] > away[2] > away[3]


def test_the_head_serves_other_classes() -> None:
    made = problem(LinearAdapter, [{"epochs": 2}] * 2)
    head = made.head()
    assert set(head) == {"weight", "map", "logit_scale"}
    assert head["weight"].shape == (2, C, D)


def test_constants_pull_by_the_shots() -> None:
    assert LinearAdapter.fixed(4, 100.0) == {
        "strength": 0.25, "lr": 1e-4, "epochs": 300, "batch_size": 10**6, "optimizer": "adam",
        "weight_decay": 0.0, "schedule": "cosine",
    }  # fmt: skip
