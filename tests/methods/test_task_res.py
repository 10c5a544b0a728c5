"""TaskRes against its recipe written out."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.methods.base import Settings
from cacheclip.methods.task_res import TaskRes
from cacheclip.task import unit
from tests.methods.explicit import D, N, dassl, normal, problem

EPOCHS, BATCH = 7, 5


def test_it_is_the_recipe_written_out() -> None:
    own: Settings = {"epochs": EPOCHS, "batch_size": BATCH}
    made = problem(TaskRes, [{**own, "alpha": 0.5}, {**own, "alpha": 1.0, "lr": 0.02}])
    x = unit(normal(9, D, seed=4))
    logits = made.logits({"image": x})
    for v in range(2):
        pictures, labels = made.variant(v)
        text = made.task.text["raw-mean"]
        residual = torch.zeros_like(text).requires_grad_()
        adam = torch.optim.Adam([residual], weight_decay=5e-4)
        alpha, orders = made.setting("alpha", v), made.orders(v)

        classify = partial(_scores, text, alpha, residual)
        for rate in dassl(made.setting("lr", v), EPOCHS):
            adam.param_groups[0]["lr"] = rate
            order = next(orders)
            for first in range(0, N - BATCH + 1, BATCH):  # the partial batch is left out
                batch = order[first : first + BATCH]
                adam.zero_grad()
                loss = functional.cross_entropy(classify(pictures[batch]), labels[batch])
                torch.autograd.backward(loss)
                adam.step()
        assert residual.detach().abs().max() > 0.01
        torch.testing.assert_close(logits[v], classify(x).detach(), rtol=0, atol=1e-9)


def _scores(text: Tensor, alpha: float, residual: Tensor, x: Tensor) -> Tensor:
    weight = text + alpha * residual
    norm: Tensor = weight.norm(dim=1, keepdim=True)
    return 100 * x @ (weight / norm).T


def test_constants_are_the_released_ones() -> None:
    fixed = TaskRes.fixed(16, 100.0)
    assert fixed == {
        "alpha": 0.5, "lr": 2e-3, "epochs": 200, "batch_size": 256, "optimizer": "adam",
        "weight_decay": 5e-4, "schedule": "dassl",
    }  # fmt: skip
    assert TaskRes.fixed(4, 100.0)["epochs"] == 100


def test_fewer_pictures_than_a_batch_are_one() -> None:
    task = problem(TaskRes, [{}, {}]).task
    assert TaskRes().per_epoch(task) == 1
    assert N < 256
