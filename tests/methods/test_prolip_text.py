"""ProLIP's text twin against its recipe written out, from the prompts before the projection."""

from dataclasses import replace

import torch
from torch.nn import functional

from cacheclip.methods.base import Settings
from cacheclip.methods.prolip_text import ProlipText
from cacheclip.task import unit
from tests.methods.explicit import C, D, Problem, normal, problem

EPOCHS, WIDTH = 9, 5
BEFORE, PROJECTION = normal(C, WIDTH, seed=6), normal(WIDTH, D, seed=7)
OWN: Settings = {"epochs": EPOCHS, "lr": 0.01}


def made(*settings: Settings) -> Problem:
    return problem(
        ProlipText,
        settings,
        encoder={"text-projection": PROJECTION},
        text={"raw-mean": BEFORE @ PROJECTION},
    )


def test_it_is_the_recipe_written_out() -> None:
    both = made(OWN, {**OWN, "strength": 0.0})
    x_test = unit(normal(9, D, seed=4))
    logits = both.logits({"image": x_test})
    for v in range(2):
        x, labels = both.variant(v)
        projection = PROJECTION.clone().requires_grad_()
        adam = torch.optim.Adam([projection], lr=0.01, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS)
        for _ in range(EPOCHS):
            text = functional.normalize(BEFORE @ projection, dim=-1)
            loss = functional.cross_entropy(100 * x @ text.T, labels)
            loss = loss + both.setting("strength", v) * ((projection - PROJECTION) ** 2).sum()
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            schedule.step()
        assert (projection.detach() - PROJECTION).abs().max() > 0.01
        exact = 100 * x_test @ functional.normalize(BEFORE @ projection.detach(), dim=-1).T
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-8)


def test_without_a_step_it_is_zero_shot_by_the_raw_mean() -> None:
    both = made({"lr": 0.0, "epochs": 1}, {"lr": 0.0, "epochs": 1})
    x = unit(normal(9, D, seed=4))
    expected = 100 * x @ unit(both.task.text["raw-mean"]).T
    torch.testing.assert_close(both.logits({"image": x})[1], expected, rtol=0, atol=1e-10)


def test_classes_that_were_not_learned_from_go_through_the_tuned_projection() -> None:
    both = made(OWN, OWN)
    others = normal(2, WIDTH, seed=8)
    tuned = {"projection": normal(2, WIDTH, D, seed=9), "logit_scale": torch.ones(2)}
    task = replace(both.task, text={"raw-mean": others @ PROJECTION}, n_classes=2)
    weight = both.method.head(tuned, task)["weight"]
    torch.testing.assert_close(weight, unit(others @ tuned["projection"]), rtol=0, atol=1e-10)


def test_constants_are_prolip_s() -> None:
    assert ProlipText.fixed(4, 100.0) == {
        "strength": 0.25, "lr": 1e-4, "epochs": 300, "batch_size": 10**6, "optimizer": "adam",
        "weight_decay": 0.0, "schedule": "cosine",
    }  # fmt: skip
