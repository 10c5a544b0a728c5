"""What a method says of its own loop: what steps read, in which order, and how params step."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.engine.trainer import steps, train
from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.methods.base import Move, Params, Reads, Setting, Trained, steps as step_settings
from cacheclip.task import Batch, Generators, Query, Task, class_text, unit
from tests.methods.tasks import randoms

C, D, SHOTS, W = 3, 6, 4, 2


class TextProbe(Trained):
    """A probe that starts at the class text: its start is memory of the task."""

    paper = "a toy of this test"
    reads = Reads(text=("norm-mean",))
    table: ClassVar[dict[str, Setting]] = step_settings(
        lr=0.5, epochs=4, batch_size=3, optimizer="sgd", schedule="constant"
    )
    fused = False

    @property
    def trainable(self) -> tuple[str, ...]:
        return ("weight", "shift")

    def init(self, task: Task, random: Generators) -> Params:
        text = task.class_text("norm-mean")
        scale = text.new_full((len(text),), task.logit_scale)
        return {"weight": text, "shift": text[..., 0], "logit_scale": scale}

    def logits(self, params: Params, query: Query) -> Tensor:
        plain = cosine_logits(query, params["weight"], params["logit_scale"])
        return plain + params["shift"][:, None]

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return mean_cross_entropy(self.logits(params, batch.query), batch.labels)


def make_task(V: int, views: int = 1) -> Task:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(C * SHOTS * views, D, generator=g, dtype=torch.float64)
    rows = torch.stack([torch.arange(C * SHOTS).roll(v) for v in range(V)])
    return Task(
        pool={"image": unit(x)},
        rows=rows,
        labels=rows // SHOTS,
        text=class_text(torch.randn(C, 2, D, generator=g, dtype=torch.float64), ("norm-mean",)),
        settings={
            "lr": 0.1 + torch.arange(V, dtype=torch.float64) / 10,
            "weight_decay": torch.full((V,), 0.01, dtype=torch.float64),
        },
        logit_scale=5.0,
        n_classes=C,
        views=views,
        encoder={"projection": torch.eye(D)},
    )


def tensors(task: Task) -> list[Tensor]:
    parts = (task.pool, task.text, task.settings, task.encoder)
    return [task.rows, task.labels, *(x for part in parts for x in part.values())]


def fitted(method: Trained, task: Task) -> Params:
    seeds = list(range(task.variants))
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, 10**9)
    return params


@pytest.mark.parametrize("V", [1, 3])
def test_a_fit_leaves_every_tensor_of_its_task_as_it_was(V: int) -> None:
    task = make_task(V)
    before = [x.clone() for x in tensors(task)]
    moved = fitted(TextProbe(), task)["weight"]
    assert (moved - task.class_text("norm-mean")).abs().max() > 0.01
    for was, now in zip(before, tensors(task), strict=True):
        assert torch.equal(was, now)


def test_steps_read_a_fresh_view_each_epoch_and_know_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, set[int], float]] = []
    real = TextProbe.loss

    def noted(self: TextProbe, params: Params, batch: Batch) -> Tensor:
        drawn = batch.random.normal(1.0, (1,))
        seen.append((batch.step, set((batch.rows % W).flatten().tolist()), float(drawn[0])))
        return real(self, params, batch)

    monkeypatch.setattr(TextProbe, "loss", noted)
    train(TextProbe(), make_task(2, views=W), [0, 1], lambda share: None)
    assert [step for step, _, _ in seen] == list(range(16))
    assert [views for _, views, _ in seen] == ([{0}] * 4 + [{1}] * 4) * 2
    assert len({noise for _, _, noise in seen}) == 16
    first = list(seen)
    seen.clear()
    train(TextProbe(), make_task(1, views=W), [0], lambda share: None)
    assert [noise for _, _, noise in seen] == [noise for _, _, noise in first]  # of the seed alone


class Moved(TextProbe):
    """The shift steps at every third step with the sum of all gradients so far; weights do not."""

    def moves(self, task: Task) -> dict[str, Move]:
        factor = torch.linspace(0.5, 1.5, task.variants, dtype=task.dtype)
        return {"shift": Move(lr=factor, momentum=1.0, every=3)}


def test_params_step_as_their_moves_say() -> None:
    method, task = Moved(epochs=5, batch_size=5), make_task(3)
    got = fitted(method, task)
    lr, decay = task.settings["lr"], task.settings["weight_decay"]
    start = method.init(task, Generators([0, 1, 2], "init", task.device, task.dtype))
    weight, shift = start["weight"].clone(), start["shift"].clone()
    m, total = torch.zeros_like(weight), torch.zeros_like(shift)
    order = method.order(task, Generators([0, 1, 2], "order", task.device, task.dtype))
    for k in range(1, 16):
        params = start | {"weight": weight.requires_grad_(), "shift": shift.requires_grad_()}
        loss = method.loss(params, task.at(next(order), {}, randoms(task)))
        dw, ds = torch.autograd.grad(loss.sum(), [weight, shift])
        weight, shift = weight.detach(), shift.detach()
        m = 0.9 * m + dw + decay[:, None, None] * weight
        weight = weight - lr[:, None, None] * m
        total = total + ds + decay[:, None] * shift
        if k % 3 == 0:
            shift = shift - (lr * torch.linspace(0.5, 1.5, 3, dtype=task.dtype))[:, None] * total
    torch.testing.assert_close(got["weight"], weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(got["shift"], shift, rtol=0, atol=1e-12)


class WithText(TextProbe):
    """Half of each batch are pictures, half the class text as pictures of its classes."""

    def data(self, task: Task) -> Task:
        C, N = task.n_classes, len(task.pool["image"])
        extra = torch.arange(N, N + C).expand(task.variants, -1)
        return replace(
            task,
            pool={"image": torch.cat([task.pool["image"], task.text["norm-mean"]])},
            rows=torch.cat([task.rows, extra], 1),
            labels=torch.cat([task.labels, extra - N], 1),
        )

    def per_epoch(self, task: Task) -> int:
        return 2

    def order(self, task: Task, random: Generators) -> Iterator[Tensor]:
        pictures = task.rows.shape[1] - task.n_classes
        images, texts = random.batches(pictures, 2), random.batches(task.n_classes, 2)
        while True:
            yield torch.cat([next(images), next(texts) + pictures], 1)


def test_a_method_may_add_rows_and_choose_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    task, method = make_task(3), WithText()
    seen: list[Batch] = []
    real = TextProbe.loss

    def noted(self: TextProbe, params: Params, batch: Batch) -> Tensor:
        seen.append(batch)
        return real(self, params, batch)

    monkeypatch.setattr(WithText, "loss", noted)
    last = list(steps(method, method.data(task), [1, 2, 3]))
    assert len(last) == len(seen) == 8
    for batch in seen:
        assert batch.labels.shape == (3, 4)
        assert torch.equal(batch.query["image"][:, 2:], task.text["norm-mean"][batch.labels[:, 2:]])
        assert (batch.rows[:, :2] < C * SHOTS).all()
