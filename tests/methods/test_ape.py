"""APE against the released loops written out, and what its formulas imply."""

import torch
from torch import Tensor

from cacheclip.methods.ape import Ape
from cacheclip.methods.base import SEARCH
from cacheclip.methods.tip_adapter import TipAdapter
from cacheclip.task import Query, unit
from tests.methods.explicit import SHOTS, C, D, N, normal, problem

X, LABELS = unit(normal(40, D, seed=4)), torch.arange(40) % C


def score(members: list[Tensor], text: Tensor, variance: float) -> Tensor:
    """The criterion of every channel by four loops; members [M, D] of each class."""
    similar, pairs = torch.zeros(D, dtype=torch.float64), 0
    for i in range(C):
        for j in range(C):
            for one in members[i] if i != j else ():
                for other in members[j]:
                    similar += one * other
                    pairs += 1
    spread = ((text - text.mean(0)) ** 2).sum(0) / (C - 1)
    return variance * spread - (1 - variance) * similar / pairs


def explicit(x: Tensor, labels: Tensor, text: Tensor, Q: int, **told: float) -> Tensor:
    members = [torch.cat([text[c : c + 1], x[labels == c]]) for c in range(C)]
    best = score(members, text, told["variance"]).argsort(descending=True)[:Q]
    keys, queries, words = unit(x[:, best]), unit(X[:, best]), unit(text[:, best])
    logits = 100 * X @ text.T
    for k, key in enumerate(keys):
        c = labels[k]
        p = torch.softmax(words @ key, 0)[c]
        r = torch.exp(told["gamma"] * torch.log2((1 + 1e-6) / (p + 1e-6)))
        logits[:, c] += told["alpha"] * r * torch.exp(-told["beta"] * (1 - queries @ key))
    return logits


def test_it_is_the_released_loops() -> None:
    told = [
        {"alpha": 2.0, "beta": 3.0, "gamma": 0.4, "variance": 0.3, "channels": 0.5},
        {"alpha": 0.7, "beta": 8.0, "gamma": 1.0, "variance": 0.9, "channels": 0.5},
    ]
    made = problem(Ape, told)
    logits, text = made.logits({"image": X}), made.task.text["all:norm-mean"]
    for v, own in enumerate(told):
        x, labels = made.variant(v)
        plain = explicit(x, labels, text, round(own["channels"] * D), **own)
        torch.testing.assert_close(logits[v], plain, rtol=0, atol=1e-10)


def test_all_channels_and_equal_keys_are_tip_adapter_and_no_alpha_zero_shot() -> None:
    text = unit(normal(C, D, seed=9))
    same = {"alpha": 3.0, "beta": 4.0}
    plain = {"gamma": 0.0, "channels": 1.0}
    ape = problem(Ape, [same | plain, {"alpha": 0.0, **plain}], text={"all:norm-mean": text})
    tip = problem(TipAdapter, [same] * 2, text={"norm-mean": text}).logits({"image": X})
    logits = ape.logits({"image": X})
    torch.testing.assert_close(logits[0], tip[0], rtol=0, atol=1e-10)
    assert torch.equal(logits[1], 100 * (X @ text.T))


def test_the_channels_do_not_depend_on_the_order_of_the_classes() -> None:
    made = problem(Ape, [{}] * 2)
    order = torch.tensor([2, 0, 3, 1])  # class c is called order[c] now
    text = torch.empty_like(made.task.text["all:norm-mean"])
    text[order] = made.task.text["all:norm-mean"]
    plain = made.method.solve(made.task)["channels"]  # type: ignore[attr-defined]
    moved = problem(Ape, [{}] * 2, text={"all:norm-mean": text}).task
    moved.labels.copy_(order[made.task.labels])
    again = made.method.solve(moved)["channels"]  # type: ignore[attr-defined]
    assert torch.equal(plain, again)
    assert plain.shape == (2, round(500 / 1024 * D))


def test_the_search_counts_what_the_logits_give() -> None:
    made = problem(Ape, [{"alpha": SEARCH, "beta": SEARCH}] * 2)
    params = made.head()
    found = made.method.search(params, Query({"image": X}), LABELS)
    assert found is not None
    judged = found.log_p.isfinite().all(-1)  # what others' hits do not rule out
    for v, t in judged.nonzero()[::5].tolist():
        here = params | {name: x[:, t] for name, x in found.settings.items()}
        logits = made.method.logits(here, Query({"image": X}))[v]
        assert int((logits.argmax(-1) == LABELS).sum()) == int(found.hits[v, t])


def test_a_key_counts_more_the_less_zero_shot_knows_it() -> None:
    made = problem(Ape, [{"gamma": 0.5}] * 2)
    params = made.method.solve(made.task)  # type: ignore[attr-defined]
    assert params["values"].shape == (2, N)
    assert N == C * SHOTS
    text = unit(params["weight"].gather(-1, params["channels"][:, None].expand(-1, C, -1)))
    p = (params["keys"] @ text.mT).softmax(-1)
    own = p.gather(-1, params["labels"].unsqueeze(-1)).squeeze(-1)
    assert torch.equal(own[0].argsort(), params["values"][0].argsort(descending=True))
