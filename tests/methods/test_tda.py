"""TDA against two dictionaries of lists, picture after picture."""

from math import log2
from typing import Any

import torch
from torch import Tensor

from cacheclip.methods.tda import Tda
from cacheclip.task import unit
from tests.methods.explicit import C, D, normal, problem

SCALE = 3.0  # some pictures are unsure there, and both caches overflow
X = unit(normal(150, D, seed=4))  # more than go through the caches at once
Cache = dict[int, list[tuple[float, Tensor, Tensor]]]


def enter(cache: Cache, own: int, item: tuple[float, Tensor, Tensor], size: int) -> None:
    held = cache.setdefault(own, [])
    if len(held) < size:
        held.append(item)
    elif item[0] < held[-1][0]:
        held[-1] = item
    held.sort(key=lambda kept: kept[0])


def stream(text: Tensor, alpha: float, beta: float, kept: int = 3) -> tuple[Tensor, Any]:
    sure: Cache = {}
    unsure: Cache = {}
    answers = []
    for x in X:
        zero_shot = SCALE * x @ text.T
        p = zero_shot.softmax(0)
        entropy = float(-(p * p.log()).sum())
        own = int(zero_shot.argmax())
        enter(sure, own, (entropy, x, p), kept)
        if 0.2 < entropy / log2(C) < 0.5:
            enter(unsure, own, (entropy, x, p), 2)
        logits = zero_shot.clone()
        for label, items in sure.items():
            for _, key, _ in items:
                logits[label] += alpha * torch.exp(-beta * (1 - x @ key))
        for items in unsure.values():
            for _, key, probable in items:
                mask = ((probable > 0.03) & (probable < 1.0)).double()
                logits -= 0.117 * torch.exp(-(1 - x @ key)) * mask
        answers.append(logits)
    return torch.stack(answers), (sure, unsure)


def test_it_is_the_stream_written_out() -> None:
    made = problem(Tda, [{}, {"alpha": 1.0, "beta": 8.0}], scale=SCALE)
    logits = made.logits({"image": X})
    for v, (alpha, beta) in enumerate(((2.0, 5.0), (1.0, 8.0))):
        exact, (sure, unsure) = stream(made.task.text["norm-mean"], alpha, beta)
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-10)
    assert any(len(items) == 3 for items in sure.values())
    assert any(len(items) == 2 for items in unsure.values())


def test_a_variant_may_have_a_stream_of_its_own() -> None:
    made = problem(Tda, [{}, {}], scale=SCALE)
    back = made.logits({"image": torch.stack([X, X.flip(0)])})
    torch.testing.assert_close(back[0], made.logits({"image": X})[0], rtol=0, atol=1e-12)
    alone = made.logits({"image": X.flip(0)})[1]
    torch.testing.assert_close(back[1], alone, rtol=0, atol=1e-12)
    assert not torch.allclose(back[1].flip(0), back[0])


def test_constants_are_the_released_ones_for_imagenet() -> None:
    assert Tda.fixed(16, 16.0) == {
        "alpha": 2.0, "beta": 5.0, "alpha_unsure": 0.117, "beta_unsure": 1.0, "kept": 3,
        "kept_unsure": 2,
    }  # fmt: skip
