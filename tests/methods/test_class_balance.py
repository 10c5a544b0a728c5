"""Supports of unequal classes: every method takes them; weights and prior are what they say."""

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.heads.class_balance import balanced_weights, log_shares
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods import base
from cacheclip.methods.base import Method, Params, Trained, Value
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Query, Task, unit
from tests.methods.tasks import batch_of, frozen, pictures, text_of

COUNTS, D = (5, 1, 3), 7
C, N = len(COUNTS), sum(COUNTS)

METHODS = [base.get(name) for name in base.names()]
DRAWING = [method for method in METHODS if method.learns == "support"]
WEIGHING = [method for method in METHODS if "class_weight" in method.table]


def unit_rows(n: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return unit(torch.randn(n, D, generator=g, dtype=torch.float64))


def layers(n: int, seed: int) -> dict[str, Tensor]:
    return pictures(n, seed) | {"image": unit_rows(n, seed)}


def task_of(method: type[Method], variants: int = 1, order: list[int] | None = None) -> Task:
    """Five, one and three pictures of the classes; the same support for every variant."""
    labels = torch.arange(C).repeat_interleave(torch.tensor(COUNTS))
    rows = torch.tensor(order if order is not None else list(range(N)))
    settings, reads = method.fixed(3, 40.0), method().reads
    return Task(
        pool={name: layers(N, 1)[name] for name in reads.support},
        rows=rows.expand(variants, -1),
        labels=labels[rows].expand(variants, -1),
        text=text_of(reads.text, range(C), torch.float64),
        settings=method.numbers_of([settings] * variants, dtype=torch.float64),
        logit_scale=40.0,
        n_classes=C,
        encoder={name: frozen()[name] for name in reads.encoder},
    )


def fitted(method: Method, task: Task) -> Params:
    seeds = [1] * task.variants
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, 10**9)
    return method.head(params, task)


def built(method: type[Method], **words: Value) -> Method:
    return method(**words, **({"epochs": 3} if issubclass(method, Trained) else {}))


@pytest.mark.parametrize("method", DRAWING, ids=lambda m: m.name)
def test_unequal_classes_give_finite_logits_together_as_alone(method: type[Method]) -> None:
    query = Query(layers(6, 3), frozen())
    made = built(method)
    two = made.logits(fitted(made, task_of(method, 2)), query)
    one = made.logits(fitted(made, task_of(method)), query)
    assert two.shape == (2, 6, C)
    assert two.isfinite().all()
    torch.testing.assert_close(two[1:], one, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "method", [m for m in DRAWING if not issubclass(m, Trained)], ids=lambda m: m.name
)
def test_a_closed_form_does_not_see_the_order_of_unequal_classes(method: type[Method]) -> None:
    """As papers have them: what was released may pair rows by their places."""
    query, made = Query(layers(6, 3), frozen()), built(method, **method.recipes.get("as-paper", {}))
    mixed = task_of(method, order=[8, 0, 5, 1, 7, 2, 3, 6, 4])
    plain = made.logits(fitted(made, task_of(method)), query)
    torch.testing.assert_close(made.logits(fitted(made, mixed), query), plain, rtol=0, atol=1e-6)


def test_nearest_mean_weighs_every_class_the_same() -> None:
    method = base.get("nearest-mean")
    task = task_of(method)
    weight = fitted(method(), task)["weight"][0]
    x = task.pool["image"]
    means = torch.stack([x[:5].mean(0), x[5], x[6:].mean(0)])
    torch.testing.assert_close(weight, unit(means))


def test_weights_and_shares_are_what_they_say() -> None:
    labels = task_of(METHODS[0]).labels
    weights = balanced_weights(labels, C)
    torch.testing.assert_close(
        weights[0],
        torch.tensor([9 / (3 * n) for n in COUNTS for _ in range(n)], dtype=torch.float64),
    )
    shares = torch.tensor([n / 9 for n in COUNTS], dtype=torch.float64)
    torch.testing.assert_close(log_shares(labels, None, C)[0].exp(), shares)
    equal = log_shares(labels, weights, C)
    torch.testing.assert_close(equal.exp(), torch.full_like(equal, 1 / 3))


def test_the_methods_that_learn_a_prior_are_those_that_take_it_out() -> None:
    assert {m.name for m in WEIGHING} == {"linear-probe", "tip-adapter-f", "clip-adapter"}


@pytest.mark.parametrize("method", WEIGHING, ids=lambda m: m.name)
def test_a_first_word_stands_in_no_settings(method: type[Method]) -> None:
    plain = method.fixed(4, 100.0)
    unsaid = {name: own for name, own in method.table.items() if own.unsaid}
    assert plain.keys() == method.table.keys() - unsaid.keys()
    first = {name: own.default for name, own in unsaid.items()}
    assert method.fixed(4, 100.0, None, first) == plain
    asked = method.fixed(4, 100.0, None, {"class_weight": "balanced"})
    assert asked == plain | {"class_weight": "balanced"}


@pytest.mark.parametrize("method", WEIGHING, ids=lambda m: m.name)
def test_a_uniform_prior_takes_the_log_shares_off_the_logits(method: type[Method]) -> None:
    task, query = task_of(method, 2), Query(layers(6, 3))
    plain, corrected = built(method), built(method, prior="uniform")
    before = plain.logits(fitted(plain, task), query)
    after = corrected.logits(fitted(corrected, task), query)
    shares = torch.tensor([n / N for n in COUNTS], dtype=torch.float64)
    torch.testing.assert_close(after, before - shares.log(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", WEIGHING, ids=lambda m: m.name)
def test_balanced_weights_move_the_answers_and_leave_no_prior_to_take_off(
    method: type[Method],
) -> None:
    task, query = task_of(method), Query(layers(6, 3))
    plain, weighted = built(method), built(method, class_weight="balanced")
    both = built(method, class_weight="balanced", prior="uniform")
    before, after, corrected = (
        m.logits(fitted(m, task), query).softmax(-1) for m in (plain, weighted, both)
    )
    assert not torch.allclose(before, after)
    torch.testing.assert_close(corrected, after, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "trained",
    [base.get("tip-adapter-f")(), *(ClipAdapter(branch=b) for b in ("image", "text", "both"))],
    ids=["tip-adapter-f", "image", "text", "both"],
)
def test_gradients_by_hand_are_those_of_the_weighted_loss(trained: Trained) -> None:
    task = task_of(type(trained), 2)
    task = replace(task, weights=balanced_weights(task.labels, C))
    params = trained.init(task, Generators([1, 2], "init", task.device, task.dtype))
    some = torch.tensor([[0, 5, 7], [8, 1, 5]])
    batch = batch_of(task, some, defaultdict(Workspace))
    by_hand = trained.grads(params, batch)
    if trained.settings.get("branch") in ("text", "both"):
        assert by_hand is None  # autograd takes over
        return
    assert by_hand is not None
    moving = [params[name].requires_grad_() for name in trained.trainable]
    loss = trained.loss(params, batch)
    each = trained.loss(params, replace(batch, weights=None))
    assert not torch.allclose(loss, each)
    for name, exact in zip(trained.trainable, torch.autograd.grad(loss.sum(), moving), strict=True):
        given = by_hand[name]
        formed = given.formed(params[name]) if isinstance(given, Outer) else given
        torch.testing.assert_close(formed, exact, rtol=0, atol=1e-12)
