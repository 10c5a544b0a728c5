"""Held-out pictures say after which epoch a run should have stopped."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.engine.trainer import steps
from cacheclip.engine.watch import STOPPED
from cacheclip.heads.temperature import label_log_p
from cacheclip.methods.base import Params
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Query, Task, unit

C, D, SHOTS, HELD, EPOCHS = 4, 8, 3, 5, 30


def pictures(labels: Tensor, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    centres = torch.eye(D, dtype=torch.float64)[:C]
    noise = torch.randn(len(labels), D, generator=g, dtype=torch.float64)
    return unit(centres[labels] + 0.8 * noise)


def make_task(V: int = 3) -> Task:
    labels = torch.arange(C).repeat_interleave(2 * SHOTS)
    rows = torch.stack(
        [torch.arange(C * SHOTS) * 2 + torch.arange(C * SHOTS).roll(v) % 2 for v in range(V)]
    )
    settings = {"alpha": 0.6, "lr": 0.05, "weight_decay": 0.0}
    return Task(
        pool={"image": pictures(labels, 1)},
        rows=rows,
        labels=labels[rows],
        text={"norm-mean": pictures(torch.arange(C), 2)},
        settings={n: torch.full((V,), x, dtype=torch.float64) for n, x in settings.items()},
        logit_scale=20.0,
        n_classes=C,
    )


def held_out(V: int = 3, *, shared: bool = False) -> Task:
    labels = torch.arange(C).repeat_interleave(2 * HELD)
    rows = torch.stack([torch.arange(C * HELD) * 2 + (0 if shared else v % 2) for v in range(V)])
    own = {"pool": {"image": pictures(labels, 3)}, "rows": rows, "labels": labels[rows]}
    return replace(make_task(V), **own, text={}, settings={})  # type: ignore[arg-type]


def method() -> ClipAdapter:
    return ClipAdapter(epochs=EPOCHS, batch_size=6, schedule="constant", stop="search")


def fitted(task: Task, seeds: list[int], held: Task | None) -> Params:
    quiet = (lambda share: None), 10**9, lambda text: None
    ((_, _, params),) = engine.fit(method(), task, seeds, *quiet, held)
    return params


def epochs(task: Task, held: Task, seeds: list[int]) -> tuple[Tensor, list[Params]]:
    """Mean log p of the held-out pictures [epochs, V] and the params after each epoch."""
    every = method().per_epoch(task)
    log_p, kept = [], []
    for step, params in enumerate(steps(method(), task, seeds), start=1):
        if step % every == 0:
            kept.append({name: x.detach().clone() for name, x in params.items()})
            log_p.append(label_log_p(method().logits(kept[-1], held.support()), held.labels))
    return torch.stack(log_p).mean(-1), kept


@pytest.mark.parametrize("shared", [True, False])
def test_each_variant_keeps_its_likeliest_epoch(shared: bool) -> None:
    task, held, seeds = make_task(), held_out(shared=shared), [1, 2, 3]
    log_p, kept = epochs(task, held, seeds)
    best = log_p.argmax(0)
    assert len(set(best.tolist())) > 1  # or this test would see little
    assert best.max() < EPOCHS - 1
    got = fitted(task, seeds, held)
    assert got[STOPPED].tolist() == (best + 1).tolist()
    for v, epoch in enumerate(best.tolist()):
        for name in method().trainable:
            torch.testing.assert_close(got[name][v], kept[epoch][name][v], rtol=0, atol=1e-9)


def test_watched_together_is_watched_alone() -> None:
    together = fitted(make_task(), [1, 2, 3], held_out())
    for v in range(3):
        one = torch.tensor([v])
        alone = fitted(make_task().part(one), [v + 1], held_out().part(one))
        for name, x in alone.items():
            torch.testing.assert_close(together[name][v : v + 1], x, rtol=0, atol=1e-9)


def test_a_run_without_held_out_pictures_goes_on_to_the_last_epoch() -> None:
    _, kept = epochs(make_task(), held_out(), [1, 2, 3])
    for name, x in fitted(make_task(), [1, 2, 3], None).items():
        torch.testing.assert_close(x, kept[-1][name], rtol=0, atol=1e-9)


def test_a_run_of_so_many_epochs_is_the_beginning_of_a_longer_one() -> None:
    _, kept = epochs(make_task(), held_out(), [1, 2, 3])
    quiet = (lambda share: None), 10**9, lambda text: None
    ((_, _, params),) = engine.fit(method(), make_task(), [1, 2, 3], *quiet, epochs=2)
    for name, x in params.items():
        torch.testing.assert_close(x, kept[1][name], rtol=0, atol=1e-9)


def test_an_epoch_that_is_merely_bolder_is_not_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch stays where all that training changes is the scale of the logits."""
    count = 0

    def bolder(self: ClipAdapter, params: Params, query: Query) -> Tensor:
        nonlocal count
        count += 1
        x: Tensor = query["image"]
        return x @ params["weight"].mT * 2.0 ** (count - 5)

    held, task = held_out(), make_task()
    monkeypatch.setattr(ClipAdapter, "logits", bolder)
    from cacheclip.engine.watch import Watch

    watch = Watch(method(), task, held)
    params: Params = {"weight": task.class_text("norm-mean")}
    for k in range(4):
        watch.look(params | {n: torch.full((3, 1), float(k)) for n in method().trainable})
    assert not any(x.any() for x in watch.best.values())
