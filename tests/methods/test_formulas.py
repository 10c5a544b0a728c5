"""What the formulas of probes, residuals and Gaussians imply, each where it could break."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.engine import stack as engine
from cacheclip.heads.gaussian import discriminant
from cacheclip.methods import base, names
from cacheclip.methods.base import Params, Settings, Trained
from cacheclip.methods.clap import Clap
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.methods.cross_modal import CrossModal
from cacheclip.methods.gda import Gda
from cacheclip.methods.lp_pp import LpPp
from cacheclip.methods.proker import Proker
from cacheclip.methods.task_res import TaskRes
from cacheclip.methods.tip_adapter import TipAdapter
from cacheclip.methods.zs_lp import ZsLp
from cacheclip.task import Generators, Query, Task, image_layers, unit
from tests.methods import tasks
from tests.methods.explicit import SEEDS, SHOTS, C, D, N, Problem, normal, problem
from tests.methods.tasks import batch_of

X = unit(normal(40, D, seed=4))
STILL: Settings = {"lr": 0.0, "schedule": "constant", "epochs": 1}


def zero_shot(text: Tensor) -> Tensor:
    return 100 * X @ unit(text).T


def start(made: Problem) -> tuple[Trained, Params]:
    """The method, and its params before the first step."""
    assert isinstance(made.method, Trained)
    random = Generators(SEEDS, "init", made.task.device, made.task.dtype)
    return made.method, made.method.init(made.task, random)


def gradients(method: Trained, params: Params, task: Task) -> Mapping[str, Tensor]:
    """Those of the loss on all pictures, by autograd."""
    moving = {name: params[name].clone().requires_grad_() for name in method.trainable}
    loss = method.loss(params | moving, batch_of(task)).sum()
    return dict(zip(moving, torch.autograd.grad(loss, list(moving.values())), strict=True))


@pytest.mark.parametrize("name", [name for name in names() if base.get(name).off])
def test_where_a_method_says_that_it_is_zero_shot_it_is(name: str) -> None:
    kind = base.get(name)
    whole = {
        **kind.fixed(2, 100.0),
        **kind.off,
        **({"epochs": 2} if "epochs" in kind.table else {}),
    }
    method = kind.of(whole)
    task = tasks.make_task(method, [whole] * 2, [0, 1])
    ((_, _, learned),) = engine.fit(method, task, SEEDS, lambda share: None, 10**9)
    query = tasks.query_of(method, 60)
    (ensemble,) = method.reads.text
    text = task.text[ensemble]
    expected = query["image"] @ unit(text.mean(1) if text.ndim == 3 else text).mT  # [n, C]
    got = method.logits(method.head(learned, task), query)
    assert torch.equal(got.argmax(-1), expected.argmax(-1).expand(2, -1))


def test_a_feature_of_another_length_is_the_same_picture() -> None:
    raw = normal(5, D, seed=3)
    plain, longer = image_layers(raw)["image"], image_layers(7.5 * raw)["image"]
    torch.testing.assert_close(longer, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("branch", ["image", "both"])
def test_an_adapter_learns_alike_from_features_of_any_length(branch: str) -> None:
    made = problem(ClipAdapter, [{"branch": branch, "alpha": 0.4}] * 2)
    method, params = start(made)
    longer = replace(made.task, pool={"image": 7.5 * made.task.pool["image"]})
    losses = [method.loss(params, batch_of(task)) for task in (made.task, longer)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-10)
    plain, scaled = (gradients(method, params, task) for task in (made.task, longer))
    assert any(x.abs().max() > 1e-3 for x in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(scaled[name], gradient, rtol=0, atol=1e-10)


def test_votes_of_a_cache_are_gaussians_of_the_distance_and_at_most_alpha_a_shot() -> None:
    made = problem(TipAdapter, [{"alpha": 1.5, "beta": 4.0}] * 2)
    votes = made.logits({"image": X}) - zero_shot(made.task.text["norm-mean"])
    assert votes.min() > 0
    assert votes[1].max() <= 1.5 * SHOTS  # the classes of variant 1 have as many keys
    keys, labels = made.variant(1)
    near = torch.exp(-4.0 * torch.cdist(X, keys).square() / 2)
    expected = 1.5 * near @ functional.one_hot(labels, C).double()
    torch.testing.assert_close(votes[1], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [TaskRes, Clap, ZsLp])
def test_a_probe_from_text_starts_as_zero_shot_of_the_raw_mean(kind: type[Trained]) -> None:
    made = problem(kind, [STILL] * 2)
    expected = zero_shot(made.task.text["raw-mean"]).expand(2, -1, -1)
    torch.testing.assert_close(made.logits({"image": X}), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "moves"), [(TaskRes, "residual"), (Clap, "weight")])
def test_cross_entropy_turns_a_class_and_leaves_its_length(kind: type[Trained], moves: str) -> None:
    made = problem(kind, [{"strength": 0.0} if kind is Clap else {"alpha": 0.7}] * 2)
    method, params = start(made)
    params[moves] = params[moves] + normal(2, C, D, seed=7)  # away from where it starts
    gradient = gradients(method, params, made.task)[moves]
    weight = params["weight"] if kind is Clap else params["text"] + 0.7 * params["residual"]
    assert gradient.abs().max() > 1e-2
    assert (gradient * weight).sum(-1).abs().max() < 1e-10


def test_a_residual_s_share_and_rate_stand_for_each_other_under_sgd_alone() -> None:
    for optimizer, same in (("sgd", True), ("adam", False)):
        own: Settings = {"optimizer": optimizer, "schedule": "constant", "epochs": 6}
        heads = [
            problem(TaskRes, [{**own, "weight_decay": 0.0, "alpha": alpha, "lr": lr}] * 2).head()
            for alpha, lr in ((0.5, 0.02), (1.0, 0.005))
        ]
        apart = float((heads[0]["weight"] - heads[1]["weight"]).abs().max())
        assert (apart < 1e-10) is same


def test_clap_trusts_each_class_with_a_probability() -> None:
    _, params = start(problem(Clap, [{}, {"strength": 3.0}]))
    known = params["pull"] / torch.tensor([[1.0], [3.0]])
    assert known.min() > 0
    assert known.max() < 1


def test_lp_pp_s_steps_of_one_class_or_half_of_them_of_all_never_raise_its_loss() -> None:
    made = problem(LpPp, [{}] * 2)
    method, params = start(made)
    rate = made.method.moves(made.task)["weight"].lr  # type: ignore[attr-defined]
    batch = batch_of(made.task)
    for seed in range(20):
        here = params | {"weight": 3 * normal(2, C, D, seed=seed)}
        gradient = gradients(method, here, made.task)["weight"]
        before = method.loss(here, batch)
        one = torch.zeros_like(gradient)
        one[:, seed % C] = gradient[:, seed % C]
        for step in (one, gradient / 2):
            moved = here | {"weight": here["weight"] - rate[:, None, None] * step}
            assert bool((method.loss(moved, batch) < before).all())


def test_lp_pp_is_convex_and_zero_shot_without_its_probe() -> None:
    made = problem(LpPp, [{}] * 2)
    method, params = start(made)
    batch = batch_of(made.task)
    for seed in range(10):
        ends = [
            params
            | {"weight": 5 * normal(2, C, D, seed=seed + k), "bias": normal(2, C, seed=seed + k)}
            | {"alpha": 20 * normal(2, C, seed=seed + k)}
            for k in (0, 50)
        ]
        middle = params | {n: (ends[0][n] + ends[1][n]) / 2 for n in method.trainable}
        below = (method.loss(ends[0], batch) + method.loss(ends[1], batch)) / 2
        assert bool((method.loss(middle, batch) <= below).all())
    none = {name: torch.zeros_like(params[name]) for name in ("weight", "bias")}
    alone = params | none | {"alpha": torch.full_like(params["alpha"], 100.0)}
    expected = zero_shot(made.task.text["norm-mean"]).expand(2, -1, -1)
    torch.testing.assert_close(
        method.logits(alone, Query({"image": X})), expected, rtol=0, atol=1e-10
    )


def test_gaussians_turn_with_the_features_and_see_no_constant_in_their_bias() -> None:
    made = problem(Gda, [{"alpha": 2.5}] * 2)
    plain = made.logits({"image": X})
    turn, _ = torch.linalg.qr(normal(D, D, seed=8))
    task = replace(
        made.task,
        pool={"image": made.task.pool["image"] @ turn},
        text={"norm-mean": made.task.text["norm-mean"] @ turn},
    )
    assert isinstance(made.method, Gda)
    turned = made.method.logits(made.method.solve(task), Query({"image": X @ turn}))
    torch.testing.assert_close(turned, plain, rtol=0, atol=1e-9)
    params = made.head()
    lifted = made.method.logits(params | {"bias": params["bias"] + 4.0}, Query({"image": X}))
    torch.testing.assert_close(lifted, plain + 2.5 * 4.0, rtol=0, atol=1e-9)


def test_gaussians_that_spread_alike_in_all_directions_are_nearest_means() -> None:
    means, steps = unit(normal(C, D, seed=5)), torch.eye(D, dtype=torch.float64)
    around = means[:, None] + torch.cat([steps, -steps])  # [C, 2 D, D]
    labels = torch.arange(C).repeat_interleave(2 * D)
    weight, bias = discriminant(around.flatten(0, 1)[None], labels[None], C)
    nearest = torch.cdist(X, means).argmin(1)
    assert torch.equal((X @ weight[0].T + bias[0]).argmax(1), nearest)
    assert len(set(nearest.tolist())) > 1


def test_a_kernel_ridge_has_nothing_to_add_where_zero_shot_has_the_labels() -> None:
    text = torch.eye(C, D, dtype=torch.float64)  # no class is like another
    made = problem(Proker, [{"lam": 0.3}, {"lam": 3.0}], text={"norm-mean": text})
    alike = text[made.task.labels]  # [V, N, D], so that x T^T are the labels
    rows = torch.arange(2 * N).view(2, N)
    task = replace(made.task, pool={"image": alike.flatten(0, 1)}, rows=rows)
    assert isinstance(made.method, Proker)
    head = made.method.head(made.method.solve(task), task)
    expected = zero_shot(text).expand(2, -1, -1)
    got = made.method.logits(head, Query({"image": X}))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_a_cross_modal_head_starts_as_zero_shot_and_takes_either_kind_alone() -> None:
    made = problem(CrossModal, [{}] * 2)
    method, params = start(made)
    text = unit(made.task.text["per-prompt"].mean(1))
    expected = zero_shot(text).expand(2, -1, -1)
    got = method.logits(method.head(params, made.task), Query({"image": X}))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    held = method.data(made.task)
    positions = torch.arange(held.labels.shape[1]).expand(2, -1)
    prompts = unit(made.task.text["per-prompt"].flatten(0, 1))
    classes = torch.arange(C).repeat_interleave(len(prompts) // C)
    for v in range(2):
        kinds = (positions[:, :N], *made.variant(v)), (positions[:, N:], prompts, classes)
        for of_kind, rows, labels in kinds:
            alone = functional.cross_entropy(100 * rows @ text.T, labels)
            torch.testing.assert_close(method.loss(params, batch_of(held, of_kind))[v], alone)
