"""TaskRes against its recipe written out."""

import torch
from torch.nn import functional

from cacheclip.methods.task_res import TaskRes
from cacheclip.task import unit
from tests.methods.explicit import D, N, dassl, normal, problem

EPOCHS, BATCH = 7, 5


def test_it_is_the_recipe_written_out() -> None:
    own = {"epochs": EPOCHS, "batch_size": BATCH}
    settings = [{**own, "alpha": 0.5}, {**own, "alpha": 1.0, "lr": 0.02}]
    made = problem(TaskRes, settings)
    x = unit(normal(9, D, seed=4))
    logits = made.logits({"image": x})
    for v in range(2):
        pictures, labels = made.variant(v)
        text = made.task.text["raw-mean"]
        residual = torch.zeros_like(text).requires_grad_()
        adam = torch.optim.Adam([residual], weight_decay=5e-4)
        alpha, orders = made.setting("alpha", v), made.orders(v)

        def classify(rows: torch.Tensor) -> torch.Tensor:
            weight = text + alpha * residual  # noqa: B023
            return 100 * rows @ (weight / weight.norm(dim=1, keepdim=True)).T

        for rate in dassl(made.setting("lr", v), EPOCHS):
            adam.param_groups[0]["lr"] = rate
            order = next(orders)
            for first in range(0, N - BATCH + 1, BATCH):  # the partial batch is left out
                batch = order[first : first + BATCH]
                adam.zero_grad()
                functional.cross_entropy(classify(pictures[batch]), labels[batch]).backward()
                adam.step()
        assert residual.detach().abs().max() > 0.01
        torch.testing.assert_close(logits[v], classify(x).detach(), rtol=0, atol=1e-9)


def test_constants_are_the_released_ones() -> None:
    fixed = TaskRes.fixed(16, 100.0)
    assert fixed == {
        "alpha": 0.5, "lr": 2e-3, "epochs": 200, "batch_size": 256, "optimizer": "adam",
        "weight_decay": 5e-4, "schedule": "dassl",
    }  # fmt: skip
    assert TaskRes.fixed(4, 100.0)["epochs"] == 100


def test_fewer_pictures_than_a_batch_are_one() -> None:
    made = problem(TaskRes, [{}, {}])
    assert made.method.per_epoch(made.task) == 1
    assert N < 256
