"""Cross-modal adaptation against its recipe written out, and what its formula implies."""

from dataclasses import replace
from itertools import pairwise
from math import cos, pi

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.methods.base import Settings
from cacheclip.methods.cross_modal import STEPS, CrossModal
from cacheclip.task import Generators, Query, unit
from tests.methods.explicit import SEEDS, C, D, N, Problem, normal, problem
from tests.methods.tasks import batch_of, randoms

EPOCHS = 2
OWN: Settings = {"epochs": EPOCHS, "batch_size": 6}
X = unit(normal(9, D, seed=4))


def made(*settings: Settings, views: int = 1) -> Problem:
    return problem(CrossModal, settings, views=views)


def start(text: Tensor, seed: int, *, adapts: bool) -> list[Tensor]:
    if not adapts:
        return [text.clone()]
    random = Generators([seed], "init", torch.device("cpu"), torch.float64)
    H = max(1, D // 4)
    down, up = random.uniform(D**-0.5, (H, D))[0], random.uniform(H**-0.5, (H, D))[0]
    return [text.clone(), down, up]


def scores(x: Tensor, parts: list[Tensor]) -> Tensor:
    if len(parts) == 3:
        _, down, up = parts
        x = functional.normalize(0.2 * ((x @ down.T).relu() @ up).relu() + 0.8 * x, dim=-1)
    return 100 * x @ parts[0].T


def rates(lr: float) -> list[float]:
    """Up in a line for fifty steps, then half a cosine."""
    total = EPOCHS * STEPS
    up = [lr * t / 50 for t in range(1, 50)]
    down = [lr * (1 + cos(pi * t / total)) / 2 for t in range(total - 50)]
    return [1e-5, *up, *down]


@pytest.mark.parametrize("head", ["linear", "adapter"])
def test_it_is_the_recipe_written_out(head: str) -> None:
    own = {**OWN, "head": head, "lr": 1e-3}
    both = made(own, {**own, "lr": 5e-3, "wise": 0.3})
    logits, prompts = both.logits({"image": X}), both.task.text["per-prompt"]
    text = unit(prompts.mean(1))
    samples = unit(prompts.flatten(0, 1))
    classes = torch.arange(C).repeat_interleave(prompts.shape[1])
    for v in range(2):
        x, labels = both.variant(v)
        parts = [p.requires_grad_() for p in start(text, SEEDS[v], adapts=head == "adapter")]
        adam = torch.optim.AdamW(parts, lr=1.0, weight_decay=1e-2)
        random = Generators([SEEDS[v]], "order", torch.device("cpu"), torch.float64)
        of_pictures, of_prompts = random.batches(N, 3), random.batches(len(samples), 3)
        for rate in rates(both.setting("lr", v)):
            adam.param_groups[0]["lr"] = rate
            some, others = next(of_pictures)[0], next(of_prompts)[0]
            adam.zero_grad()
            guess = scores(torch.cat([x[some], samples[others]]), parts)
            truth = torch.cat([labels[some], classes[others]])
            torch.autograd.backward(functional.cross_entropy(guess, truth))
            adam.step()
        assert (parts[0].detach() - text).abs().max() > 0.01
        wise = both.setting("wise", v)
        learned = scores(X, [p.detach() for p in parts])
        exact = (1 - wise) * learned + wise * 100 * X @ text.T
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("head", ["linear", "adapter"])
def test_all_wise_is_zero_shot(head: str) -> None:
    own = {**OWN, "epochs": 1, "head": head, "wise": 1.0}
    both = made(own, own)
    expected = 100 * X @ unit(both.task.text["per-prompt"].mean(1)).T
    torch.testing.assert_close(both.logits({"image": X})[0], expected, rtol=0, atol=1e-10)


def test_half_a_batch_is_of_either_kind_and_all_are_seen() -> None:
    both = made(OWN, OWN)
    task = CrossModal(**OWN).data(both.task)
    order = CrossModal(**OWN).order(task, Generators(SEEDS, "order", task.device, torch.float64))
    seen = torch.stack([next(order) for _ in range(N // 3)])  # [steps, V, 6]
    assert sorted(seen[:, 0, :3].flatten().tolist()) == list(range(N))
    assert sorted(seen[:, 0, 3:].flatten().tolist()) == list(range(N, 2 * N))  # 3 prompts a class
    first, second = seen[:, 0, 3:].flatten(), seen[:, 1, 3:].flatten()
    assert first.tolist() != second.tolist()


def test_a_prompt_said_twice_counts_twice_in_the_sum() -> None:
    both = made(OWN, OWN)
    task, method = both.task, CrossModal(**OWN)
    prompts = task.text["per-prompt"]
    twice = replace(task, text={**task.text, "per-prompt": torch.cat([prompts, prompts[:, :1]], 1)})
    sums = []
    for own in (task, twice):
        held = method.data(own)
        every = batch_of(held)
        sums.append(method.loss(method.init(task, randoms(task)), every) * every.labels.shape[1])
    text = unit(task.text["per-prompt"].mean(1))
    again = functional.cross_entropy(100 * unit(prompts[:, 0]) @ text.T, torch.arange(C))
    torch.testing.assert_close(sums[1] - sums[0], (again * C).expand(2), rtol=0, atol=1e-8)


def test_rows_of_zeros_are_no_prompts() -> None:
    both = made(OWN, OWN)
    prompts = both.task.text["per-prompt"].clone()
    prompts[1, 2] = 0
    task = replace(both.task, text={**both.task.text, "per-prompt": prompts})
    held = CrossModal(**OWN).data(task)
    assert held.labels.shape[1] == N + 3 * C - 1
    assert held.pool["image"].norm(dim=-1).min() > 0.999


def test_prompts_are_no_other_in_another_view() -> None:
    task = made(OWN, OWN, views=2).task
    held = CrossModal(**OWN).data(task)
    every = torch.arange(held.rows.shape[1]).repeat(2, 1)
    plain, other = (held.at(every, {}, randoms(held), epoch=k).query["image"] for k in (0, 1))
    assert torch.equal(plain[:, N:], other[:, N:])
    assert not torch.equal(plain[:, :N], other[:, :N])
    assert torch.equal(plain[0, N:], unit(task.text["per-prompt"].flatten(0, 1)))


def test_the_search_runs_from_zero_shot_to_what_was_learned() -> None:
    both = made({**OWN, "wise": "search"}, {**OWN, "wise": "search"})
    labels = torch.arange(9) % C
    method = CrossModal(wise="search")
    found = method.search(method.init(both.task, randoms(both.task)), Query({"image": X}), labels)
    assert found is not None
    tried = found.settings["wise"][0].tolist()
    assert (tried[0], tried[-1]) == (1.0, 0.0)
    assert all(a > b for a, b in pairwise(tried))


def test_constants_are_of_the_released_sweep() -> None:
    assert CrossModal.fixed(16, 100.0) == {
        "head": "linear", "wise": 0.0, "lr": 1e-4, "epochs": 128, "batch_size": 8,
        "optimizer": "adamw", "weight_decay": 1e-2, "schedule": "warm-cosine",
    }  # fmt: skip


def test_the_norm_of_the_text_does_not_count() -> None:
    """Only directions are read, so that constants are the same for unit text."""
    assert CrossModal.fixed(4, 20.0, text_norm=1.0) == CrossModal.fixed(4, 20.0)
