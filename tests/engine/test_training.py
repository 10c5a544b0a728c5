from math import cos, pi
from typing import Any

import pytest
import torch

from cacheclip.engine import stack as engine, trainer
from cacheclip.engine.schedule import learning_rates
from cacheclip.errors import InputError
from cacheclip.methods import base
from cacheclip.methods.base import Method, Params, Trained
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Task, class_text, unit
from tests.methods.tasks import batch_of, reordered

C, D, SHOTS = 3, 8, 4
LIMIT = 10**8


def make_task(lr: list[float]) -> Task:
    g = torch.Generator().manual_seed(0)
    adapter = base.get("clip-adapter")
    V = len(lr)
    return Task(
        pool={"image": unit(torch.randn(C * SHOTS, D, generator=g))},
        rows=torch.arange(C * SHOTS).expand(V, -1),
        labels=torch.arange(C).repeat_interleave(SHOTS).expand(V, -1),
        text=class_text(torch.randn(C, 1, D, generator=g), adapter().reads.text),
        settings={
            "alpha": torch.full((V,), 0.5),
            "lr": torch.tensor(lr),
            "weight_decay": torch.zeros(V),
        },
        logit_scale=30.0,
        n_classes=C,
    )


def fitted(method: Method, task: Task, seeds: list[int]) -> Params:
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, LIMIT)
    return params


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


def test_a_warm_cosine_rises_in_a_line_and_then_falls() -> None:
    rates = learning_rates("warm-cosine", torch.tensor([2.0]), epochs=30, steps_per_epoch=5)[:, 0]
    assert rates.shape == (150,)
    assert rates[:3].tolist() == pytest.approx([1e-5, 2 / 50, 2 * 2 / 50])
    assert rates[49:52].tolist() == pytest.approx(
        [2 * 49 / 50, 2.0, 2 * (1 + cos(pi / 150)) / 2], rel=1e-6
    )
    assert (rates[51:] < rates[50:-1]).all()
    short = learning_rates("warm-cosine", torch.tensor([2.0]), epochs=1, steps_per_epoch=3)[:, 0]
    assert torch.equal(short, rates[:3])


def test_a_schedule_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="schedule"):
        learning_rates("linear", torch.ones(1), 2, 2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_steps_by_hand_end_where_autograd_ends(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = ClipAdapter(epochs=5, optimizer=optimizer, schedule="cosine")
    task = make_task([0.01, 0.03])
    by_hand = fitted(method, task, [1, 2])
    monkeypatch.setattr(ClipAdapter, "grads", lambda self, params, batch: None)
    exact = fitted(method, task, [1, 2])
    for name in method.trainable:
        torch.testing.assert_close(by_hand[name], exact[name], rtol=0, atol=1e-4)


def test_a_variant_that_explodes_leaves_the_others_alone() -> None:
    method = base.get("clip-adapter")(epochs=6, schedule="constant")
    alone = fitted(method, make_task([0.01]), [1])
    beside = fitted(method, make_task([0.01, float("inf")]), [1, 2])
    assert engine.finite(method, beside).tolist() == [True, False]
    torch.testing.assert_close(beside["up"][0], alone["up"][0])


def test_training_lowers_the_loss() -> None:
    task = make_task([0.01])
    everything = batch_of(task)
    method, short = ClipAdapter(epochs=40), ClipAdapter(epochs=1)
    before = method.loss(fitted(short, task, [1]), everything)
    after = method.loss(fitted(method, task, [1]), everything)
    assert after < before - 0.1


def test_chunks_give_what_one_stack_gives() -> None:
    method = ClipAdapter(epochs=3)
    task = make_task([0.01, 0.02, 0.03])
    whole = fitted(method, task, [1, 2, 3])
    shares: list[float] = []
    chunks = list(engine.fit(method, task, [1, 2, 3], shares.append, 1))
    assert [(first, last) for first, last, _ in chunks] == [(0, 1), (1, 2), (2, 3)]
    for name, x in whole.items():
        joined = torch.cat([params[name] for _, _, params in chunks])
        torch.testing.assert_close(joined, x, rtol=0, atol=1e-6)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("n", "drop_last", "sizes"),
    [(10, True, [4, 4]), (10, False, [4, 4, 2]), (3, True, [3]), (8, True, [4, 4])],
)
def test_a_partial_batch_is_dropped_only_where_a_full_one_stays(
    n: int, drop_last: bool, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClipAdapter, "drop_last", drop_last)
    task = make_task([0.01, 0.02])
    task = reordered(task, torch.arange(n).expand(2, -1))
    method = ClipAdapter(batch_size=4)
    order = method.order(task, Generators([1, 2], "order", task.device, task.dtype))
    for _ in range(2):
        epoch = [next(order) for _ in range(method.per_epoch(task))]
        assert [index.shape[1] for index in epoch] == sizes
        for seen in torch.cat(epoch, 1).tolist():
            assert len(set(seen)) == len(seen)


def test_the_order_of_the_variants_changes_nothing() -> None:
    """Nor that equal rates stand apart."""
    method, lrs = ClipAdapter(epochs=4, optimizer="adamw"), [0.01, 0.03, 0.01, 0.02, 0.03]
    together = fitted(method, make_task(lrs), [1, 2, 3, 4, 5])
    for v, lr in enumerate(lrs):
        alone = fitted(method, make_task([lr]), [v + 1])
        for name in method.trainable:
            torch.testing.assert_close(together[name][v], alone[name][0], rtol=0, atol=1e-6)


def test_a_chunk_that_does_not_fit_is_halved_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = ClipAdapter(epochs=3)
    lrs = [0.01 * k for k in range(1, 8)]
    whole = fitted(method, make_task(lrs), [1] * 7)
    real = trainer.train

    def tight(method: Trained, task: Task, *rest: Any) -> Params:
        if task.variants > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return real(method, task, *rest)

    monkeypatch.setattr(engine, "train", tight)
    said: list[str] = []
    chunks = list(
        engine.fit(method, make_task(lrs), [1] * 7, lambda share: None, LIMIT, said.append)
    )
    assert [(first, last) for first, last, _ in chunks] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (6, 7),
    ]
    for name, x in whole.items():
        joined = torch.cat([params[name] for _, _, params in chunks])
        torch.testing.assert_close(joined, x, rtol=0, atol=1e-6)
    assert said == [
        "out of memory with 7 variants at once: going on with 3",
        "out of memory with 3 variants at once: going on with 1",
    ]
