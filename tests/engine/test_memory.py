"""What runs at once is planned by what one variant was seen to hold."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cacheclip.engine import memory, stack as engine
from cacheclip.engine.trainer import steps
from cacheclip.heads.cosine import cosine_logits
from cacheclip.kernels.launch import Workspace
from cacheclip.methods import base
from cacheclip.methods.base import ClosedForm, Method, Online, Params, Trained
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Query, Task, unit

C, D, SHOTS = 40, 64, 4
LIMIT = 10**8


def make_task(V: int = 1) -> Task:
    g = torch.Generator().manual_seed(0)
    rows = torch.arange(C * SHOTS).expand(V, -1)
    return Task(
        pool={"image": unit(torch.randn(C * SHOTS, D, generator=g))},
        rows=rows,
        labels=rows // SHOTS,
        text={"norm-mean": unit(torch.randn(C, D, generator=g))},
        settings={
            "alpha": torch.full((V,), 0.5),
            "beta": torch.full((V,), 5.5),
            "lr": torch.full((V,), 0.01),
            "weight_decay": torch.zeros(V),
        },
        logit_scale=30.0,
        n_classes=C,
    )


def fitted(method: Method, task: Task) -> Params:
    seeds = list(range(task.variants))
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, LIMIT)
    return params


def held_by(run: Callable[[], object]) -> int:
    peak = memory.Peak()
    with peak:
        kept = run()
        del kept
    return peak.bytes


def test_a_peak_counts_what_is_held_at_once() -> None:
    given = torch.ones(1000)

    def run() -> Tensor:
        a = given * 2  # 4000 bytes
        b = a + 1  # 8000
        del a
        c = b.view(10, 100).mT  # the same memory
        return c + torch.zeros(1, dtype=torch.float64)  # 4000 + 8 + 8000

    assert held_by(run) == 12008
    assert held_by(lambda: given.mul_(0.5)) == 0


def test_a_peak_counts_what_autograd_keeps() -> None:
    w = torch.ones(1000, requires_grad=True)

    def run() -> Any:
        return torch.autograd.grad((w * 3).exp().log().sum(), w)

    assert 12_000 <= held_by(run) <= 24_100


@pytest.mark.parametrize("branch", ["image", "text", "both"])
def test_a_plan_of_steps_is_near_what_they_take(
    branch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the steps hold: params, moments, gradients and the workspaces."""
    held: list[Workspace] = []
    real = Workspace.__init__

    def noted(work: Workspace) -> None:
        real(work)
        held.append(work)

    monkeypatch.setattr(Workspace, "__init__", noted)
    method, task = ClipAdapter(epochs=2, branch=branch, batch_size=8), make_task()
    params = fitted(method, task)
    took = 3 * memory.size({name: params[name] for name in method.trainable})
    took += sum(memory.size(work._tensors) for work in held)
    planned = LIMIT // memory.variants_at_once(method, task, LIMIT) / memory.UNSEEN
    assert 0.5 * took < planned < 2 * took


@pytest.mark.parametrize("name", ["clip-adapter", "tip-adapter-f", "tip-adapter"])
def test_more_variants_hold_what_the_plan_of_one_says(name: str) -> None:
    method, four = base.get(name)(), make_task(4)
    one = memory._of_a_variant(method, make_task())
    if isinstance(method, Trained):
        together = held_by(lambda: next(steps(method, four, [1, 2, 3, 4])))
    elif isinstance(method, ClosedForm):
        together = held_by(lambda: method.solve(four))
    assert 3.5 * one < together < 4.5 * one


def test_what_is_planned_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    tip = base.get("tip-adapter")
    real = tip.solve  # type: ignore[attr-defined]

    def noted(self: ClosedForm, task: Task) -> Params:
        runs.append(task.variants)
        solved: Params = real(self, task)
        return solved

    monkeypatch.setattr(tip, "solve", noted)
    monkeypatch.setattr(memory, "_bytes", {})
    plans = {memory.variants_at_once(tip(), make_task(V), LIMIT) for V in (1, 3, 2)}
    assert len(plans) == len(runs) == 1
    more = replace(make_task(), rows=make_task().rows[:, :9], labels=make_task().labels[:, :9])
    assert memory.variants_at_once(tip(), more, LIMIT) > plans.pop()
    assert len(runs) == 2


class Endless(ClosedForm):
    """It iterates until something that never happens."""

    paper = "a toy of this test"

    def solve(self, task: Task) -> Params:
        x = task.support()["image"]
        while bool(x.isfinite().all()):
            x = x @ torch.eye(D)
        return {"weight": x}

    def logits(self, params: Params, query: Query) -> Tensor:
        return query["image"] @ params["weight"].mT


def test_a_solution_that_iterates_is_not_waited_for() -> None:
    one = 4 * D * (C * SHOTS + D)
    assert LIMIT // memory.variants_at_once(Endless(), make_task(), LIMIT) >= one


class Pairs(ClosedForm):
    """Each picture is compared with all others: memory grows with the square of the query."""

    paper = "a toy of this test"
    setting = "transductive"

    def solve(self, task: Task) -> Params:
        text = task.class_text("norm-mean")
        return {"weight": text + task.settings["alpha"][:, None, None]}

    def logits(self, params: Params, query: Query) -> Tensor:
        x = query["image"]
        pairs = torch.exp(x @ x.mT).expand(len(params["weight"]), -1, -1).clone()
        return pairs @ (x @ params["weight"].mT)


def test_variants_that_answer_for_a_whole_query_are_cut_by_what_one_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, V = 100, 5
    query = Query({"image": unit(torch.randn(n, D, generator=torch.Generator().manual_seed(3)))})
    params = Pairs().solve(make_task(V))
    params["weight"] = params["weight"] + torch.arange(V)[:, None, None]
    whole = Pairs().logits(params, query)
    sizes = []
    real = Pairs.logits

    def noted(self: Pairs, params: Params, query: Query) -> Tensor:
        sizes.append(len(params["weight"]))
        return real(self, params, query)

    monkeypatch.setattr(Pairs, "logits", noted)
    ((first, last, cut),) = engine.logits_in_parts(Pairs(), params, query, 500_000)
    assert (first, last) == (0, n)
    assert sizes[0] == 1  # for the record
    assert max(sizes) < V
    torch.testing.assert_close(cut, whole)


def test_pictures_that_do_not_fit_together_are_answered_part_by_part() -> None:
    task = make_task(3)
    tip = base.get("tip-adapter")()
    params = fitted(tip, task)
    query = Query({"image": task.pool["image"]})
    whole = torch.cat([x for _, _, x in engine.logits_in_parts(tip, params, query, LIMIT)], 1)
    parts = list(engine.logits_in_parts(tip, params, query, 200_000))
    assert len(parts) > 1
    held = held_by(lambda: tip.logits(params, query.part(0, parts[0][1])))
    assert 20_000 < held < 200_000
    torch.testing.assert_close(torch.cat([x for _, _, x in parts], 1), whole)


class Counter(Online, ClosedForm):
    """Logits by the mean of the pictures so far; an empty place of its state is infinite."""

    paper = "a toy of this test"

    def solve(self, task: Task) -> Params:
        text = task.class_text("norm-mean")
        V = len(text)
        return {
            "weight": text,
            "sum": text.new_zeros(V, D),
            "seen": text.new_zeros(V),
            "farthest": text.new_full((V,), torch.inf),
        }

    def see(self, state: Params, query: Query) -> Tensor:
        state["sum"] += query["image"].squeeze(-2)
        state["seen"] += 1
        mean = Query({"image": (state["sum"] / state["seen"][:, None])[:, None]})
        return cosine_logits(mean, state["weight"], state["seen"])

    def logits(self, params: Params, query: Query) -> Tensor:
        return Online.logits(self, params, query)


@pytest.mark.parametrize("limit", [LIMIT, 1])
def test_a_stream_comes_in_the_order_of_its_seed_and_answers_are_put_back(limit: int) -> None:
    method, seeds = Counter(), [5, 6, 5]
    params = method.solve(make_task(3))
    x = unit(torch.randn(9, D, generator=torch.Generator().manual_seed(3)))
    query = Query({"image": x})
    ((_, _, got),) = engine.logits_in_parts(method, params, query, limit, seeds)
    assert torch.equal(got[0], got[2])
    assert not torch.allclose(got[0], got[1])
    for v, seed in enumerate(seeds):
        state = {name: p[v : v + 1].clone() for name, p in params.items()}
        order = Generators([seed], "stream", x.device, x.dtype).permutations(9)[0].tolist()
        for place in order:
            one = method.see(state, Query({"image": x[None, place : place + 1]}))
            torch.testing.assert_close(got[v, place], one[0, 0])
    assert params["seen"].tolist() == [0, 0, 0]
    ((_, _, plain),) = engine.logits_in_parts(method, params, query, LIMIT)
    torch.testing.assert_close(plain, method.logits(params, query))


def test_an_empty_place_of_a_stream_is_no_failed_fit() -> None:
    params = Counter().solve(make_task(2))
    assert engine.finite(Counter(), params).tolist() == [True, True]
    params["seen"][1] = torch.nan
    assert engine.finite(Counter(), params).tolist() == [True, False]
    assert engine.finite(Pairs(), {"weight": params["farthest"]}).tolist() == [False, False]


def test_the_shift_of_a_prior_is_served_by_a_head_that_knows_nothing_of_it() -> None:
    class Bare(Endless):
        paper = "a toy of this test"

        def head(self, params: Params, task: Task) -> Params:
            return {"weight": params["weight"]}

    params = {"weight": torch.ones(1, C, D), "bias": torch.ones(1, C), "anchor": torch.ones(1, C)}
    assert set(engine.head(Bare(), params, make_task())) == {"weight"}
    assert set(engine.head(Bare(prior="uniform"), params, make_task())) == {"weight", "bias"}
