"""TIMO and TIMO-S against their equations written out, and what these imply."""

from dataclasses import replace

import torch
from torch import Tensor

from cacheclip.heads.guided import ALPHAS, own_prompts, prompt_rows
from cacheclip.methods.base import SEARCH
from cacheclip.methods.timo import Timo
from cacheclip.methods.timo_s import TimoS
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, normal, problem
from tests.methods.test_gda import discriminant

X, LABELS = unit(normal(40, D, seed=4)), torch.arange(40) % C
PROMPTS = 3 * normal(C, 5, D, seed=9) + 1
PROMPTS[2, 1:3] = 0  # one class has three, between them no prompt
OWN = [unit(x[(x != 0).any(-1)])[:3] for x in PROMPTS]
TEXT = {"all:per-prompt": PROMPTS}


def explicit(x: Tensor, labels: Tensor, n: int, alpha: float, gamma: float) -> Tensor:
    words, rows, classes = [], [x], [labels]
    for c in range(C):
        mean = unit(x[labels == c].mean(0))
        m = OWN[c] @ mean
        a = torch.softmax(gamma * m / m.norm(), 0)
        words.append(unit((a[:, None] * OWN[c]).sum(0)))
        for k in range(n):
            p = m.argsort(descending=True)[k % len(m)]
            rows.append(m[p] * OWN[c][p][None])
            classes.append(torch.tensor([c]))
    weight, bias = discriminant(torch.cat(rows), torch.cat(classes))
    return 100 * X @ torch.stack(words).T + alpha * (X @ weight + bias)


def test_both_are_their_equations_written_out() -> None:
    told = [{"alpha": 0.7, "gamma": 5.0}, {"alpha": 3.0, "gamma": 50.0}]
    once = problem(Timo, told, text=TEXT)
    for method, n, made in (
        (Timo, 3, once),
        (TimoS, 2, problem(TimoS, [own | {"share": 0.6} for own in told], text=TEXT)),
        (TimoS, 5, problem(TimoS, [own | {"share": 1.6} for own in told], text=TEXT)),
    ):
        logits = made.logits({"image": X})
        for v, own in enumerate(told):
            x, labels = made.variant(v)
            plain = explicit(x, labels, n, own["alpha"], own["gamma"])
            torch.testing.assert_close(logits[v], plain, rtol=0, atol=1e-9, msg=method.name)


def test_every_view_is_a_row_and_their_mean_the_key() -> None:
    made = problem(Timo, [{"alpha": 0.0}] * 2, text=TEXT, views=1)
    one = made.logits({"image": X})
    raw = normal(1, seed=2).abs() + 1
    pool = {"image": made.task.pool["image"].repeat_interleave(2, 0)}
    pool["image-norm"] = raw.expand(len(pool["image"]), 1)
    twice = replace(made.task, pool=pool, views=2)  # the same view two times
    params = made.method.solve(twice)  # type: ignore[attr-defined]
    torch.testing.assert_close(made.method.logits(params, Query({"image": X})), one)


def test_without_gamma_and_alpha_it_is_zero_shot_of_its_prompts() -> None:
    made = problem(Timo, [{"alpha": 0.0, "gamma": 0.0}] * 2, text=TEXT)
    mean = torch.stack([unit(x.mean(0)) for x in OWN])
    torch.testing.assert_close(made.logits({"image": X})[0], 100 * X @ mean.T, rtol=0, atol=1e-10)
    flat = problem(Timo, [{"alpha": 0.0, "gamma": 1e4}] * 2, text=TEXT)
    x, labels = flat.variant(0)
    best = [OWN[c][(OWN[c] @ x[labels == c].mean(0)).argmax()] for c in range(C)]
    sharp = 100 * X @ torch.stack(best).T
    torch.testing.assert_close(flat.logits({"image": X})[0], sharp, rtol=0, atol=1e-6)


def test_prompts_are_cut_to_the_class_with_the_fewest_wherever_its_gaps_are() -> None:
    assert torch.equal(own_prompts(PROMPTS), torch.stack(OWN))
    fit = torch.tensor([[[0.1, 0.3, 0.2]] * C]).double()
    rows, labels = prompt_rows(torch.stack(OWN), fit, 4)
    assert rows.shape == (1, 4 * C, D)
    assert labels[0].tolist() == [c for c in range(C) for _ in range(4)]
    best = [0.3 * OWN[0][1], 0.2 * OWN[0][2], 0.1 * OWN[0][0], 0.3 * OWN[0][1]]
    torch.testing.assert_close(rows[0, :4], torch.stack(best))


def test_the_search_counts_what_the_logits_give() -> None:
    made = problem(TimoS, [{"alpha": SEARCH}] * 2, text=TEXT)
    params = made.head()
    found = made.method.search(params, Query({"image": X}), LABELS)
    assert found is not None
    assert found.settings["alpha"].tolist() == [list(ALPHAS)] * 2
    for t, alpha in enumerate(ALPHAS):
        here = params | {"alpha": torch.full((2,), alpha).double()}
        hits = (made.method.logits(here, Query({"image": X})).argmax(-1) == LABELS).sum(-1)
        assert torch.equal(hits, found.hits[:, t])
