"""SgVA-CLIP against its recipe written out, picture by picture, and what its formula implies."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.engine import memory, stack as engine
from cacheclip.heads.episodes import episodes
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import SEARCH, Params
from cacheclip.methods.sgva import Sgva
from cacheclip.methods.zero_shot import ZeroShot
from cacheclip.metrics import hits
from cacheclip.task import Batch, Generators, Task
from tests.methods.explicit import dassl
from tests.methods.tasks import (
    LOGIT_SCALE,
    SHOTS,
    C,
    E,
    batch_of,
    frozen,
    make_task,
    normal,
    query_of,
)

EPOCHS, RATE, SEEDS = 6, 0.01, [5, 8]


def made(epochs: int = EPOCHS, **own: float | str) -> tuple[Sgva, Task]:
    """Two variants on draws of their own, the second at twice the rate."""
    both = [
        Sgva.fixed(SHOTS, LOGIT_SCALE, given={"epochs": epochs, "lr": lr, **own})
        for lr in (RATE, 2 * RATE)
    ]
    method = Sgva.of(both[0])
    return method, make_task(method, both, [0, 1])


def learned(method: Sgva, task: Task) -> Params:
    ((_, _, params),) = engine.fit(method, task, SEEDS, lambda share: None, 10**9)
    return params


def adapted(v: Tensor, down: Tensor, up: Tensor, ratio: Tensor) -> Tensor:
    """One picture's h, before its length is taken off."""
    moved = up.T @ torch.relu(down @ v)
    return torch.relu(ratio * moved + (1 - ratio) * v)


def loss_of(task: Task, v: int, down: Tensor, up: Tensor, ratio: Tensor) -> Tensor:
    """Of the whole support as one episode."""
    support, labels, text = task.support(), task.labels[v], task.text["norm-mean"]
    h = torch.stack([adapted(row, down, up, ratio) for row in support["pre-projection"][v]])
    h_unit = functional.normalize(h, dim=-1)
    means = torch.stack([h_unit[labels == c].mean(0) for c in range(C)])
    among = functional.cross_entropy(LOGIT_SCALE * h_unit @ means.T, labels)
    z = functional.normalize(h @ frozen()["projection"] + frozen()["projection-bias"], dim=-1)
    teacher = (LOGIT_SCALE * support["image"][v] @ text.T / 5).softmax(-1)
    return among + functional.cross_entropy(LOGIT_SCALE * z @ text.T / 5, teacher)


def test_it_is_the_recipe_written_out() -> None:
    method, task = made()
    got = learned(method, task)
    start = method.init(task, Generators(SEEDS, "init", task.device, task.dtype))
    query = query_of(method, 7)
    logits = method.logits(method.head(got, task), query)
    for v in range(2):
        own = [start[name][v].clone().requires_grad_() for name in method.trainable]
        sgd = torch.optim.SGD(own, lr=1.0, momentum=0.9, weight_decay=5e-4, nesterov=True)
        for rate in dassl(float(task.settings["lr"][v]), EPOCHS):
            sgd.param_groups[0]["lr"] = rate
            sgd.zero_grad()
            torch.autograd.backward(loss_of(task, v, *own))
            sgd.step()
        down, up, ratio = (x.detach() for x in own)
        assert (down - start["down"][v]).abs().max() > 1e-3
        for name, exact in zip(method.trainable, (down, up, ratio), strict=True):
            torch.testing.assert_close(got[name][v], exact, rtol=0, atol=1e-9)
        for k in range(7):
            h = functional.normalize(adapted(query["pre-projection"][k], down, up, ratio), dim=0)
            near = [
                torch.stack([
                    h @ functional.normalize(adapted(row, down, up, ratio), dim=0)
                    for row in task.support()["pre-projection"][v][task.labels[v] == c]
                ]).mean()
                for c in range(C)
            ]  # fmt: skip
            by_text = query["image"][k] @ task.text["norm-mean"].T
            exact = LOGIT_SCALE * (0.5 * by_text + 0.5 * torch.stack(near))
            torch.testing.assert_close(logits[v, k], exact, rtol=0, atol=1e-7)


def test_without_fusion_frozen_text_is_zero_shot() -> None:
    method, task = made(fusion=0.0)
    plain = make_task(ZeroShot(), [{}, {}], [0, 1])
    ((_, _, params),) = engine.fit(ZeroShot(), plain, SEEDS, lambda share: None, 10**9)
    query = query_of(method, 7)
    got = method.logits(method.head(learned(method, task), task), query)
    assert torch.equal(got, ZeroShot().logits(params, query))


def test_without_the_adapter_features_pass_and_the_student_is_its_teacher() -> None:
    method, task = made()
    task = replace(task, pool=positive(task.pool["pre-projection"]))
    params = method.init(task, Generators(SEEDS, "init", task.device, task.dtype))
    params["ratio"] = torch.zeros(2, dtype=torch.float64)
    v, labels = task.support()["pre-projection"], task.labels
    means = method.head(params, task)["means"]
    for k in range(2):
        unit = functional.normalize(v[k], dim=-1)
        exact = torch.stack([unit[labels[k] == c].mean(0) for c in range(C)])
        torch.testing.assert_close(means[k], exact, rtol=0, atol=1e-12)
        teacher = (LOGIT_SCALE * task.support()["image"][k] @ task.text["norm-mean"].T / 5).softmax(
            -1
        )
        entropy = -(teacher * teacher.log()).sum(-1).mean()
        among = functional.cross_entropy(LOGIT_SCALE * unit @ exact.T, labels[k])
        loss = method.loss(params, batch_of(task))[k]
        torch.testing.assert_close(loss, among + entropy, rtol=0, atol=1e-9)


def positive(v: Tensor) -> dict[str, Tensor]:
    """Features that a ReLU lets pass, on both sides of the projection."""
    f = v.abs() @ frozen()["projection"] + frozen()["projection-bias"]
    return {"pre-projection": v.abs(), "image": functional.normalize(f, dim=-1)}


def test_what_the_pseudo_inverse_finds_back_is_projected_to_the_same_feature() -> None:
    """The release's v: less than the feature before the projection, and as good after it."""
    P, b, v = frozen()["projection"], frozen()["projection-bias"], normal((4, E), 3)
    f = v @ P + b
    back = (f - b) @ torch.linalg.pinv(P)
    torch.testing.assert_close(back @ P + b, f, rtol=0, atol=1e-12)
    assert (back.norm(dim=-1) < v.norm(dim=-1)).all()


def test_learned_words_are_moved_by_their_own_loss_and_rate_alone() -> None:
    method, task = made(prompts="learned", context_lr=3 * RATE)
    params = method.init(task, Generators(SEEDS, "init", task.device, task.dtype))
    moving = [params[name].clone().requires_grad_() for name in method.trainable]
    own = params | dict(zip(method.trainable, moving, strict=True))
    batch = batch_of(task)
    gradient = torch.autograd.grad(method.loss(own, batch).sum(), moving)[-1]
    alone = torch.autograd.grad(words_loss(method, own, batch).sum(), moving[-1])[0]
    torch.testing.assert_close(gradient, alone, rtol=0, atol=1e-10)
    factor = method.moves(task)["context"].lr
    assert factor is not None
    assert factor.tolist() == pytest.approx([3.0, 1.5])


def words_loss(method: Sgva, params: Params, batch: Batch) -> Tensor:
    """The cross-entropy of pictures against the text of the words."""
    weight = method.head(params, batch.task)["weight"]
    logits = LOGIT_SCALE * batch.query["image"] @ weight.mT
    return torch.stack([functional.cross_entropy(logits[v], batch.labels[v]) for v in range(2)])


def test_learned_words_start_as_their_prompt_and_are_searched_as_they_are_served() -> None:
    method, task = made(epochs=2, prompts="learned", fusion=SEARCH)
    params = method.init(task, Generators(SEEDS, "init", task.device, task.dtype))
    tower = TextTransformer.of(task.encoder["tower"], torch.float64)
    assert torch.equal(params["context"][0], tower.embed(task.encoder["tower"]["context"]))
    fit, query, labels = learned(method, task), query_of(method, 8), torch.arange(8) % C
    assert (fit["context"] - params["context"]).abs().max() > 0
    found = method.search(fit, query, labels)
    assert found is not None
    assert found.settings["fusion"][0].tolist() == [k / 10 for k in range(11)]
    for t in (0, 4, 10):
        point = fit | {"fusion": found.settings["fusion"][:, t].double()}
        served = method.logits(method.head(point, task), query)
        assert torch.equal(hits(served, labels), found.hits[:, t])


@pytest.mark.parametrize("prompts", ["frozen", "learned"])
def test_other_classes_are_served_by_their_own_pictures_from_a_bundle_too(prompts: str) -> None:
    method, task = made(epochs=2, prompts=prompts)
    params = learned(method, task)
    few = task.labels < 3
    rows, labels = (x[few].view(2, -1) for x in (task.rows, task.labels))
    text = {name: x[:3] for name, x in task.text.items()}
    fewer = replace(task, rows=rows, labels=labels, text=text, n_classes=3)
    query, whole = query_of(method, 7), method.head(params, task)
    exact = method.logits(whole, query)[..., :3]
    for known in (params, whole):
        part = method.logits(method.head(known, fewer), query)
        torch.testing.assert_close(part, exact, rtol=0, atol=1e-12)


def test_an_episode_is_some_classes_whole_whatever_their_numbers() -> None:
    labels = torch.arange(12).view(4, 3).argsort(dim=0).flatten().expand(2, -1) % 4
    device, dtype = torch.device("cpu"), torch.float64
    drawn = episodes(labels, 4, 2, Generators(SEEDS, "order", device, dtype))
    renamed = episodes(3 - labels, 4, 2, Generators(SEEDS, "order", device, dtype))
    seen = set()
    for _ in range(12):
        index = next(drawn)
        assert torch.equal(index, next(renamed))
        for v in range(2):
            classes = labels[v][index[v]].bincount(minlength=4)
            assert sorted(classes.tolist()) == [0, 0, 3, 3]
            seen.add(tuple(classes.nonzero().flatten().tolist()))
    assert len(seen) == 6
    whole = next(episodes(labels, 4, 9, Generators(SEEDS, "order", device, dtype)))
    assert torch.equal(whole, torch.arange(12).expand(2, -1))


def test_classes_that_an_episode_lacks_are_out_of_its_question() -> None:
    method, task = made(way=2)
    params = method.init(task, Generators(SEEDS, "init", task.device, task.dtype))
    index = next(method.order(task, Generators(SEEDS, "order", task.device, task.dtype)))
    assert index.shape == (2, 2 * SHOTS)
    assert method.per_epoch(task) == 2
    assert method.loss(params, batch_of(task, index)).isfinite().all()


def test_the_plan_sees_two_layers_of_twice_the_width_with_gradients_and_moments() -> None:
    method, task = made()
    weights = 3 * 4 * E * E * 8
    assert memory.variants_at_once(method, task, 2 * 10 * weights) <= 10


def test_constants_are_those_of_most_data_sets_of_the_release() -> None:
    assert Sgva.fixed(16, 100.0) == {
        "prompts": "frozen", "fusion": 0.5, "way": 50, "context_lr": 3.5e-3, "lr": 3.5e-3,
        "epochs": 100, "optimizer": "sgd", "weight_decay": 5e-4, "schedule": "dassl",
    }  # fmt: skip
    rates = [Sgva.fixed(shots, 100.0)["lr"] for shots in (1, 2, 3, 4, 8, 12, 16, 32)]
    assert rates == [5e-4, 1.5e-3, 1.5e-3, 3e-3, 1.5e-3, 1.5e-3, 3.5e-3, 3.5e-3]
