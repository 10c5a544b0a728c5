"""The class of nothing against its own objective, and what it leaves alone."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cacheclip.detection.background import PENALTY, Background, learn
from cacheclip.task import unit

N, C, D, SCALE = 60, 4, 6, 20.0


def problem() -> tuple[Tensor, Tensor, NDArray[np.float64]]:
    g = torch.Generator().manual_seed(0)
    x = unit(torch.randn(N, D, generator=g, dtype=torch.float64))
    logits = SCALE * x @ unit(torch.randn(C, D, generator=g, dtype=torch.float64)).T
    likely = (4 * x[:, 0] + torch.randn(N, generator=g, dtype=torch.float64)).sigmoid()
    return logits, x, np.where(likely > 0.7, likely, 0)


def test_it_is_the_minimum_of_its_objective() -> None:
    logits, x, nothing = problem()
    found = learn(logits, x, nothing, SCALE)
    b = found.direction.clone().requires_grad_()
    c = torch.tensor(found.offset, dtype=torch.float64, requires_grad=True)
    own = torch.cat([logits, (SCALE * x @ b + c)[:, None]], 1).softmax(1)[:, -1]
    loss = functional.binary_cross_entropy(own, torch.from_numpy(nothing)) + PENALTY / 2 * b @ b
    torch.autograd.backward(loss)
    assert b.grad is not None and c.grad is not None
    assert float(b.grad.abs().max()) < 1e-4 * SCALE
    assert abs(float(c.grad)) < 1e-4


def test_what_is_left_is_shared_among_classes_as_before() -> None:
    logits, x, nothing = problem()
    p = learn(logits, x, nothing, SCALE).probabilities(logits, x)
    total = p.sum(1, keepdim=True)
    assert float(total.max()) < 1
    torch.testing.assert_close(p / total, logits.softmax(1), rtol=0, atol=1e-12)
    assert total[nothing == 0].mean() > total[nothing > 0].mean() + 0.1


def test_far_below_all_classes_it_takes_nothing() -> None:
    logits, x, _ = problem()
    none = Background(torch.zeros(D, dtype=torch.float64), -1e4, SCALE)
    torch.testing.assert_close(none.probabilities(logits, x), logits.softmax(1))
