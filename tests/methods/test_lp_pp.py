"""LP++ against both of its recipes written out."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.methods.lp_pp import LpPp
from cacheclip.select import base as policies
from cacheclip.task import Generators, unit
from tests.methods.explicit import SEEDS, SHOTS, C, D, N, normal, problem

EPOCHS = 35


@pytest.mark.parametrize("recipe", ["as-code", "as-paper"])
def test_it_is_the_recipe_written_out(recipe: str) -> None:
    made = problem(LpPp, [{**LpPp.recipes[recipe], "epochs": EPOCHS}] * 2)
    x_test = unit(normal(9, D, seed=4))
    logits = made.logits({"image": x_test})
    text = made.task.text["norm-mean"]
    for v in range(2):
        x, labels = made.variant(v)
        weight = torch.stack([x[labels == c].sum(0) for c in range(C)]).requires_grad_()
        random = Generators([SEEDS[v]], "init", torch.device("cpu"), torch.float64)
        bias = random.uniform(D**-0.5, (C,))[0].requires_grad_()
        own = torch.stack([(x[labels == c] @ text[c]).mean() for c in range(C)])
        alpha = (250 / SHOTS * (own * SHOTS).mean()).repeat(C).requires_grad_()
        step = 4 * N / torch.linalg.eigvalsh(x.T @ x).max()
        step_alpha = N / (4 * ((x @ text.T) ** 2).sum(0).max())
        sgd = torch.optim.SGD([weight, bias], lr=float(step), momentum=0.9)
        for epoch in range(EPOCHS):
            if recipe == "as-paper":
                alpha.grad = None
            sgd.zero_grad()
            scores = _scores(x, text, weight, bias, alpha)
            torch.autograd.backward(functional.cross_entropy(scores, labels))
            sgd.step()
            if (epoch + 1) % 10 == 0:
                assert alpha.grad is not None
                alpha.data -= step_alpha * alpha.grad
        exact = _scores(x_test, text, weight, bias, alpha).detach()
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-9)


def _scores(x: Tensor, text: Tensor, weight: Tensor, bias: Tensor, alpha: Tensor) -> Tensor:
    return x @ weight.T + bias + alpha * (x @ text.T)


def test_constants_are_the_released_ones() -> None:
    for scale in (16.0, 100.0):  # steps come from the pictures: no logit scale is in them
        assert LpPp.fixed(4, scale) == {
            "alpha_gradient": "summed", "lr": 1.0, "epochs": 300, "batch_size": 10**6,
            "optimizer": "sgd", "weight_decay": 0.0, "schedule": "constant",
        }  # fmt: skip


def test_a_policy_that_holds_pictures_out_lets_them_say_when_to_stop() -> None:
    constants = LpPp.fixed(4, 100.0)
    for name, tried in (("fewshot-val", [{**constants, "stop": "search"}]), ("fixed", [constants])):
        assert policies.get(name).candidates(LpPp, {}, 4, 100.0) == tried


def test_steps_follow_the_length_of_the_pictures() -> None:
    made = problem(LpPp, [{}] * 2)
    twice = made.task.pool["image"] * 2
    scaled = made.method.moves(  # type: ignore[attr-defined]
        made.task.__class__(**{**vars(made.task), "pool": {"image": twice}})
    )
    plain = made.method.moves(made.task)  # type: ignore[attr-defined]
    for name in ("weight", "alpha"):
        torch.testing.assert_close(scaled[name].lr, plain[name].lr / 4)
