"""CoOp against its recipe written out, class by class and prompt by prompt."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.coop import Coop
from cacheclip.task import Generators, unit
from tests.methods.explicit import SEEDS, C, D, N, dassl, normal, problem

EPOCHS, BATCH, WIDTH, LENGTH, START, END = 4, 5, 8, 12, 28, 29
NAMES = [[10, 1], [11, 12, 1], [13, 1], [14, 15, 16, 1]]


def tower() -> dict[str, Tensor]:
    """One random block over thirty tokens, by the names that a store gives it."""
    block = {
        "ln_1.weight": (WIDTH,), "ln_1.bias": (WIDTH,),
        "attn.in_proj_weight": (3 * WIDTH, WIDTH), "attn.in_proj_bias": (3 * WIDTH,),
        "attn.out_proj.weight": (WIDTH, WIDTH), "attn.out_proj.bias": (WIDTH,),
        "ln_2.weight": (WIDTH,), "ln_2.bias": (WIDTH,),
        "mlp.c_fc.weight": (16, WIDTH), "mlp.c_fc.bias": (16,),
        "mlp.c_proj.weight": (WIDTH, 16), "mlp.c_proj.bias": (WIDTH,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        f"transformer.resblocks.0.{name}": shape for name, shape in block.items()
    }
    shapes |= {
        "token_embedding.weight": (30, WIDTH), "positional_embedding": (LENGTH, WIDTH),
        "ln_final.weight": (WIDTH,), "ln_final.bias": (WIDTH,), "text_projection": (WIDTH, D),
    }  # fmt: skip
    weights = {n: normal(*shape, seed=20 + k) for k, (n, shape) in enumerate(shapes.items())}
    facts = {"heads": [2], "quick-gelu": [1], "start": [START], "end": [END], "stop": [1]}
    return weights | {n: torch.tensor(x) for n, x in (facts | {"context": [2, 3, 4, 2]}).items()}


def tokens() -> Tensor:
    rows = [[START, *name, END] for name in NAMES]
    return torch.tensor([row + [0] * (6 - len(row)) for row in rows])


def class_text(whole: TextTransformer, context: Tensor) -> Tensor:
    """Unit features of the prompts, one class at a time: [C, D]."""
    features = []
    for name in NAMES:
        before, after = (whole.embed(torch.tensor(x)) for x in ([START], [*name, END]))
        x = torch.cat([before, context, after])[None]
        features.append(whole.features(x, torch.tensor([x.shape[1] - 1]))[0])
    return functional.normalize(torch.stack(features), dim=-1)


def made(**settings: Any) -> Any:
    own = {"epochs": EPOCHS, "batch_size": BATCH, "context": 3, **settings}
    other = {**own, "lr": 0.01}
    return problem(Coop, [own, other], encoder={"tower": tower()}, text={"tokens": tokens()})


def test_it_is_the_recipe_written_out() -> None:
    both = made()
    x_test = unit(normal(9, D, seed=4))
    logits, whole = both.logits({"image": x_test}), TextTransformer.of(tower(), torch.float64)
    for v in range(2):
        x, labels = both.variant(v)
        random = Generators([SEEDS[v]], "init", torch.device("cpu"), torch.float64)
        start = random.normal(0.02, (3, WIDTH))[0]
        context = start.clone().requires_grad_()
        sgd = torch.optim.SGD([context], lr=1.0, momentum=0.9, weight_decay=5e-4)
        orders = both.orders(v)
        for rate in dassl(both.setting("lr", v), EPOCHS):
            sgd.param_groups[0]["lr"] = rate
            order = next(orders)
            for first in range(0, N - BATCH + 1, BATCH):
                batch = order[first : first + BATCH]
                sgd.zero_grad()
                scores = 100 * x[batch] @ class_text(whole, context).T
                torch.autograd.backward(functional.cross_entropy(scores, labels[batch]))
                sgd.step()
        assert (context.detach() - start).abs().max() > 1e-3
        exact = 100 * x_test @ class_text(whole, context.detach()).T
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-8)


def test_words_are_where_their_prompt_is_zero_shot() -> None:
    both = made(context="words", lr=0.0, weight_decay=0.0, schedule="constant")
    whole = TextTransformer.of(tower(), torch.float64)
    prompts = [[START, 2, 3, 4, 2, *name, END] for name in NAMES]
    features = [whole.features(whole.embed(torch.tensor([p])), torch.tensor([len(p) - 1]))[0]
                for p in prompts]  # fmt: skip
    head = both.head()
    assert head["weight"].shape == (2, C, D)
    torch.testing.assert_close(head["weight"][0], unit(torch.stack(features)), rtol=0, atol=1e-12)


def test_constants_are_the_released_ones() -> None:
    assert Coop.fixed(16, 100.0) == {
        "context": 16, "lr": 2e-3, "epochs": 200, "batch_size": 32,
        "optimizer": "sgd", "weight_decay": 5e-4, "schedule": "dassl",
    }  # fmt: skip
    assert [Coop.fixed(shots, 100.0)["epochs"] for shots in (1, 2, 4, 8)] == [50, 100, 100, 200]
