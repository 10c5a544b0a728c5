"""The class of nothing against its own objective, and what it leaves alone."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.detection.background import PENALTY, Background, learn
from cacheclip.task import unit

N, C, D, SCALE = 60, 4, 6, 20.0


def problem() -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    g = torch.Generator().manual_seed(0)
    x = unit(torch.randn(N, D, generator=g, dtype=torch.float64))
    logits = SCALE * x @ unit(torch.randn(C, D, generator=g, dtype=torch.float64)).T
    thing = (x[:, 0] + 0.3 * torch.randn(N, generator=g) > 0).numpy()
    return logits, x, thing, torch.rand(N, generator=g).numpy()


def test_it_is_the_minimum_of_its_objective() -> None:
    logits, x, thing, counts = problem()
    found = learn(logits, x, thing, counts, SCALE)
    b = found.direction.clone().requires_grad_()
    c = torch.tensor(found.offset, dtype=torch.float64, requires_grad=True)
    whole = torch.cat([logits, (SCALE * x @ b + c)[:, None]], 1).softmax(1)[:, -1]
    weight, things = torch.from_numpy(counts), torch.from_numpy(thing)
    of_things = functional.binary_cross_entropy(whole[things], 0 * whole[things], weight[things])
    of_nothing = functional.binary_cross_entropy(whole[~things], 0 * whole[~things] + 1,
                                                 weight[~things])  # fmt: skip
    each = [weight[kind].mean() for kind in (things, ~things)]
    loss = (of_things / each[0] + of_nothing / each[1]) / 2 + PENALTY / 2 * b @ b
    torch.autograd.backward(loss)
    assert b.grad is not None and c.grad is not None
    assert float(b.grad.abs().max()) < 1e-4 * SCALE
    assert abs(float(c.grad)) < 1e-4


def test_what_is_left_is_shared_among_classes_as_before() -> None:
    logits, x, thing, counts = problem()
    p = learn(logits, x, thing, counts, SCALE).probabilities(logits, x)
    total = p.sum(1, keepdim=True)
    assert float(total.max()) < 1
    torch.testing.assert_close(p / total, logits.softmax(1), rtol=0, atol=1e-12)
    assert total[thing].mean() > total[~thing].mean() + 0.1


def test_far_below_all_classes_it_takes_nothing() -> None:
    logits, x, _, _ = problem()
    none = Background(torch.zeros(D, dtype=torch.float64), -1e4, SCALE)
    torch.testing.assert_close(none.probabilities(logits, x), logits.softmax(1))
