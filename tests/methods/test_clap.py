"""CLAP against its recipe written out, and at both ends of its pull."""

import torch
from torch.nn import functional

from cacheclip.methods.clap import Clap
from cacheclip.task import unit
from tests.methods.explicit import C, D, N, dassl, normal, problem

EPOCHS, BATCH, VIEWS = 7, 5, 3
OWN = {"epochs": EPOCHS, "batch_size": BATCH}


def test_it_is_the_recipe_written_out() -> None:
    """With three views: multipliers from all of them, one view of each picture an epoch."""
    made = problem(Clap, [{**OWN}, {**OWN, "strength": 0.3, "lr": 0.05}], views=VIEWS)
    x = unit(normal(9, D, seed=4))
    logits = made.logits({"image": x})
    pool, text = made.task.pool["image"], made.task.text["raw-mean"]
    for v in range(2):
        rows, labels = made.task.rows[v], made.task.labels[v]
        zero_shot = text / text.norm(dim=1, keepdim=True)
        sums, counts = torch.zeros(C).double(), torch.zeros(C).double()
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            for view in range(VIEWS):
                p = (100 * pool[row * VIEWS + view] @ zero_shot.T).softmax(0)
                sums[label] += p[label]
                counts[label] += 1
        multiplier = made.setting("strength", v) * sums / counts
        weight = text.clone().requires_grad_()
        sgd = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
        orders = made.orders(v)
        for epoch, rate in enumerate(dassl(made.setting("lr", v), EPOCHS)):
            sgd.param_groups[0]["lr"] = rate
            order = next(orders)
            for first in range(0, N - BATCH + 1, BATCH):
                batch = order[first : first + BATCH]
                rows_now = pool[rows[batch] * VIEWS + epoch % VIEWS]
                scores = 100 * rows_now @ (weight / weight.norm(dim=1, keepdim=True)).T
                penalty = (multiplier * ((weight - text) ** 2).sum(1)).mean()
                sgd.zero_grad()
                loss = functional.cross_entropy(scores, labels[batch]) + penalty
                torch.autograd.backward(loss)
                sgd.step()
        exact = 100 * x @ unit(weight.detach()).T
        assert (weight.detach() - text).abs().max() > 0.01
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-9)


def test_a_stronger_pull_stays_nearer_to_the_text() -> None:
    """Not at any price: a pull of more than the inverse step is unstable, as released."""
    away = {}
    for strength in (0.0, 1.0, 10.0):
        made = problem(Clap, [{"epochs": 60, "strength": strength}] * 2)
        weight, text = made.head()["weight"], unit(made.task.text["raw-mean"])
        away[strength] = float((weight - text).norm())
    assert away[0.0] > away[1.0] > away[10.0] > 0


def test_constants_are_the_released_ones() -> None:
    assert Clap.fixed(1, 100.0) == {
        "strength": 1.0, "lr": 0.1, "epochs": 300, "batch_size": 256, "optimizer": "sgd",
        "weight_decay": 0.0, "schedule": "dassl",
    }  # fmt: skip
