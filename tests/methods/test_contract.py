"""One contract for every method: what ships, and toys that stand for what may come."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.engine import stack as engine
from cacheclip.heads.temperature import label_log_p
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods import base
from cacheclip.methods.base import (
    SEARCH,
    Method,
    Online,
    Params,
    Reads,
    Trained,
)
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.methods.cross_modal import CrossModal
from cacheclip.methods.sgva import Sgva
from cacheclip.metrics import hits
from cacheclip.task import Batch, Generators, Query, Task
from tests.methods.tasks import (
    LOGIT_SCALE,
    SHOTS,
    WIDTH,
    C,
    D,
    E,
    candidates,
    frozen,
    make_task,
    normal,
    pictures,
    query_of,
)
from tests.methods.toys import TOYS, MeanOfViews

METHODS: list[type[Method]] = [*map(base.get, base.names()), *TOYS]
ORDER = [3, 0, 4, 1, 2]  # of the classes
# An answer for some classes is no part of that for more: all that are asked about are read.
BY_ALL_CLASSES = {"incpl-like", "vtp-ovd-like"}


def named(methods: Sequence[type[Method]]) -> pytest.MarkDecorator:
    """One test for each of the methods, built with its constants."""
    ids = [m.__name__ if m in TOYS else m.name for m in methods]
    return pytest.mark.parametrize("method", [m() for m in methods], ids=ids)


every = named(METHODS)


def learned(method: Method, task: Task, seeds: Sequence[int]) -> Params:
    """What a fit gives, after few steps where there are any."""
    if isinstance(method, Trained):
        method = type(method)(**method.settings | {"epochs": 4})
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, 10**9)
    return params


def fitted(method: Method, task: Task, seeds: Sequence[int]) -> Params:
    """What `logits` reads."""
    return method.head(learned(method, task, seeds), task)


@cache
def _once(kind: type[Method]) -> Params:
    return fitted(kind(), three(kind()), [1, 2, 3])


def thrice(method: Method) -> Params:
    """What `logits` reads of three variants with the constants, fitted once for all who read it."""
    return {name: x.clone() for name, x in _once(type(method)).items()}


def answered(method: Method, params: Params, query: Query) -> Tensor:
    return torch.cat([x for _, _, x in engine.logits_in_parts(method, params, query, 10**9)], 1)


def run(method: Method, task: Task, seeds: Sequence[int], query: Query) -> Tensor:
    return answered(method, fitted(method, task, seeds), query)


def three(method: Method, dtype: torch.dtype = torch.float64) -> Task:
    return make_task(method, candidates(method), [0, 1, 2], dtype)


@every
def test_the_constructor_only_stores(method: Method) -> None:
    said = {name: own for name, own in method.table.items() if not own.unsaid}
    assert method.settings == {name: own.default for name, own in said.items() if own.static}
    assert vars(method) == {"settings": method.settings}


@every
def test_a_fit_leaves_method_and_task_as_they_were(method: Method) -> None:
    """With one variant what belongs to all of them is dense, and steps could move it in place."""
    for settings in (candidates(method)[:1], candidates(method)):
        task = make_task(method, settings, range(len(settings)))
        fresh = make_task(method, settings, range(len(settings)))
        before = dict(vars(method), settings=dict(method.settings))
        fitted(method, task, range(1, len(settings) + 1))
        assert vars(method) == before
        assert torch.equal(task.rows, fresh.rows)
        assert torch.equal(task.labels, fresh.labels)
        for part in ("pool", "text", "settings"):
            for name, x in getattr(fresh, part).items():
                assert torch.equal(getattr(task, part)[name], x), (part, name)


@every
def test_params_have_a_leading_variant_axis_and_logits_are_finite(method: Method) -> None:
    task = three(method)
    assert all(len(x) == 3 for x in learned(method, task, [1, 2, 3]).values())
    params = thrice(method)
    assert all(len(x) == 3 for x in params.values())
    logits = method.logits(params, query_of(method, 6))
    assert logits.shape == (3, 6, C)
    assert logits.isfinite().all()


@every
def test_same_seed_same_bits(method: Method) -> None:
    query = query_of(method, 6)
    again = run(method, three(method), [1, 2, 3], query)
    assert torch.equal(answered(method, thrice(method), query), again)


@every
def test_variants_together_equal_one_by_one(method: Method) -> None:
    settings, query = candidates(method), query_of(method, 6)
    together = answered(method, thrice(method), query)
    for v in range(3):
        alone = run(method, make_task(method, [settings[v]], [v]), [v + 1], query)
        torch.testing.assert_close(together[v : v + 1], alone, rtol=0, atol=1e-9)


@named([m for m in METHODS if m.equivariant])
def test_permuting_the_classes_permutes_the_columns(method: Method) -> None:
    query = query_of(method, 6)
    plain = answered(method, thrice(method), query)
    task = make_task(method, candidates(method), [0, 1, 2], order=ORDER)
    moved = run(method, task, [1, 2, 3], query)
    torch.testing.assert_close(moved, plain[..., ORDER], rtol=0, atol=1e-6)


@named([m for m in METHODS if m.transfers])
def test_a_head_that_transfers_serves_the_classes_that_it_is_given(method: Method) -> None:
    task, query = three(method), query_of(method, 6)
    params = learned(method, task, [1, 2, 3])
    plain = method.logits(method.head(params, task), query)
    other = make_task(method, candidates(method), [0, 1, 2], order=ORDER)
    moved = method.logits(method.head(params, other), query)
    torch.testing.assert_close(moved, plain[..., ORDER], rtol=0, atol=1e-9)
    text = {name: x[1:4] for name, x in task.text.items()}
    kept = (task.labels >= 1) & (task.labels < 4)
    rows, labels = task.rows[kept].view(3, -1), task.labels[kept].view(3, -1) - 1
    some = replace(task, text=text, n_classes=3, rows=rows, labels=labels)
    fewer = method.head(params, some)
    part = method.logits(fewer, query)
    if method.name in BY_ALL_CLASSES:
        assert part.shape == plain[..., 1:4].shape
    else:
        torch.testing.assert_close(part, plain[..., 1:4], rtol=0, atol=1e-9)


@named([m for m in METHODS if m().reads.support])
def test_equal_views_are_one_view_or_as_many_pictures(method: Method) -> None:
    """Pictures are counted, not rows of the pool: with views between them these differ."""
    task, query = three(method), query_of(method, 6)
    norm = pictures(len(task.pool[method.reads.support[0]]), 1)["image-norm"]
    layers = {"image-norm": norm, **task.pool}
    pool = {name: x.repeat_interleave(2, 0) for name, x in layers.items()}
    viewed = replace(task, pool=pool, views=2)
    got = run(method, viewed, [1, 2, 3], query)
    plain = answered(method, thrice(method), query)
    pooled = run(method, viewed.flat(), [1, 2, 3], query)
    assert min((got - plain).abs().max(), (got - pooled).abs().max()) < 1e-9


@every
def test_a_query_may_be_shared_or_one_a_variant(method: Method) -> None:
    params = thrice(method)
    shared = query_of(method, 6)
    own = replace(shared, layers={name: torch.stack([shared[name]] * 3) for name in shared.layers})
    torch.testing.assert_close(
        method.logits(params, shared), method.logits(params, own), rtol=0, atol=1e-12
    )


@every
def test_a_logit_depends_on_what_the_setting_says(method: Method) -> None:
    params = thrice(method)
    query = query_of(method, 6)
    whole = method.logits(params, query)
    if method.setting == "inductive":
        tail = method.logits(params, query.part(3, 6))
        torch.testing.assert_close(tail, whole[:, 3:], rtol=0, atol=1e-12)
    if method.setting == "online":
        head = method.logits(params, query.part(0, 3))
        torch.testing.assert_close(head, whole[:, :3], rtol=0, atol=1e-12)


@named([m for m in METHODS if issubclass(m, Online)])
def test_a_stream_starts_from_its_params_and_changes_none_of_them(method: Method) -> None:
    params = thrice(method)
    before = {name: x.clone() for name, x in params.items()}
    first = method.logits(params, query_of(method, 6))
    assert all(torch.equal(params[name], x) for name, x in before.items())
    assert torch.equal(method.logits(params, query_of(method, 6)), first)


def searchable(method: type[Method]) -> dict[str, base.Value]:
    """The settings that a method's search finds; when to stop is found on the way."""
    return {n: SEARCH for n, own in method.table.items() if SEARCH in own.words and n != "stop"}


@named([m for m in METHODS if searchable(m)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_search_claims_what_the_logits_count(method: Method, dtype: torch.dtype) -> None:
    built = type(method)(**method.settings | searchable(type(method)))
    task, query = three(method, dtype), query_of(method, 8, dtype)
    params, labels = learned(built, task, [1, 2, 3]), torch.arange(8) % C
    found = built.search(params, query, labels)
    assert found is not None
    for t in range(0, found.hits.shape[1], 5):
        own = {name: x[:, t].to(dtype) for name, x in found.settings.items()}
        logits = built.logits(built.head(params | own, task), query)
        assert torch.equal(hits(logits, labels), found.hits[:, t])
        said = found.log_p[:, t]
        expected = label_log_p(logits, labels).where(said.isfinite(), -torch.inf)
        torch.testing.assert_close(said, expected.to(said), rtol=0, atol=1e-3)


@named([m for m in METHODS if searchable(m)])
def test_a_search_on_folds_counts_what_each_variant_says_of_its_own_pictures(
    method: Method,
) -> None:
    """Three variants that answer as one, each for its own eight pictures."""
    built = type(method)(**method.settings | searchable(type(method)))
    task, query = three(method, torch.float64), query_of(method, 24, torch.float64)
    params, index = learned(built, task, [1, 2, 3]), torch.arange(24).view(3, 8)
    labels, own_query = index % C, query.at(index)
    found = built.search(params, own_query, labels, 3)
    assert found is not None
    assert found.log_p.shape == (1, found.hits.shape[1], 24)
    for t in range(0, found.hits.shape[1], 5):
        own = {name: x[0, t].expand(3).double() for name, x in found.settings.items()}
        logits = built.logits(built.head(params | own, task), own_query).view(1, 24, C)
        assert torch.equal(hits(logits, labels.flatten()), found.hits[:, t])
        said = found.log_p[:, t]
        expected = label_log_p(logits, labels.flatten()).where(said.isfinite(), -torch.inf)
        torch.testing.assert_close(said, expected.to(said), rtol=0, atol=1e-3)


@named([m for m in METHODS if searchable(m)])
def test_a_search_tries_the_constants(method: Method) -> None:
    """A choice stays with them unless another point is better, and knows them by their values."""
    built, own = type(method)(**method.settings | searchable(type(method))), method.fixed(2, 100.0)
    task = three(method, torch.float32)
    settings = dict(task.settings)
    for name, value in own.items():
        if name in settings and not isinstance(value, str):
            settings[name] = torch.full_like(settings[name], value)
    params = learned(built, replace(task, settings=settings), [1, 2, 3])
    found = built.search(params, query_of(method, 8, torch.float32), torch.arange(8) % C)
    assert found is not None
    tried = [x[0].tolist() for x in found.settings.values()]
    assert tuple(own[n] for n in found.settings) in set(zip(*tried, strict=True))


def test_reading_a_layer_that_is_not_declared_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and queries hold just what is declared, as in every test of this file."""
    monkeypatch.setattr(MeanOfViews, "reads", Reads(text=("per-prompt",)))
    with pytest.raises(KeyError, match="not among what this method reads"):
        fitted(MeanOfViews(), three(MeanOfViews()), [1, 2, 3])


@every
def test_a_bundle_answers_like_the_params_it_was_made_of(method: Method, tmp_path: Path) -> None:
    params = fitted(method, three(method, torch.float32), [1, 2, 3])
    query = query_of(method, 6, torch.float32)
    Bundle(
        method=method.name,
        method_version=method.version,
        static=method.settings,
        hparams={},
        layers=list(method.reads.query),
        classnames=[str(c) for c in range(C)],
        encoder={},
        preprocess={},
        provenance={},
        head={name: x[1].numpy() for name, x in params.items()},
    ).write(tmp_path / "b")
    back = Bundle.read(tmp_path / "b")
    head = {name: torch.from_numpy(x)[None] for name, x in back.head.items()}
    again = type(method)(**back.static).logits(head, query)
    # The first step of Adam is the sign of a slope: where a picture takes one, rounding shows.
    atol = 1e-4 if method.reads.query_encoder else 1e-5
    torch.testing.assert_close(again[0], method.logits(params, query)[1], rtol=0, atol=atol)


@every
def test_one_shot_one_variant_works(method: Method) -> None:
    task = make_task(method, candidates(method)[:1], [0])
    one = replace(task, rows=task.rows[:, ::SHOTS], labels=task.labels[:, ::SHOTS])
    assert run(method, one, [1], query_of(method, 1)).shape == (1, 1, C)


FORMS = [
    *(m() for m in METHODS if issubclass(m, Trained)),
    *(ClipAdapter(branch=branch) for branch in ("text", "both")),
    *(ClipAdapter(branch=branch, alpha="learned") for branch in ("image", "text", "both")),
    CrossModal(head="adapter"),
    Sgva(prompts="learned"),
]
trained = pytest.mark.parametrize(
    "method", FORMS, ids=lambda m: "-".join([type(m).__name__, *map(str, m.settings.values())])
)


def under_way(method: Trained) -> tuple[Params, Batch]:
    """Params of three variants that have moved, and a batch: a penalty is no longer at its rest."""
    task = method.data(three(method))
    params = method.init(task, Generators([1, 2, 3], "init", task.device, task.dtype))
    for k, name in enumerate(method.trainable):
        x = params[name]
        params[name] = x + 0.1 * x.std() * normal(x.shape, 50 + k) + 1e-3 * normal(x.shape, 70 + k)
    index = torch.tensor([[0, 3, 7], [9, 9, 1], [4, 2, 0]])
    random = Generators([1, 2, 3], "noise", task.device, task.dtype)
    return params, task.at(index, defaultdict(Workspace), random)


@named([m for m in METHODS if issubclass(m, Trained) and m not in TOYS])
def test_as_many_numbers_move_as_the_method_says(method: Trained) -> None:
    task = make_task(method, [method.fixed(SHOTS, LOGIT_SCALE)], [0])
    params = method.init(method.data(task), Generators([1], "init", task.device, task.dtype))
    words, channels = len(frozen()["tower"]["context"]), params.get("channels", torch.empty(1, 0))
    names = {"C": C, "N": task.rows.shape[1], "D": D, "D2": D + 2, "E": E, "d": WIDTH, "M": words}
    names |= {"Q": channels.shape[1], "H": params.get("down", torch.empty(1, 0)).shape[1]}
    settings = {n: value for n, value in method.settings.items() if isinstance(value, int)}
    assert eval(method.size, names | settings) == sum(params[n].numel() for n in method.trainable)


@trained
def test_no_variant_reads_another(method: Trained) -> None:
    """The engine differentiates the sum of the losses: each variant's part must be its own."""
    params, batch = under_way(method)
    moving = [params[name].requires_grad_() for name in method.trainable]
    loss = method.loss(params, batch)
    assert loss.shape == (3,)
    for gradient in torch.autograd.grad(loss[1], moving):
        assert gradient[1].abs().sum() > 0
        assert not gradient[0].any()
        assert not gradient[2].any()


@trained
def test_gradients_by_hand_are_those_of_the_loss(method: Trained) -> None:
    params, batch = under_way(method)
    by_hand = method.grads(params, batch)
    if not method.fused:
        assert by_hand is None
        return
    assert by_hand is not None
    assert set(by_hand) == set(method.trainable)
    moving = [params[name].requires_grad_() for name in method.trainable]
    exact = torch.autograd.grad(method.loss(params, batch).sum(), moving)
    for name, wanted in zip(method.trainable, exact, strict=True):
        given = by_hand[name]
        formed = given.formed(params[name]) if isinstance(given, Outer) else given
        torch.testing.assert_close(formed, wanted, rtol=0, atol=1e-12)


@trained
def test_what_the_loop_is_told_fits_the_data(method: Trained) -> None:
    task = method.data(three(method))
    order = method.order(task, Generators([1, 2, 3], "order", task.device, task.dtype))
    assert method.per_epoch(task) >= 1
    for _ in range(method.per_epoch(task) + 1):  # it goes on
        index = next(order)
        assert index.shape[0] == 3
        assert 0 <= int(index.min()) <= int(index.max()) < task.rows.shape[1]
    moves = method.moves(task)
    assert set(moves) <= set(method.trainable)
    assert all(move.lr is None or move.lr.shape == (3,) for move in moves.values())


@every
def test_settings_of_a_stack_are_numbers_or_the_constructor_s(method: Method) -> None:
    variants = candidates(method)
    static = method.static_of(variants[0])
    assert method.of(variants[0]).settings == method.settings | static
    numbers = method.numbers_of(variants, dtype=torch.float64)
    assert {*static, *numbers} == set(variants[0])
    for name, x in numbers.items():  # a word's place holds the default
        own = method.table[name].default
        assert x.tolist() == [own if isinstance(s[name], str) else s[name] for s in variants]
