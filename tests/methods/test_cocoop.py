"""CoCoOp against its recipe written out, picture by picture and class by class."""

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import Settings
from cacheclip.methods.cocoop import CoCoop
from cacheclip.methods.coop import Coop
from cacheclip.task import Generators, Query, unit
from tests.methods.explicit import SEEDS, D, Problem, dassl, normal, problem
from tests.methods.test_coop import WIDTH, class_text, tokens, tower

EPOCHS, HIDDEN = 3, 8
OWN: Settings = {"epochs": EPOCHS, "lr": 0.01}
ENCODER = {"tower": tower()}


def made(*settings: Settings) -> Problem:
    return problem(CoCoop, settings, encoder=ENCODER, text={"tokens": tokens()})


def start(seed: int) -> list[Tensor]:
    """The words, then weight and bias of both layers, as torch's Linear draws them."""
    random = Generators([seed], "init", torch.device("cpu"), torch.float64)
    wide, narrow = D**-0.5, HIDDEN**-0.5
    shapes = ((wide, (HIDDEN, D)), (wide, (HIDDEN,)), (narrow, (WIDTH, HIDDEN)), (narrow, (WIDTH,)))
    drawn = [random.uniform(bound, shape)[0] for bound, shape in shapes]
    words = TextTransformer.of(tower(), torch.float64).embed(tower()["context"])
    return [words.clone(), *drawn]


def scores(whole: TextTransformer, x: Tensor, parts: list[Tensor]) -> Tensor:
    """Logits [n, C] of pictures [n, D]."""
    context, down, down_bias, up, up_bias = parts
    rows = []
    for one in x:
        shift = functional.linear(functional.linear(one, down, down_bias).relu(), up, up_bias)
        rows.append(100 * class_text(whole, context + shift) @ one)
    return torch.stack(rows)


def test_it_is_the_recipe_written_out() -> None:
    both = made(OWN, {**OWN, "batch_size": 1, "lr": 0.02})
    x_test = unit(normal(5, D, seed=4))
    logits = both.method.logits(both.head(), Query({"image": x_test}, ENCODER))
    whole = TextTransformer.of(tower(), torch.float64)
    for v in range(2):
        x, labels = both.variant(v)
        parts = [part.requires_grad_() for part in start(SEEDS[v])]
        sgd = torch.optim.SGD(parts, lr=1.0, momentum=0.9, weight_decay=5e-4)
        orders = both.orders(v)
        for rate in dassl(both.setting("lr", v), EPOCHS):
            sgd.param_groups[0]["lr"] = rate
            for k in next(orders):
                sgd.zero_grad()
                loss = functional.cross_entropy(scores(whole, x[k][None], parts), labels[k][None])
                torch.autograd.backward(loss)
                sgd.step()
        learned = [part.detach() for part in parts]
        assert (
            max((a - b).abs().max() for a, b in zip(learned, start(SEEDS[v]), strict=True)) > 1e-3
        )
        torch.testing.assert_close(logits[v], scores(whole, x_test, learned), rtol=0, atol=1e-7)


def test_without_the_net_it_is_coop_and_equal_pictures_get_equal_prompts() -> None:
    both = made(OWN, OWN)
    random = Generators(SEEDS, "init", both.task.device, torch.float64)
    learned = CoCoop().init(both.task, random)
    x = unit(normal(1, D, seed=4)).repeat(2, 1)
    query = Query({"image": x}, ENCODER)
    moved = both.method.logits(both.method.head(learned, both.task), query)
    torch.testing.assert_close(moved[:, 0], moved[:, 1], rtol=0, atol=1e-12)
    still = learned | {name: torch.zeros_like(learned[name]) for name in ("up", "up_bias")}
    coop = Coop(context="words")
    words = {name: learned[name] for name in ("context", "logit_scale")}
    expected = coop.logits(coop.head(words, both.task), query)
    got = both.method.logits(both.method.head(still, both.task), query)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    assert (moved - expected).abs().max() > 0.1


def test_constants_are_the_released_ones() -> None:
    assert CoCoop.fixed(16, 100.0) == {
        "lr": 2e-3, "epochs": 10, "batch_size": 1, "optimizer": "sgd", "weight_decay": 5e-4,
        "schedule": "dassl",
    }  # fmt: skip
