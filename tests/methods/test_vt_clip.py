"""VT-CLIP against its block written out picture by picture, and what must leave zero-shot."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from cacheclip.methods.base import Params
from cacheclip.methods.catalogue import described
from cacheclip.methods.vt_clip import VtClip
from cacheclip.task import Batch, Generators, Query, Task, unit
from tests.methods.explicit import SEEDS, C, N, normal, problem
from tests.methods.tasks import batch_of

D, M, n = 8, 5, 7  # eight heads of one number each
X, PARTS = unit(normal(n, D, seed=4)), 3 * normal(n, M, D, seed=5)
QUERY = {"image": X, "patches": PARTS}


def made() -> Task:
    """Two variants that read pictures of M parts."""
    task = problem(VtClip, [{}, {}], width=D).task
    text = {"norm-mean": unit(normal(C, D, seed=6))}
    return replace(task, pool={**task.pool, "patches": normal(2 * N, M, D, seed=7)}, text=text)


def started(task: Task, gate: float) -> Params:
    random = Generators(SEEDS, "init", task.device, task.dtype)
    params = VtClip().init(task, random)
    assert not params["gate"].any()
    return params | {"gate": torch.tensor([gate, -gate / 2], dtype=torch.float64)}


def answered(params: Params, task: Task, query: Mapping[str, Tensor]) -> Tensor:
    method = VtClip()
    return method.logits(method.head(params, task), Query(query))


def centred(x: Tensor) -> Tensor:
    x = x - x.mean()
    return x / (x.square().mean() + 1e-5).sqrt()


def written_out(x: Tensor, parts: Tensor, text: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """The logits [C] of one picture: a class, a head and a part at a time."""
    logits = []
    for t in text:
        found = torch.zeros(D, dtype=torch.float64)
        asked = centred(t) @ own["query"]
        for head in range(8):  # each of one number, so that sqrt(D / 8) is 1
            weights = [torch.exp(asked[head] * (centred(s) @ own["key"])[head]) for s in parts]
            values = [(centred(s) @ own["value"])[head] for s in parts]
            total = sum(w * v for w, v in zip(weights, values, strict=True))
            found[head] = total / cast(Tensor, sum(weights))
        guided = t + own["gate"] * (found @ own["out"])
        logits.append(100 * x @ guided / guided.norm())
    return torch.stack(logits)


def test_it_is_the_block_written_out() -> None:
    task = made()
    params = started(task, 0.8)
    logits = answered(params, task, QUERY)
    for v in range(2):
        own = {name: x[v] for name, x in params.items()}
        text = task.text["norm-mean"]
        exact = [written_out(x, s, text, own) for x, s in zip(X, PARTS, strict=True)]
        torch.testing.assert_close(logits[v], torch.stack(exact), rtol=0, atol=1e-10)


def test_behind_a_shut_gate_it_is_zero_shot_and_no_step_opens_it_but_the_loss() -> None:
    task = made()
    zero_shot = (100 * X @ task.text["norm-mean"].T).expand(2, -1, -1)
    params = started(task, 0.0)
    torch.testing.assert_close(answered(params, task, QUERY), zero_shot, rtol=0, atol=1e-11)
    moving = [params[name].requires_grad_() for name in VtClip().trainable]
    loss = VtClip().loss(params, batch_of(task)).sum()
    gradients = dict(zip(VtClip().trainable, torch.autograd.grad(loss, moving), strict=True))
    assert gradients.pop("gate").all()
    assert not any(x.any() for x in gradients.values())


def test_the_order_and_the_lengths_of_the_parts_do_not_matter() -> None:
    task = made()
    params = started(task, 0.8)
    moved = PARTS[:, [3, 0, 4, 1, 2]]
    plain = answered(params, task, QUERY)
    other = answered(params, task, {**QUERY, "patches": moved})
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-11)
    longer = answered(params, task, {**QUERY, "patches": 50 * PARTS})
    torch.testing.assert_close(longer, plain, rtol=0, atol=1e-3)  # but for the norm's epsilon


def test_of_one_part_every_class_sees_the_same_whatever_it_asks() -> None:
    task = made()
    params = started(task, 0.8)
    one = {**QUERY, "patches": PARTS[:, :1]}
    other = params | {name: normal(2, D, D, seed=8) for name in ("query", "key")}
    plain = answered(params, task, one)
    torch.testing.assert_close(answered(other, task, one), plain, rtol=0, atol=1e-11)
    rows = torch.stack([centred(s[0]) for s in PARTS])
    moved = params["gate"][:, None, None] * (rows @ params["value"] @ params["out"])  # [V, n, D]
    guided = unit(task.text["norm-mean"] + moved.unsqueeze(2))  # [V, n, C, D]
    exact = 100 * (guided * X[:, None]).sum(-1)
    torch.testing.assert_close(plain, exact, rtol=0, atol=1e-10)


def test_each_variant_reads_the_parts_of_its_own_pictures() -> None:
    task = made()
    params = started(task, 0.8)
    batch: Batch = batch_of(task)
    together = VtClip().loss(params, batch)
    for v in range(2):
        alone = task.part(slice(v, v + 1))
        loss = VtClip().loss({name: x[v : v + 1] for name, x in params.items()}, batch_of(alone))
        torch.testing.assert_close(loss[0], together[v], rtol=0, atol=1e-12)


def test_what_is_not_verified_is_said() -> None:
    assert VtClip.unverified
    assert f"not verified: {VtClip.unverified}" in described("vt-clip").needs
    assert "not verified" in (VtClip.__doc__ or "")
