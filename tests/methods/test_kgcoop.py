"""KgCoOp against its recipe written out, and at both ends of what holds it."""

from dataclasses import replace

import torch
from torch.nn import functional

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import Settings
from cacheclip.methods.kgcoop import KgCoop
from cacheclip.task import unit
from tests.methods.explicit import D, N, Problem, dassl, normal, problem
from tests.methods.tasks import batch_of, randoms
from tests.methods.test_coop import class_text, tokens, tower

EPOCHS, BATCH = 4, 5
OWN: Settings = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.01}


def made(*settings: Settings) -> Problem:
    return problem(KgCoop, settings, encoder={"tower": tower()}, text={"tokens": tokens()})


def words(whole: TextTransformer) -> torch.Tensor:
    return whole.embed(tower()["context"]).clone()


def test_it_is_the_recipe_written_out() -> None:
    both = made(OWN, {**OWN, "strength": 30.0})
    x_test, hand = unit(normal(9, D, seed=4)), both.task.text["norm-mean"]
    logits, whole = both.logits({"image": x_test}), TextTransformer.of(tower(), torch.float64)
    for v in range(2):
        x, labels = both.variant(v)
        context = words(whole).requires_grad_()
        sgd = torch.optim.SGD([context], lr=1.0, momentum=0.9, weight_decay=5e-4)
        orders = both.orders(v)
        for rate in dassl(0.01, EPOCHS):
            sgd.param_groups[0]["lr"] = rate
            order = next(orders)
            for first in range(0, N - BATCH + 1, BATCH):
                batch = order[first : first + BATCH]
                text = class_text(whole, context)
                away = (1 - functional.cosine_similarity(text, hand)).mean()
                loss = functional.cross_entropy(100 * x[batch] @ text.T, labels[batch])
                sgd.zero_grad()
                torch.autograd.backward(loss + both.setting("strength", v) * away)
                sgd.step()
        assert (context.detach() - words(whole)).abs().max() > 1e-3
        exact = 100 * x_test @ class_text(whole, context.detach()).T
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-8)


def test_templates_that_are_its_own_words_are_at_no_distance() -> None:
    """There the loss is CoOp's, whatever holds it."""
    whole = TextTransformer.of(tower(), torch.float64)
    both = problem(
        KgCoop,
        [OWN, {**OWN, "strength": 1e5}],
        encoder={"tower": tower()},
        text={"tokens": tokens(), "norm-mean": class_text(whole, words(whole))},
    )
    same = replace(both.task, rows=both.task.rows[[0, 0]], labels=both.task.labels[[0, 0]])
    method = KgCoop()
    losses = method.loss(method.init(same, randoms(same)), batch_of(same))
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-9)


def test_held_harder_it_stays_nearer_to_the_templates() -> None:
    own: Settings = {**OWN, "epochs": 12, "lr": 1e-3}
    weak, strong = (made({**own, "strength": x}, own) for x in (0.0, 100.0))
    hand = weak.task.text["norm-mean"]
    near = [(made.head()["weight"][0] * hand).sum(-1).mean() for made in (weak, strong)]
    assert near[1] > near[0]


def test_constants_are_the_released_ones() -> None:
    assert KgCoop.fixed(16, 100.0) == {
        "strength": 8.0, "lr": 2e-3, "epochs": 100, "batch_size": 128,
        "optimizer": "sgd", "weight_decay": 5e-4, "schedule": "dassl",
    }  # fmt: skip
    assert KgCoop.fixed(16, 100.0, "as-paper")["strength"] == 16.0
