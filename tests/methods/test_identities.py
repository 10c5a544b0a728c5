"""What the papers' formulas imply, checked on random features."""

import pytest
import torch
from torch import Tensor

from cacheclip.engine import stack as engine
from cacheclip.methods import base
from cacheclip.methods.base import Method, Params, Settings
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Query, Task, class_text, unit

C, D, SHOTS = 4, 12, 3
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def rows(n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return unit(torch.randn(n, D, generator=g, dtype=torch.float64)).to(dtype)


def make_task(name: str, settings: list[Settings], dtype: torch.dtype = torch.float64) -> Task:
    method = base.get(name)
    V = len(settings)
    labels = torch.arange(C).repeat_interleave(SHOTS).expand(V, -1)
    prompts = rows(2 * C, 7, dtype).view(C, 2, D)
    return Task(
        pool={"image": rows(C * SHOTS, 1, dtype)},
        rows=torch.arange(C * SHOTS).expand(V, -1),
        labels=labels,
        text=class_text(prompts, method.text),
        settings={
            n: torch.tensor([float(s[n]) for s in settings], dtype=dtype) for n in method.vector
        },
        logit_scale=100.0,
        n_classes=C,
    )


def fitted(method: Method, task: Task, seeds: list[int]) -> Params:
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None)
    return params


def solved(name: str, **settings: float) -> tuple[Method, Params]:
    method = base.get(name)
    task = make_task(name, [{**method.fixed(SHOTS, 100.0), **settings}])
    return method(), fitted(method(), task, [1])


def zero_shot(query: Tensor) -> Tensor:
    task = make_task("zero-shot", [{}], query.dtype)
    method = base.get("zero-shot")()
    return method.logits(fitted(method, task, [1]), Query({"image": query}))


@pytest.mark.parametrize("name", ["tip-adapter", "clip-adapter"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_alpha_zero_is_zero_shot(name: str, dtype: torch.dtype) -> None:
    method = base.get(name)
    settings = method.fixed(SHOTS, 100.0) | {"alpha": 0.0}
    params = fitted(method(), make_task(name, [settings], dtype), [1])
    query = rows(40, 3, dtype)
    expected = zero_shot(query)
    got = method().logits(params, Query({"image": query}))
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE[dtype])
    assert torch.equal(got.argmax(-1), expected.argmax(-1))


def test_zero_shot_does_not_see_the_order_or_number_of_prompts() -> None:
    prompts = rows(3 * C, 7).view(C, 3, D) * torch.tensor([1.0, 2.0, 5.0])[:, None]
    plain = class_text(prompts, ["norm-mean"])["norm-mean"]
    for changed in (prompts[:, [2, 0, 1]], prompts.repeat(1, 2, 1)):
        again = class_text(changed, ["norm-mean"])["norm-mean"]
        torch.testing.assert_close(again, plain, rtol=0, atol=1e-12)
    one = class_text(prompts[:, :1], ["norm-mean", "raw-mean"])
    torch.testing.assert_close(one["norm-mean"], unit(one["raw-mean"]), rtol=0, atol=1e-12)


def test_zero_shot_logits_stay_within_the_logit_scale() -> None:
    assert zero_shot(rows(200, 5)).abs().max() <= 100


def test_tip_with_beta_zero_adds_the_class_counts() -> None:
    method, params = solved("tip-adapter", alpha=2.0, beta=0.0)
    query = rows(40, 3)
    added = method.logits(params, Query({"image": query})) - zero_shot(query)
    torch.testing.assert_close(added, torch.full_like(added, 2.0 * SHOTS), rtol=0, atol=1e-9)


def test_tip_with_a_sharp_beta_gives_a_key_its_own_class_alone() -> None:
    method, params = solved("tip-adapter", alpha=3.0, beta=1e6)
    key = rows(C * SHOTS, 1)[4:5]  # class 1
    added = method.logits(params, Query({"image": key})) - zero_shot(key)
    expected = torch.tensor([[[0.0, 3.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-6)


def test_tip_with_every_key_twice_is_tip_with_twice_the_alpha() -> None:
    method, params = solved("tip-adapter", alpha=1.5)
    _, doubled = solved("tip-adapter", alpha=3.0)
    twice = params | {
        "keys": params["keys"].repeat(1, 2, 1),
        "labels": params["labels"].repeat(1, 2),
    }
    query = Query({"image": rows(40, 3)})
    torch.testing.assert_close(
        method.logits(twice, query), method.logits(doubled, query), rtol=0, atol=1e-9
    )


def test_tip_does_not_see_the_order_of_the_cache() -> None:
    method, params = solved("tip-adapter")
    order = torch.randperm(C * SHOTS, generator=torch.Generator().manual_seed(2))
    mixed = params | {"keys": params["keys"][:, order], "labels": params["labels"][:, order]}
    query = Query({"image": rows(40, 3)})
    torch.testing.assert_close(
        method.logits(mixed, query), method.logits(params, query), rtol=0, atol=1e-9
    )


def test_the_adapter_is_positively_homogeneous() -> None:
    """Scaled features give the logits of unit ones, so the unit cache is all it needs."""
    method, params = solved("clip-adapter", alpha=0.4)
    query = rows(40, 3)
    torch.testing.assert_close(
        method.logits(params, Query({"image": 7.5 * query})),
        method.logits(params, Query({"image": query})),
        rtol=0,
        atol=1e-9,
    )


def test_the_adapter_alone_does_not_see_the_size_of_its_first_layer() -> None:
    method, params = solved("clip-adapter", alpha=1.0)
    larger = params | {"down": 3.0 * params["down"]}
    query = Query({"image": rows(40, 3)})
    torch.testing.assert_close(
        method.logits(larger, query), method.logits(params, query), rtol=0, atol=1e-9
    )


def test_an_adapter_whose_second_layer_is_negative_is_dead() -> None:
    method = ClipAdapter()
    task = make_task("clip-adapter", [method.fixed(SHOTS, 100.0)])
    params = method.init(task, Generators([1], "init", task.device, task.dtype))
    params["up"] = -params["up"].abs()
    moving = [params[name].requires_grad_() for name in ("down", "up")]
    loss = method.loss(params, task.batch(torch.arange(C * SHOTS)[None], {}))
    assert not any(g.any() for g in torch.autograd.grad(loss.sum(), moving))


def test_identical_variants_train_identically() -> None:
    adapter = base.get("clip-adapter")
    task = make_task("clip-adapter", [adapter.fixed(SHOTS, 100.0)] * 3)
    params = fitted(adapter(epochs=5), task, [1, 1, 1])
    assert torch.equal(params["up"][0], params["up"][1])
    assert torch.equal(params["up"][0], params["up"][2])


def test_nearest_mean_of_one_shot_is_the_nearest_neighbour() -> None:
    method = base.get("nearest-mean")()
    task = make_task("nearest-mean", [{}])
    one = Task(
        pool=task.pool,
        rows=task.rows[:, ::SHOTS],
        labels=task.labels[:, ::SHOTS],
        text={},
        settings={},
        logit_scale=100.0,
        n_classes=C,
    )
    query = rows(40, 3)
    logits = method.logits(fitted(method, one, [1]), Query({"image": query}))
    nearest = (query @ rows(C * SHOTS, 1)[::SHOTS].T).argmax(1)
    assert torch.equal(logits[0].argmax(1), nearest)


def test_the_constants_take_the_same_steps_in_logits_at_every_logit_scale() -> None:
    """lr s^2 is what moves the logits; the released lr belongs to a scale of 100."""
    at_100 = ClipAdapter.fixed(16, 100.0)["lr"]
    assert at_100 == 2e-3
    assert float(ClipAdapter.fixed(16, 20.0)["lr"]) * 20**2 == pytest.approx(2e-3 * 100**2)
