"""After VTP-OVD: its steps written out, and where they start."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.coop import Coop
from cacheclip.methods.vtp_ovd_like import VtpOvdLike
from cacheclip.task import Generators, unit
from tests.methods.explicit import SEEDS, C, D, N, dassl, normal, problem
from tests.methods.test_coop import class_text, tokens, tower

EPOCHS, BATCH = 2, 5


def made(**settings: Any) -> Any:
    own = {"epochs": EPOCHS, "batch_size": BATCH, "reduction": 2, **settings}
    other = {**own, "lr": 0.02}
    return problem(VtpOvdLike, [own, other], encoder={"tower": tower()}, text={"tokens": tokens()})


def told(x: Tensor, text: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """Each picture beside what the classes tell it, one picture and one class at a time."""
    rows = []
    for picture in x:
        ask = picture @ maps["ask"]
        looks = torch.stack([ask @ (own @ maps["key"]) for own in text]) / ask.shape[0] ** 0.5
        shares = looks.exp() / looks.exp().sum()
        answer = sum(share * (own @ maps["value"]) for share, own in zip(shares, text, strict=True))
        rows.append(functional.normalize(picture + answer @ maps["out"], dim=0))
    return torch.stack(rows)


def test_it_is_its_steps_written_out() -> None:
    both = made()
    x_test = unit(normal(9, D, seed=4))
    logits, whole = both.logits({"image": x_test}), TextTransformer.of(tower(), torch.float64)
    words = whole.embed(torch.tensor([2, 3, 4, 2]))
    for v in range(2):
        x, labels = both.variant(v)
        random = Generators([SEEDS[v]], "init", torch.device("cpu"), torch.float64)
        A = D // 2
        maps = {n: random.uniform(D**-0.5, (D, A))[0] for n in ("ask", "key", "value")}
        maps["out"] = torch.zeros(A, D, dtype=torch.float64)
        moved = [words.clone().requires_grad_(), *(m.requires_grad_() for m in maps.values())]
        sgd = torch.optim.SGD(moved, lr=1.0, momentum=0.9, weight_decay=5e-4)
        orders = both.orders(v)
        for rate in dassl(both.setting("lr", v), EPOCHS):
            sgd.param_groups[0]["lr"] = rate
            order = next(orders)
            for first in range(0, N - BATCH + 1, BATCH):
                batch = order[first : first + BATCH]
                sgd.zero_grad()
                text = class_text(whole, moved[0])
                scores = 100 * told(x[batch], text, maps) @ text.T
                torch.autograd.backward(functional.cross_entropy(scores, labels[batch]))
                sgd.step()
        with torch.no_grad():
            assert maps["out"].abs().max() > 1e-4
            text = class_text(whole, moved[0])
            exact = 100 * told(x_test, text, maps) @ text.T
        torch.testing.assert_close(logits[v], exact, rtol=0, atol=1e-7)


def test_before_any_step_it_is_coop_by_the_words_it_starts_from() -> None:
    """A module that says nothing yet leaves zero-shot by "a photo of a"."""
    still = {"lr": 0.0, "weight_decay": 0.0, "schedule": "constant", "epochs": 1}
    x = {"image": unit(normal(9, D, seed=4))}
    own: dict[str, Any] = {"batch_size": BATCH, "context": "words", **still}
    words = problem(Coop, [own, own], encoder={"tower": tower()}, text={"tokens": tokens()})
    start = made(**still).logits(x)
    torch.testing.assert_close(start[0], words.logits(x)[0], rtol=0, atol=1e-10)
    assert start.shape == (2, 9, C)


def test_the_same_module_serves_other_classes() -> None:
    """It is fed by the classes that are asked about: fewer of them tell a picture other things."""
    both = made()
    whole, x = both.head(), unit(normal(9, D, seed=4))
    few = whole | {"weight": whole["weight"][:, :2]}
    method = VtpOvdLike(reduction=2)
    from cacheclip.task import Query

    all_, two = (method.logits(p, Query({"image": x})) for p in (whole, few))
    assert two.shape == (2, 9, 2)
    assert (all_[..., :2] - two).abs().max() > 1e-6
