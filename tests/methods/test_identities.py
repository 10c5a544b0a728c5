"""What the papers' formulas imply, checked on random features."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cacheclip.bundle import Bundle
from cacheclip.engine import stack as engine
from cacheclip.methods import base
from cacheclip.methods.base import Method, Params, Settings, Trained
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Query, Task, class_text, unit
from tests.methods.tasks import batch_of

C, D, SHOTS = 4, 12, 3
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
CACHES = ["tip-adapter", "tip-adapter-f"]


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
        text=class_text(prompts, method().reads.text),
        settings=method.numbers_of(settings, dtype=dtype),
        logit_scale=100.0,
        n_classes=C,
    )


def fitted(method: Method, task: Task, seeds: list[int]) -> Params:
    ((_, _, params),) = engine.fit(method, task, seeds, lambda share: None, 10**9)
    return params


def solved(name: str, **settings: float) -> tuple[Method, Params]:
    method = base.get(name)
    task = make_task(name, [{**method.fixed(SHOTS, 100.0), **settings}])
    return method(), fitted(method(), task, [1])


def zero_shot(query: Tensor) -> Tensor:
    task = make_task("zero-shot", [{}], query.dtype)
    method = base.get("zero-shot")()
    return method.logits(fitted(method, task, [1]), Query({"image": query}))


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f", "clip-adapter"])
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
    logits = method.logits(params, Query({"image": query}))
    assert torch.equal(logits.argmax(-1), zero_shot(query).argmax(-1))


def test_tip_with_a_sharp_beta_gives_a_key_its_own_class_alone() -> None:
    method, params = solved("tip-adapter", alpha=3.0, beta=1e6)
    key = rows(C * SHOTS, 1)[4:5]  # class 1
    added = method.logits(params, Query({"image": key})) - zero_shot(key)
    expected = torch.tensor([[[0.0, 3.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CACHES)
def test_tip_with_every_key_twice_is_tip_with_twice_the_alpha(name: str) -> None:
    method, params = solved(name, alpha=1.5)
    doubled = params | {"alpha": 2 * params["alpha"]}
    twice = params | {
        "keys": params["keys"].repeat(1, 2, 1),
        "labels": params["labels"].repeat(1, 2),
    }
    query = Query({"image": rows(40, 3)})
    torch.testing.assert_close(
        method.logits(twice, query), method.logits(doubled, query), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("name", CACHES)
def test_tip_does_not_see_the_order_of_the_cache(name: str) -> None:
    method, params = solved(name)
    order = torch.randperm(C * SHOTS, generator=torch.Generator().manual_seed(2))
    mixed = params | {"keys": params["keys"][:, order], "labels": params["labels"][:, order]}
    query = Query({"image": rows(40, 3)})
    torch.testing.assert_close(
        method.logits(mixed, query), method.logits(params, query), rtol=0, atol=1e-9
    )


def test_tip_f_starts_as_tip() -> None:
    tip, cache = solved("tip-adapter")
    method = base.get("tip-adapter-f")
    task = make_task("tip-adapter-f", [method.fixed(SHOTS, 100.0)])
    built = method()
    assert isinstance(built, Trained)
    start = built.init(task, Generators([1], "init", task.device, task.dtype))
    query = Query({"image": rows(40, 3)})
    assert torch.equal(built.logits(start, query), tip.logits(cache, query))


@pytest.mark.parametrize("logit_scale", [16.4, 100.0])
def test_tip_f_lowers_its_loss_and_keeps_values_and_text(logit_scale: float) -> None:
    method = base.get("tip-adapter-f")
    task = make_task("tip-adapter-f", [method.fixed(SHOTS, logit_scale)])
    task = replace(task, logit_scale=logit_scale)
    built = method()
    assert isinstance(built, Trained)
    start = built.init(task, Generators([1], "init", task.device, task.dtype))
    trained = fitted(built, task, [1])
    every = batch_of(task)
    assert built.loss(trained, every) < built.loss(start, every)
    assert all(torch.equal(trained[name], start[name]) for name in set(start) - {"keys"})


BRANCHES = ("image", "text", "both")
FORMS = [(branch, ratio) for branch in BRANCHES for ratio in ("fixed", "learned")]


def adapter(branch: str, ratio: str = "fixed", epochs: int = 3) -> ClipAdapter:
    words = {"alpha": ratio} if ratio == "learned" else {}
    return ClipAdapter(branch=branch, epochs=epochs, **words)


def adapter_task(*alphas: float) -> Task:
    """A variant for each alpha; the default stands where a ratio is learned, as in a study."""
    constants = ClipAdapter.fixed(SHOTS, 100.0)
    return make_task("clip-adapter", [constants | {"alpha": alpha} for alpha in alphas])


def start(method: ClipAdapter, task: Task) -> Params:
    return method.init(task, Generators([1], "init", task.device, task.dtype))


@pytest.mark.parametrize("branch", BRANCHES)
def test_every_branch_with_alpha_zero_is_zero_shot(branch: str) -> None:
    method, query = adapter(branch), rows(40, 3)
    got = method.logits(fitted(method, adapter_task(0.0), [1]), Query({"image": query}))
    torch.testing.assert_close(got, zero_shot(query), rtol=0, atol=1e-10)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_learned_ratio_starts_at_the_constant(branch: str) -> None:
    task, query = adapter_task(0.2), Query({"image": rows(40, 3)})
    fixed, learned = adapter(branch), adapter(branch, "learned")
    torch.testing.assert_close(
        learned.logits(start(learned, task), query),
        fixed.logits(start(fixed, task), query),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_learned_ratio_moves_and_stays_between_the_frozen_feature_and_the_adapter(
    branch: str,
) -> None:
    method = adapter(branch, "learned", epochs=30)
    task = adapter_task(0.2)
    task.settings["lr"].fill_(0.1)  # large steps: a sigmoid holds what a clamp would have to
    params = fitted(method, task, [1])
    shifts = [name for name in method.trainable if name.endswith("shift")]
    assert len(shifts) == (2 if branch == "both" else 1)
    for name in shifts:
        ratio = (params["alpha"].logit() + params[name]).sigmoid()
        assert 0 < ratio < 1
        assert abs(ratio - 0.2) > 1e-3


def test_weight_decay_draws_a_learned_ratio_to_the_constant() -> None:
    method = adapter("image", "learned", epochs=30)
    free, held = adapter_task(0.2), adapter_task(0.2)
    held.settings["weight_decay"].fill_(3.0)
    moved = [fitted(method, task, [1])["shift"].abs() for task in (free, held)]
    assert moved[1] < moved[0]


def test_both_is_its_two_branches() -> None:
    """The text's weights are drawn after the image's, which start as they do alone."""
    task, query = adapter_task(0.4), rows(40, 3)
    both = adapter("both")
    params = start(both, task)
    alone = start(adapter("image"), task)
    assert torch.equal(params["down"], alone["down"])
    assert torch.equal(params["up"], alone["up"])
    assert not torch.equal(params["text_down"], params["down"])

    def blend(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        return unit(0.4 * ((x @ down.mT).relu() @ up).relu() + 0.6 * x)

    x = blend(query, params["down"][0], params["up"][0])
    text = blend(params["weight"][0], params["text_down"][0], params["text_up"][0])
    expected = 100 * x @ text.mT
    got = both.logits(params, Query({"image": query}))
    torch.testing.assert_close(got[0], expected, rtol=0, atol=1e-9)


def test_permuting_the_classes_permutes_an_adapted_text() -> None:
    order = [2, 0, 3, 1]
    method, task = adapter("both", "learned"), adapter_task(0.2)
    query = Query({"image": rows(9, 3)})
    moved = Task(
        pool=task.pool,
        rows=task.rows,
        labels=torch.tensor([order.index(c) for c in range(C)])[task.labels],
        text={name: x[order] for name, x in task.text.items()},
        settings=task.settings,
        logit_scale=task.logit_scale,
        n_classes=C,
    )
    plain = method.logits(fitted(method, task, [1]), query)
    torch.testing.assert_close(
        method.logits(fitted(method, moved, [1]), query), plain[..., order], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("branch", "ratio"), FORMS)
def test_adapters_of_every_form_train_together_as_alone(branch: str, ratio: str) -> None:
    method, alphas = adapter(branch, ratio), (0.2, 0.5, 0.8)
    together = fitted(method, adapter_task(*alphas), [1, 2, 3])
    for v, alpha in enumerate(alphas):
        alone = fitted(method, adapter_task(alpha), [v + 1])
        for name in method.trainable:
            torch.testing.assert_close(together[name][v : v + 1], alone[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("branch", "ratio"), FORMS)
def test_a_bundle_keeps_every_form_of_the_adapter(branch: str, ratio: str, tmp_path: Path) -> None:
    method = adapter(branch, ratio)
    params = fitted(method, adapter_task(0.2), [1])
    head = {name: x[0].numpy() for name, x in params.items()}
    empty: dict[str, Any] = {"hparams": {}, "encoder": {}, "preprocess": {}, "provenance": {}}
    Bundle(
        method=method.name,
        method_version=method.version,
        static=method.settings,
        layers=["image"],
        classnames=[str(c) for c in range(C)],
        head=head,
        **empty,
    ).write(tmp_path / "b")
    back = Bundle.read(tmp_path / "b")
    kept = {name: torch.from_numpy(x)[None] for name, x in back.head.items()}
    query = Query({"image": rows(9, 3)})
    assert torch.equal(ClipAdapter(**back.static).logits(kept, query), method.logits(params, query))


def test_a_hidden_layer_too_wide_for_the_kernel_trains_by_autograd() -> None:
    method = ClipAdapter(reduction=1, epochs=2, branch="both")
    task, wide = adapter_task(0.2), 1024
    g = torch.Generator().manual_seed(4)
    wider = replace(
        task,
        pool={"image": unit(torch.randn(C * SHOTS, wide, generator=g))},
        text={"norm-mean": unit(torch.randn(C, wide, generator=g))},
        settings={name: x.float() for name, x in task.settings.items()},
    )
    params = fitted(method, wider, [1])
    assert params["down"].shape == (1, wide, wide)
    assert all(x.isfinite().all() for x in params.values())
    assert not torch.equal(params["text_up"], start(method, wider)["text_up"])


@pytest.mark.parametrize("branch", BRANCHES)
def test_the_adapter_is_positively_homogeneous(branch: str) -> None:
    """Scaled features give the logits of unit ones, so the unit cache is all it needs."""
    method = adapter(branch)
    params = fitted(method, adapter_task(0.4), [1])
    query = rows(40, 3)
    scaled, text = 7.5 * query, 7.5 * params["weight"]
    again = method.logits(
        params | ({} if branch == "image" else {"weight": text}),
        Query({"image": query if branch == "text" else scaled}),
    )
    torch.testing.assert_close(
        again, method.logits(params, Query({"image": query})), rtol=0, atol=1e-9
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
    loss = method.loss(params, batch_of(task))
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


def test_adam_takes_the_paper_s_step_in_logits_at_every_logit_scale() -> None:
    """lr s is what moves the logits where the gradient's size does not count."""
    assert ClipAdapter.fixed(16, 100.0, "as-paper")["lr"] == 1e-5
    at_20 = float(ClipAdapter.fixed(16, 20.0, "as-paper")["lr"])
    assert at_20 * 20 == pytest.approx(1e-5 * 100)
