"""CPL against its recipe written out, picture by picture and class by class."""

from math import log

import torch
from torch import Tensor
from torch.nn import functional

from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import Params, Settings
from cacheclip.methods.cocoop import CoCoop
from cacheclip.methods.cpl import Cpl
from cacheclip.task import Generators, Query, unit
from tests.heads.test_counterfactual import weighed
from tests.methods.explicit import SEEDS, C, D, N, Problem, dassl, normal, problem
from tests.methods.tasks import batch_of
from tests.methods.test_cocoop import start
from tests.methods.test_coop import class_text, tokens, tower

EPOCHS = 2
OWN: Settings = {"epochs": EPOCHS, "lr": 0.01}
ENCODER = {"tower": tower()}


def made(*settings: Settings, kind: type[Cpl | CoCoop] = Cpl, views: int = 1) -> Problem:
    return problem(kind, settings, encoder=ENCODER, text={"tokens": tokens()}, views=views)


def begun(both: Problem) -> Params:
    """The params before the first step."""
    assert isinstance(both.method, Cpl)
    random = Generators(SEEDS, "init", both.task.device, torch.float64)
    return both.method.init(both.task, random)


def shares(v: int) -> Tensor:
    """Which picture of the other class each one gets, drawn after the net of CoCoOp."""
    random = Generators([SEEDS[v]], "init", torch.device("cpu"), torch.float64)
    for shape in ((8, D), (8,), (8, 8), (8,)):
        random.uniform(1, shape)
    return random.uniform(0.5, (N,))[0] + 0.5


def counterfactuals(both: Problem, v: int) -> tuple[Tensor, Tensor]:
    """x- [N, D] and u* [N, D] of variant v, picture by picture."""
    x, labels = both.variant(v)
    text = both.task.text["norm-mean"]
    others, edits = [], []
    for one, label, share in zip(x, labels.tolist(), shares(v).tolist(), strict=True):
        rival = max((c for c in range(C) if c != label), key=lambda c: float(text[c] @ text[label]))
        pictures = [k for k in range(N) if labels[k] == rival]
        other = x[pictures[int(share * len(pictures))]]
        others.append(other)
        edits.append(weighed(one, other, text[label], text[rival]))
    return torch.stack(others), torch.stack(edits)


def cost(
    whole: TextTransformer, x: Tensor, other: Tensor, found: Tensor, label: int, parts: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [C] of a picture, by how much it beats its counterfactual [C], and its mask [D]."""
    context, down, down_bias, up, up_bias, mask = parts
    shift = functional.linear(functional.linear(x, down, down_bias).relu(), up, up_bias)
    text = class_text(whole, context + shift)
    u = (0.999 * (2.0 * found - 1) + 0.001 * mask[label]).clamp(0, 1)
    changed = functional.normalize((1 - u) * x + u * other, dim=-1)
    return 100 * text @ x, text @ x - text @ changed, u


def leads_of(both: Problem, v: int) -> Tensor:
    """How much the pictures of variant v beat the others at the start, [N, C]."""
    whole = TextTransformer.of(tower(), torch.float64)
    x, labels = both.variant(v)
    others, _ = counterfactuals(both, v)
    parts = [*start(SEEDS[v]), torch.ones(C, D, dtype=torch.float64)]
    ones = torch.ones(D, dtype=torch.float64)
    leads = [cost(whole, x[k], others[k], ones, int(labels[k]), parts)[1] for k in range(N)]
    return torch.stack(leads)


def test_it_is_the_recipe_written_out() -> None:
    own: Settings = {**OWN, "strength": 5.0}
    both = made(own, {**own, "lr": 0.02})
    x_test = unit(normal(3, D, seed=4))
    logits = both.method.logits(both.head(), Query({"image": x_test}, ENCODER))
    whole = TextTransformer.of(tower(), torch.float64)
    v = 1  # of two, which the contract holds to be as one by one
    x, labels = both.variant(v)
    others, edits = counterfactuals(both, v)
    masks = torch.ones(C, D, dtype=torch.float64)
    parts = [part.requires_grad_() for part in (*start(SEEDS[v]), masks)]
    sgd = torch.optim.SGD(parts, lr=1.0, momentum=0.9, weight_decay=5e-4)
    orders = both.orders(v)
    for rate in dassl(both.setting("lr", v), EPOCHS):
        sgd.param_groups[0]["lr"] = rate
        for k in next(orders).tolist():
            sgd.zero_grad()
            score, lead, u = cost(whole, x[k], others[k], edits[k], int(labels[k]), parts)
            norm = u.norm() if u.any() else torch.zeros((), dtype=torch.float64)
            fit = functional.cross_entropy(score[None], labels[k][None])
            contrast = -functional.logsigmoid(lead).mean()
            torch.autograd.backward(fit + 5.0 * (contrast + 0.07 * norm))
            sgd.step()
    learned = [part.detach() for part in parts]
    zeros = torch.zeros(D, dtype=torch.float64)
    exact = [cost(whole, one, one, zeros, 0, learned)[0] for one in x_test]
    torch.testing.assert_close(logits[v], torch.stack(exact), rtol=0, atol=1e-6)


def test_strength_zero_is_cocoop() -> None:
    none: Settings = {**OWN, "strength": 0.0}
    query = Query({"image": unit(normal(4, D, seed=4))}, ENCODER)
    cpl, cocoop = made(none, none), made(OWN, OWN, kind=CoCoop)
    got, expected = (both.method.logits(both.head(), query) for both in (cpl, cocoop))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    held = made({**OWN, "strength": 50.0}, {**OWN, "strength": 50.0})
    assert (held.method.logits(held.head(), query) - expected).abs().max() > 1e-3


def test_an_empty_mask_leaves_the_picture_and_a_full_one_is_the_other_picture() -> None:
    both = made(OWN, OWN)
    params, batch = begun(both), batch_of(both.task)
    assert isinstance(both.method, Cpl)
    fit = CoCoop().loss(params, batch)
    edits, masks = params["edits"], params["mask"]
    empty = params | {"edits": torch.zeros_like(edits), "mask": torch.zeros_like(masks)}
    torch.testing.assert_close(both.method.loss(empty, batch) - fit, torch.full_like(fit, log(2)))
    full = params | {"edits": torch.ones_like(edits)}
    same = full | {"others": batch.query["image"][:, :, None]}
    norm = 0.07 * D**0.5
    expected = torch.full_like(fit, log(2) + norm)
    torch.testing.assert_close(both.method.loss(same, batch) - fit, expected)
    for contrast, counted in (("all", False), ("own", True)):
        method = Cpl(contrast=contrast)
        apart = method.loss(full, batch) - fit - norm
        for v in range(2):
            leads = leads_of(both, v)  # [N, C]
            if counted:
                leads = leads.gather(1, both.task.labels[v][:, None])
            by_hand = -functional.logsigmoid(leads).mean()
            torch.testing.assert_close(apart[v], by_hand, rtol=0, atol=1e-10)


def test_each_view_has_its_own_counterfactual_of_the_same_view() -> None:
    both = made(OWN, OWN, views=2)
    params, task = begun(both), both.task
    for view in range(2):
        x = task.support(view)["image"]
        text = task.text["norm-mean"]
        for v, k in ((0, 0), (1, 5)):
            other = params["others"][v, k, view]
            (at,) = (x[v] == other).all(-1).nonzero()[:, 0].tolist()
            pair = text[task.labels[v, k]], text[task.labels[v, at]]
            assert torch.equal(params["edits"][v, k, view], weighed(x[v, k], other, *pair))


def test_constants_are_those_of_cocoop_and_the_published_weight() -> None:
    assert Cpl.fixed(16, 100.0) == CoCoop.fixed(16, 100.0) | {"strength": 1.0, "contrast": "all"}
    assert Cpl.fixed(16, 20.0)["strength"] == 0.2
    assert Cpl.fixed(16, 100.0, "as-paper")["contrast"] == "own"
