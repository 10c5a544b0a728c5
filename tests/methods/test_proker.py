"""ProKeR against the released formula written out, and its ends."""

import torch
from torch import Tensor

from cacheclip.methods.base import SEARCH
from cacheclip.methods.proker import BETAS, LAMS, Proker
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, N, normal, problem
from tests.methods.tasks import reordered

X, LABELS = unit(normal(40, D, seed=4)), torch.arange(40) % C


def explicit(x: Tensor, labels: Tensor, text: Tensor, beta: float, lam: float) -> Tensor:
    """g + lam K (K + lam I)^-1 (Y - g), times the scale."""
    near = torch.exp(-beta * (1 - X @ x.T))
    kernel = torch.exp(-beta * (1 - x @ x.T)) + lam * torch.eye(len(x), dtype=x.dtype)
    left = torch.nn.functional.one_hot(labels, C) - x @ text.T
    logits: Tensor = 100 * (X @ text.T + lam * near @ torch.linalg.inv(kernel) @ left)
    return logits


def test_it_is_the_formula_written_out_with_every_view_a_row() -> None:
    told = [{"beta": 3.0, "lam": 0.05}, {"beta": 1.2, "lam": 0.7}]
    for views in (1, 2):
        made = problem(Proker, told, views=views)
        logits = made.logits({"image": X})
        for v, own in enumerate(told):
            rows = (made.task.rows[v][:, None] * views + torch.arange(views)).flatten()
            x, labels = made.task.pool["image"][rows], made.task.labels[v].repeat_interleave(views)
            plain = explicit(x, labels, made.task.text["norm-mean"], **own)
            torch.testing.assert_close(logits[v], plain, rtol=0, atol=1e-8)


def test_its_ends() -> None:
    made = problem(Proker, [{"lam": 0.0}, {"beta": 0.0, "lam": 0.3}])
    logits, text = made.logits({"image": X}), made.task.text["norm-mean"]
    assert torch.equal(logits[0], 100 * (X @ text.T))  # nothing is learned
    added = logits[1] - 100 * X @ text.T  # the same for every picture: the kernel is constant
    torch.testing.assert_close(added, added[:1].expand_as(added), rtol=0, atol=1e-9)


def test_the_order_of_the_support_does_not_count() -> None:
    made = problem(Proker, [{}] * 2)
    moved = reordered(made.task, torch.randperm(N).expand(2, -1))
    again = made.method.head(made.method.solve(moved), moved)  # type: ignore[attr-defined]
    torch.testing.assert_close(
        made.method.logits(again, Query({"image": X})), made.logits({"image": X})
    )


def test_the_search_counts_what_the_logits_give() -> None:
    made = problem(Proker, [{"beta": SEARCH, "lam": SEARCH}] * 2)
    params = made.method.solve(made.task)  # type: ignore[attr-defined]
    found = made.method.search(params, Query({"image": X}), LABELS)
    assert found is not None
    assert found.hits.shape == (2, len(BETAS) * len(LAMS))
    for t in range(0, len(BETAS) * len(LAMS), 7):
        here = params | {name: x[:, t] for name, x in found.settings.items()}
        logits = made.method.logits(made.method.head(here, made.task), Query({"image": X}))
        assert torch.equal((logits.argmax(-1) == LABELS).sum(-1), found.hits[:, t])


def test_the_constants_of_every_shot_count_are_tried() -> None:
    for shots in (1, 2, 3, 4, 8, 16, 32):
        constant = Proker.fixed(shots, 100.0)
        assert constant["beta"] in BETAS
        assert constant["lam"] in LAMS
    assert Proker.fixed(3, 100.0) == Proker.fixed(2, 100.0) == {"beta": 2.6, "lam": 0.05}


def test_one_of_the_two_can_be_given() -> None:
    made = problem(Proker, [{"beta": 1.5, "lam": SEARCH}] * 2)
    params = made.method.solve(made.task)  # type: ignore[attr-defined]
    found = made.method.search(params, Query({"image": X}), LABELS)
    assert found is not None
    assert set(found.settings) == {"lam"}
    assert found.settings["lam"][0].tolist() == list(LAMS)
