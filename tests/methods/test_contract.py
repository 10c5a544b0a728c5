"""One contract for every method: the shipped ones, a toy with views, and an online toy."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.engine import stack as engine
from cacheclip.heads.cosine import cosine_logits
from cacheclip.kernels.launch import Workspace
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods import base
from cacheclip.methods.base import (
    SEARCH,
    ClosedForm,
    Method,
    Params,
    Reads,
    Setting,
    Settings,
    Trained,
)
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Query, Task, class_text, unit

C, D, SHOTS, VIEWS = 5, 7, 2, 3


class MeanOfViews(ClosedForm):
    """Keys as Tip-Adapter makes them: raw views averaged, then normalised."""

    paper = "a toy of this test"
    reads = Reads(("image", "image/views"), text=("per-prompt",))

    def solve(self, task: Task) -> Params:
        keys = unit(task.support()["image/views"].mean(2))  # [V, N, D]
        weight = keys.new_zeros(task.variants, task.n_classes, keys.shape[-1])
        weight.scatter_add_(1, task.labels.unsqueeze(-1).expand(keys.shape), keys)
        return {
            "weight": unit(weight),
            "logit_scale": keys.new_full((len(keys),), task.logit_scale),
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        return cosine_logits(query, params["weight"], params["logit_scale"])


class RunningMean(ClosedForm):
    """Online: each picture is compared with the mean of those before it, itself included."""

    paper = "a toy of this test"
    reads = Reads(text=("norm-mean",))
    setting = "online"

    def solve(self, task: Task) -> Params:
        text = task.class_text("norm-mean")
        return {"weight": text, "logit_scale": text.new_full((len(text),), task.logit_scale)}

    def logits(self, params: Params, query: Query) -> Tensor:
        count = torch.arange(1, len(query) + 1, dtype=query["image"].dtype)[:, None]
        mean = query["image"].cumsum(-2) / count
        return cosine_logits(Query({"image": unit(query["image"] - mean / 2)}), **params)


METHODS = [base.get(name) for name in base.names()] + [MeanOfViews, RunningMean]


@pytest.fixture(params=METHODS, ids=lambda m: m.name if m in METHODS[:-2] else m.__name__)
def method(request: pytest.FixtureRequest) -> type[Method]:
    found: type[Method] = request.param
    return found


def pictures(n: int, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    raw = torch.randn(n, VIEWS + 1, D, generator=g, dtype=torch.float64).to(dtype)
    return {"image": unit(raw[:, 0]), "image/views": raw[:, 1:] * 3}


def make_task(
    method: type[Method],
    settings: Sequence[Settings],
    draws: Sequence[int],
    dtype: torch.dtype = torch.float64,
    order: Sequence[int] | None = None,
) -> Task:
    """V variants; draw d reads rows d, d + 1, ... of a class, of four there are."""
    pool = pictures(4 * C, 1, dtype)
    shots = SHOTS if method.learns == "support" else 0
    support = [[c * 4 + (d + k) % 4 for c in range(C) for k in range(shots)] for d in draws]
    classes = list(order) if order is not None else list(range(C))
    labels = [[classes.index(row // 4) for row in rows] for rows in support]
    g = torch.Generator().manual_seed(2)
    prompts = torch.randn(C, 2, D, generator=g, dtype=torch.float64).to(dtype) + 1
    return Task(
        pool={name: pool[name] for name in method().reads.support},
        rows=torch.tensor(support, dtype=torch.int64).reshape(len(draws), -1),
        labels=torch.tensor(labels, dtype=torch.int64).reshape(len(draws), -1),
        text=class_text(prompts[classes], method().reads.text),
        settings=method.numbers_of(settings, dtype=dtype),
        logit_scale=40.0,
        n_classes=C,
    )


def query_of(method: type[Method], n: int, dtype: torch.dtype = torch.float64) -> Query:
    layers = pictures(n, 3, dtype)
    return Query({name: layers[name] for name in method().reads.query})


def candidates(method: type[Method]) -> list[Settings]:
    """Three settings that differ in every vector setting's grid value where there is one."""
    made = []
    for k in range(3):
        settings = method.fixed(SHOTS, 40.0)
        for name, own in method.table.items():
            values = own.grid or (settings.get(name, ""),)
            if values == (SEARCH,):
                values = tuple(float(settings[name]) * factor for factor in (0.5, 1, 2))
            if name in settings:
                settings[name] = values[(k + 1) % len(values)]
        made.append(settings)
    return made


def fitted(method: Method, task: Task, seeds: Sequence[int]) -> Params:
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, 10**9)
    return params


def run(method: type[Method], task: Task, seeds: Sequence[int], query: Query) -> Tensor:
    epochs: dict[str, int] = {"epochs": 4} if issubclass(method, Trained) else {}
    built = method(**epochs)
    params = fitted(built, task, seeds)
    return torch.cat([x for _, _, x in engine.logits_in_parts(built, params, query, 10**9)], 1)


def test_the_constructor_only_stores(method: type[Method]) -> None:
    built = method()
    said = {name: own for name, own in method.table.items() if not own.unsaid}
    assert built.settings == {name: own.default for name, own in said.items() if own.static}
    assert vars(built) == {"settings": built.settings}


def test_fitting_leaves_nothing_on_the_method(method: type[Method]) -> None:
    built = method(epochs=2) if issubclass(method, Trained) else method()
    before = dict(vars(built), settings=dict(built.settings))
    fitted(built, make_task(method, candidates(method)[:1], [0]), [1])
    assert vars(built) == before


def test_params_have_a_leading_variant_axis_and_logits_are_finite(method: type[Method]) -> None:
    task = make_task(method, candidates(method), [0, 1, 2])
    params = fitted(method(), task, [1, 2, 3])
    assert all(len(x) == 3 for x in params.values())
    logits = method().logits(params, query_of(method, 6))
    assert logits.shape == (3, 6, C)
    assert logits.isfinite().all()


def test_same_seed_same_bits(method: type[Method]) -> None:
    task = make_task(method, candidates(method), [0, 1, 2])
    query = query_of(method, 6)
    assert torch.equal(run(method, task, [1, 2, 3], query), run(method, task, [1, 2, 3], query))


def test_variants_together_equal_one_by_one(method: type[Method]) -> None:
    settings, query = candidates(method), query_of(method, 6)
    together = run(method, make_task(method, settings, [0, 1, 2]), [1, 2, 3], query)
    for v in range(3):
        alone = run(method, make_task(method, [settings[v]], [v]), [v + 1], query)
        torch.testing.assert_close(together[v : v + 1], alone, rtol=0, atol=1e-9)


def test_permuting_the_classes_permutes_the_columns(method: type[Method]) -> None:
    order, query = [3, 0, 4, 1, 2], query_of(method, 6)
    plain = run(method, make_task(method, candidates(method), [0, 1, 2]), [1, 2, 3], query)
    task = make_task(method, candidates(method), [0, 1, 2], order=order)
    torch.testing.assert_close(
        run(method, task, [1, 2, 3], query), plain[..., order], rtol=0, atol=1e-6
    )


def test_a_query_may_be_shared_or_one_a_variant(method: type[Method]) -> None:
    task = make_task(method, candidates(method), [0, 1, 2])
    params = fitted(method(), task, [1, 2, 3])
    shared = query_of(method, 6)
    own = Query({name: torch.stack([x] * 3) for name, x in shared.layers.items()})
    torch.testing.assert_close(
        method().logits(params, shared), method().logits(params, own), rtol=0, atol=1e-12
    )


def test_a_logit_depends_on_what_the_setting_says(method: type[Method]) -> None:
    task = make_task(method, candidates(method), [0, 1, 2])
    params = fitted(method(), task, [1, 2, 3])
    query = query_of(method, 6)
    whole = method().logits(params, query)
    if method.setting == "inductive":
        tail = method().logits(params, query.part(3, 6))
        torch.testing.assert_close(tail, whole[:, 3:], rtol=0, atol=1e-12)
    if method.setting == "online":
        head = method().logits(params, query.part(0, 3))
        torch.testing.assert_close(head, whole[:, :3], rtol=0, atol=1e-12)


def test_reading_a_layer_that_is_not_declared_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and queries hold just what is declared, as in every test of this file."""
    monkeypatch.setattr(MeanOfViews, "reads", Reads(text=("per-prompt",)))
    with pytest.raises(KeyError, match="not in `needs`"):
        fitted(MeanOfViews(), make_task(MeanOfViews, candidates(MeanOfViews), [0, 1, 2]), [1, 2, 3])


def test_a_bundle_answers_like_the_params_it_was_made_of(
    method: type[Method], tmp_path: Path
) -> None:
    task = make_task(method, candidates(method), [0, 1, 2], torch.float32)
    params = fitted(method(), task, [1, 2, 3])
    query = query_of(method, 6, torch.float32)
    Bundle(
        method=method.name,
        method_version=method.version,
        static=method().settings,
        hparams={},
        layers=list(method().reads.query),
        classnames=[str(c) for c in range(C)],
        encoder={},
        preprocess={},
        provenance={},
        head={name: x[1].numpy() for name, x in params.items()},
    ).write(tmp_path / "b")
    back = Bundle.read(tmp_path / "b")
    head = {name: torch.from_numpy(x)[None] for name, x in back.head.items()}
    again = method(**back.static).logits(head, query)
    torch.testing.assert_close(again[0], method().logits(params, query)[1], rtol=0, atol=1e-5)


def test_one_shot_one_variant_works(method: type[Method]) -> None:
    task = make_task(method, candidates(method)[:1], [0])
    one = Task(
        pool=task.pool,
        rows=task.rows[:, ::SHOTS],
        labels=task.labels[:, ::SHOTS],
        text=task.text,
        settings=task.settings,
        logit_scale=task.logit_scale,
        n_classes=C,
    )
    assert run(method, one, [1], query_of(method, 1)).shape == (1, 1, C)


TRAINED = [
    *(m() for m in METHODS if issubclass(m, Trained)),
    *(ClipAdapter(branch=branch) for branch in ("text", "both")),
    *(ClipAdapter(branch=branch, alpha="learned") for branch in ("image", "text", "both")),
]


@pytest.fixture(params=TRAINED, ids=lambda m: "-".join([m.name, *map(str, m.settings.values())]))
def trained(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.param
    return found


def test_no_variant_reads_another(trained: Trained) -> None:
    """The engine differentiates the sum of the losses: each variant's part must be its own."""
    built, method = trained, type(trained)
    task = make_task(method, candidates(method), [0, 1, 2])
    params = built.init(task, Generators([1, 2, 3], "init", task.device, task.dtype))
    moving = [params[name].requires_grad_() for name in built.trainable]
    loss = built.loss(params, task.batch(0, C * SHOTS, defaultdict(Workspace)))
    assert loss.shape == (3,)
    for gradient in torch.autograd.grad(loss[1], moving):
        assert gradient[1].abs().sum() > 0
        assert not gradient[0].any()
        assert not gradient[2].any()


def test_gradients_by_hand_are_those_of_the_loss(trained: Trained) -> None:
    built, method = trained, type(trained)
    task = make_task(method, candidates(method), [0, 1, 2])
    params = built.init(task, Generators([1, 2, 3], "init", task.device, task.dtype))
    some = torch.tensor([[0, 3, 7], [9, 9, 1], [4, 2, 0]])
    by_hand = built.grads(params, task.ordered(some).batch(0, 3, defaultdict(Workspace)))
    assert by_hand is not None  # a toy may leave them to autograd; what ships is fast
    assert set(by_hand) == set(built.trainable)
    moving = [params[name].requires_grad_() for name in built.trainable]
    loss = built.loss(params, task.ordered(some).batch(0, 3, defaultdict(Workspace)))
    for name, exact in zip(built.trainable, torch.autograd.grad(loss.sum(), moving), strict=True):
        given = by_hand[name]
        formed = given.formed(params[name]) if isinstance(given, Outer) else given
        torch.testing.assert_close(formed, exact, rtol=0, atol=1e-12)


def test_a_class_that_breaks_the_contract_is_refused_where_it_is_written() -> None:
    def written(**said: object) -> None:
        body = {"__module__": "broken", "solve": None, "logits": None}
        type("Broken", (ClosedForm,), body | said)

    with pytest.raises(TypeError, match="no paper"):
        written()
    alpha = Setting(1.0, 0.0, 2.0)
    for said, message in (
        ({"table": {"alpha": alpha}, "off": {"beta": 0.0}}, "no setting beta"),
        ({"recipes": {"as-code": {"alpha": 1.0}}}, "no setting alpha"),
        ({"table": {"alpha": replace(alpha, grid=(1.0, 3.0))}}, "alpha may not be"),
        ({"table": {"alpha": replace(alpha, default=-1.0)}}, "alpha may not be"),
        ({"table": {"width": Setting(4, 1, shape=True)}}, "width changes shapes"),
        ({"table": {"word": Setting("b", words=("a", "b"), unsaid=True)}}, "word goes unsaid"),
    ):
        with pytest.raises(TypeError, match=message):
            written(paper="a toy of this test", **said)
