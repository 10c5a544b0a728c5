"""Meta-Adapter against an explicit loop, and what its attention must not depend on."""

from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.methods.base import Params
from cacheclip.methods.meta_adapter import MetaAdapter
from cacheclip.methods.zero_shot import ZeroShot
from cacheclip.task import Generators, Task
from tests.methods.tasks import SHOTS, C, D, make_task, normal, query_of, reordered

METHOD = MetaAdapter()


def two() -> Task:
    return make_task(METHOD, [MetaAdapter.fixed(SHOTS, 40.0)] * 2, [0, 1])


def attention(V: int = 2) -> Params:
    """An attention that has learned much: its scores differ by more than one."""
    names = {"query": (V, D, D), "key": (V, D, D), "gate": (V, D), "gate_bias": (V,)}
    made = {name: normal(shape, 80 + k) for k, (name, shape) in enumerate(names.items())}
    return made | {"logit_scale": torch.full((V,), 40.0, dtype=torch.float64)}


def by_hand(params: Params, task: Task, v: int) -> Tensor:
    """Each class alone: its text, its shots, one softmax: [C, D]."""
    shots, rows = task.support()["image"][v], []
    for c, t in enumerate(task.text["norm-mean"]):
        seen = torch.cat([t[None], shots[task.labels[v] == c]])  # [1 + K, D]
        asks = t @ params["query"][v]
        weights = ((seen @ params["key"][v]) @ asks / sqrt(len(t))).softmax(0)
        gate = (params["gate"][v] @ t + params["gate_bias"][v]).sigmoid()
        row = t + gate * (weights @ seen)
        rows.append(row / row.norm())
    return torch.stack(rows)


def weight(params: Params, task: Task) -> Tensor:
    return METHOD.head(params, task)["weight"]


def test_the_refined_text_is_that_of_an_explicit_loop_where_classes_differ_in_shots() -> None:
    whole = two()
    kept = torch.tensor([[0, 1, 2, 5, 8], [9, 3, 4, 5, 8]])  # of one class two, of others none
    for task in (whole, reordered(whole, kept)):
        got = weight(attention(), task)
        for v in range(2):
            torch.testing.assert_close(got[v], by_hand(attention(), task, v), rtol=0, atol=1e-12)


def test_a_shut_gate_is_zero_shot() -> None:
    task, query = two(), query_of(METHOD, 6)
    shut = attention() | {"gate": 0 * attention()["gate"], "gate_bias": normal((2,), 1) - 800}
    zero_shot = ZeroShot()
    plain = zero_shot.logits(zero_shot.solve(make_task(zero_shot, [{}], [0])), query)
    got = METHOD.logits(METHOD.head(shut, task), query)
    torch.testing.assert_close(got, plain.expand(got.shape), rtol=0, atol=1e-12)


def test_shots_of_a_class_have_no_order() -> None:
    task = two()
    index = torch.arange(C * SHOTS).view(C, SHOTS).flip(1).flatten().expand(2, -1)
    moved = weight(attention(), reordered(task, index))
    torch.testing.assert_close(moved, weight(attention(), task), rtol=0, atol=1e-12)


def test_shots_that_are_their_text_leave_it_as_it_is() -> None:
    task = two()
    same = replace(task, pool=task.pool | {"image": task.text["norm-mean"]}, rows=task.labels)
    text = task.class_text("norm-mean")
    torch.testing.assert_close(weight(attention(), same), text, rtol=0, atol=1e-12)


def test_one_attention_serves_any_number_of_classes_and_shots() -> None:
    """What a class becomes depends on its own text and shots, and on no other class."""
    task, params = two(), attention()
    every = weight(params, task)
    for classes in ([3], [4, 0], [2, 1, 3, 0]):
        own = [(task.labels == c).nonzero()[:, 1].view(2, SHOTS) for c in classes]
        some = reordered(task, torch.cat(own, 1))
        labels = torch.arange(len(classes)).repeat_interleave(SHOTS).expand(2, -1)
        text = {"norm-mean": task.text["norm-mean"][classes]}
        some = replace(some, labels=labels, text=text, n_classes=len(classes))
        torch.testing.assert_close(weight(params, some), every[:, classes], rtol=0, atol=1e-12)


def test_scores_of_any_size_stay_finite() -> None:
    params = attention() | {"key": 1e4 * attention()["key"]}
    assert weight(params, two()).isfinite().all()


def test_a_head_can_be_made_of_what_a_head_keeps() -> None:
    task, params = two(), attention()
    served = METHOD.head(params, task)
    assert torch.equal(weight(served, task), served["weight"])


def test_it_starts_at_a_gate_of_073_and_shots_that_count_alike() -> None:
    task = two()
    params = METHOD.init(task, Generators([1, 2], "init", task.device, task.dtype))
    text = task.class_text("norm-mean")
    gate = ((text * params["gate"][:, None]).sum(-1) + params["gate_bias"][:, None]).sigmoid()
    assert float(gate.mean()) == pytest.approx(0.73, abs=0.1)
    assert params["query"].abs().max() <= sqrt(3 / D)


def test_steps_make_the_support_likelier() -> None:
    method, task = MetaAdapter(epochs=40, batch_size=4), two()
    task = replace(task, settings=task.settings | {"lr": torch.full((2,), 1e-2).double()})
    ((_, _, params),) = engine.fit(method, task, [1, 2], lambda share: None, 10**9)
    first = method.init(task, Generators([1, 2], "init", task.device, task.dtype))
    every = torch.arange(C * SHOTS).expand(2, -1)
    batch = task.at(every, {}, Generators([1, 2], "noise", task.device, task.dtype))
    assert (method.loss(params, batch) < method.loss(first, batch)).all()
