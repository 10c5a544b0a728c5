"""Kernel logistic regression against its objective, minimised by other means, and its ends."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cacheclip.heads import kernel_logistic as heads
from cacheclip.methods.base import SEARCH
from cacheclip.methods.kernel_logistic import TRIED, KernelLogistic
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, N, normal, problem
from tests.methods.tasks import reordered

X, LABELS = unit(normal(40, D, seed=4)), torch.arange(40) % C


def minimised(kernel: Tensor, given: Tensor, labels: Tensor, b: float) -> Tensor:
    """The function K a on the rows, by L-BFGS on the objective itself."""
    a = torch.zeros(len(kernel), C, dtype=kernel.dtype, requires_grad=True)
    steps = torch.optim.LBFGS(
        [a], max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        steps.zero_grad()
        loss = cross_entropy(given + kernel @ a, labels, reduction="sum")
        loss = loss + (a * (kernel @ a)).sum() / (2 * b)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    steps.step(objective)  # type: ignore[no-untyped-call]
    return (kernel @ a).detach()


def test_it_is_the_minimum_with_every_view_a_row() -> None:
    told = [{"C": 0.03, "beta": 3.0}, {"C": 0.01, "beta": 1.2}]
    for views in (1, 2):
        made = problem(KernelLogistic, told, views=views)
        for v, own in enumerate(told):
            rows = (made.task.rows[v][:, None] * views + torch.arange(views)).flatten()
            x, labels = made.task.pool["image"][rows], made.task.labels[v].repeat_interleave(views)
            kernel = torch.exp(-own["beta"] * (1 - x @ x.T))
            given = 100 * x @ made.task.text["norm-mean"].T
            wanted = given + minimised(kernel, given, labels, 100 * own["C"])
            logits = made.logits({"image": x})[v]
            torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-3)


def test_its_ends() -> None:
    made = problem(KernelLogistic, [{"C": 0.0}, {"C": 1000.0}])
    text = made.task.text["norm-mean"]
    assert torch.equal(made.logits({"image": X})[0], 100 * (X @ text.T))  # nothing is learned
    x, labels = made.variant(1)
    assert (made.logits({"image": x})[1].argmax(-1) == labels).all()  # all of the support is


def test_pictures_that_zero_shot_tells_well_move_nothing() -> None:
    made = problem(KernelLogistic, [{}] * 2)
    regression = heads.KernelLogistic(
        X[None], 1e3 * torch.eye(C, dtype=X.dtype)[LABELS][None], LABELS[None], X.new_ones(1)
    )
    assert float(regression.dual(X.new_full((1,), 30.0)).abs().max()) < 1e-12
    assert float(made.head()["dual"].abs().max()) > 1


def test_the_order_of_the_support_does_not_count() -> None:
    made = problem(KernelLogistic, [{}] * 2)
    moved = reordered(made.task, torch.randperm(N).expand(2, -1))
    again = made.method.head(made.method.solve(moved), moved)  # type: ignore[attr-defined]
    torch.testing.assert_close(
        made.method.logits(again, Query({"image": X})), made.logits({"image": X})
    )


def test_landmarks_that_span_all_rows_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = X[:20].repeat_interleave(2, 0)[None], LABELS[:20].repeat_interleave(2)[None]
    given, beta, b = normal(1, 40, C, seed=5), X.new_full((1,), 1.66), X.new_full((1,), 0.5)
    kernel = torch.exp(-1.66 * (1 - x[0] @ x[0].T))
    wanted = minimised(kernel, given[0], labels[0], 0.5)
    monkeypatch.setattr(heads, "MOST", 20)
    few = heads.landmarks(x)
    assert few.shape == (1, 20, D)
    dual = heads.KernelLogistic(x, given, labels, beta).dual(b)[0]
    near = torch.exp(-1.66 * (1 - x[0] @ few[0].T))
    torch.testing.assert_close(near @ dual, wanted, rtol=0, atol=1e-6)


def test_the_search_counts_what_the_logits_give() -> None:
    made = problem(KernelLogistic, [{"C": SEARCH}] * 2)
    params = made.method.solve(made.task)  # type: ignore[attr-defined]
    found = made.method.search(params, Query({"image": X}), LABELS)
    assert found is not None
    assert found.settings["C"][0].tolist() == pytest.approx(list(TRIED))
    for t in range(len(TRIED)):
        here = params | {name: x[:, t] for name, x in found.settings.items()}
        logits = made.method.logits(made.method.head(here, made.task), Query({"image": X}))
        assert torch.equal((logits.argmax(-1) == LABELS).sum(-1), found.hits[:, t])


def test_the_constant_is_tried() -> None:
    assert KernelLogistic.fixed(1, 100.0)["C"] in TRIED
