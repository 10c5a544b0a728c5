from math import cos, pi

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.engine.optim import Optimizer
from cacheclip.engine.schedule import learning_rates
from cacheclip.errors import InputError
from cacheclip.methods import base
from cacheclip.methods.base import Method, Params
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Task, class_text, unit

C, D, SHOTS = 3, 8, 4


def make_task(lr: list[float]) -> Task:
    g = torch.Generator().manual_seed(0)
    adapter = base.get("clip-adapter")
    V = len(lr)
    return Task(
        pool={"image": unit(torch.randn(C * SHOTS, D, generator=g))},
        rows=torch.arange(C * SHOTS).expand(V, -1),
        labels=torch.arange(C).repeat_interleave(SHOTS).expand(V, -1),
        text=class_text(torch.randn(C, 1, D, generator=g), adapter.text),
        settings={
            "alpha": torch.full((V,), 0.5),
            "lr": torch.tensor(lr),
            "weight_decay": torch.zeros(V),
        },
        logit_scale=30.0,
        n_classes=C,
    )


def torchs_optimizer(name: str, p: Tensor, lr: float, decay: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD([p], lr=lr, momentum=0.9, weight_decay=decay)
    if name == "adam":
        return torch.optim.Adam([p], lr=lr, weight_decay=decay)
    return torch.optim.AdamW([p], lr=lr, weight_decay=decay)


def fitted(method: Method, task: Task, seeds: list[int]) -> Params:
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None)
    return params


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_step_is_torchs_step(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, 4, generator=g, dtype=torch.float64)
    lr, decay = torch.tensor([0.1, 0.01]).double(), torch.tensor([0.0, 0.3]).double()
    ours = start.clone()
    optimizer = Optimizer(name, [ours], decay)
    theirs = [start[v].clone().requires_grad_() for v in range(2)]
    torchs = [torchs_optimizer(name, theirs[v], float(lr[v]), float(decay[v])) for v in range(2)]
    for _ in range(4):
        gradient = torch.randn(2, 3, 4, generator=g, dtype=torch.float64)
        optimizer.step([gradient], lr)
        for v in range(2):
            theirs[v].grad = gradient[v].clone()
            torchs[v].step()
    torch.testing.assert_close(ours, torch.stack(theirs).detach(), rtol=0, atol=1e-12)


def test_dassl_warms_up_for_an_epoch_and_never_reaches_zero() -> None:
    rates = learning_rates("dassl", torch.tensor([2e-3, 1.0]).double(), epochs=5, steps_per_epoch=2)
    assert rates.shape == (10, 2)
    assert rates[:2].tolist() == [[1e-5, 1e-5]] * 2
    for epoch in range(1, 5):
        expected = (1 + cos(pi * (epoch - 1) / 5)) / 2
        assert rates[2 * epoch : 2 * epoch + 2, 1].tolist() == pytest.approx([expected] * 2)
    assert rates[-1, 1] > 0


def test_cosine_falls_at_every_step() -> None:
    rates = learning_rates("cosine", torch.ones(1), epochs=2, steps_per_epoch=3)[:, 0]
    assert rates[0] == 1
    assert (rates[1:] < rates[:-1]).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"schedule": "linear"}, "schedule"), ({"optimizer": "lion"}, "optimizer")],
)
def test_a_wrong_recipe_is_named(wrong: dict[str, str | int], named: str) -> None:
    with pytest.raises(InputError, match=named):
        fitted(base.get("clip-adapter")(**wrong), make_task([0.1]), [1])


def test_a_variant_that_explodes_leaves_the_others_alone() -> None:
    method = base.get("clip-adapter")(epochs=6, schedule="constant")
    alone = fitted(method, make_task([0.01]), [1])
    beside = fitted(method, make_task([0.01, float("inf")]), [1, 2])
    assert engine.finite(beside).tolist() == [True, False]
    torch.testing.assert_close(beside["up"][0], alone["up"][0])


def test_training_lowers_the_loss() -> None:
    task = make_task([0.01])
    everything = task.batch(torch.arange(C * SHOTS)[None])
    method, short = ClipAdapter(epochs=40), ClipAdapter(epochs=1)
    before = method.loss(fitted(short, task, [1]), everything)
    after = method.loss(fitted(method, task, [1]), everything)
    assert after < before - 0.1


def test_chunks_give_what_one_stack_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    method = ClipAdapter(epochs=3)
    task = make_task([0.01, 0.02, 0.03])
    whole = fitted(method, task, [1, 2, 3])
    monkeypatch.setattr(engine, "WORKING_BYTES", 1)
    shares: list[float] = []
    chunks = list(engine.fit(method, task, [1, 2, 3], shares.append))
    assert [(first, last) for first, last, _ in chunks] == [(0, 1), (1, 2), (2, 3)]
    for name, x in whole.items():
        joined = torch.cat([params[name] for _, _, params in chunks])
        torch.testing.assert_close(joined, x, rtol=0, atol=1e-6)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_partial_batch_is_dropped_only_where_a_full_one_stays() -> None:
    from cacheclip.engine.trainer import _batches

    assert _batches(10, 4, drop_last=True) == [(0, 4), (4, 8)]
    assert _batches(10, 4, drop_last=False) == [(0, 4), (4, 8), (8, 10)]
    assert _batches(3, 4, drop_last=True) == [(0, 3)]
    assert _batches(8, 4, drop_last=True) == [(0, 4), (4, 8)]
