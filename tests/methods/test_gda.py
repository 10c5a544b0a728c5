"""GDA against the released formula and search, written out."""

import torch
from torch import Tensor

from cacheclip.methods.base import SEARCH
from cacheclip.methods.gda import Gda
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, normal, problem
from tests.methods.tasks import reordered

VIEWS = 2
X, LABELS = unit(normal(40, D, seed=4)), torch.arange(40) % C


def discriminant(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [D, C] and bias [C] with the pseudo-inverse of the shrunken covariance."""
    means = torch.stack([x[labels == c].mean(0) for c in range(C)])
    centred = torch.cat([x[labels == c] - means[c] for c in range(C)])
    covariance = centred.T.cov()
    shrunk = (len(x) - 1) * covariance + covariance.trace() * torch.eye(D, dtype=x.dtype)
    P = D * torch.linalg.pinv(shrunk)
    bias = (
        torch.log(torch.tensor(1 / C).double()) - torch.einsum("cd,de,ce->c", means, P, means) / 2
    )
    return P @ means.T, bias


def both(views: int, v: int, **settings: float) -> tuple[Tensor, Tensor]:
    made = problem(Gda, [{}] * 2, views=views)
    rows = (made.task.rows[v][:, None] * views + torch.arange(views)).flatten()
    labels = made.task.labels[v].repeat_interleave(views)
    weight, bias = discriminant(made.task.pool["image"][rows], labels)
    return 100 * X @ made.task.text["norm-mean"].T, X @ weight + bias


def test_it_is_the_formula_written_out() -> None:
    for views in (1, VIEWS):
        logits = problem(Gda, [{"alpha": 0.0}, {"alpha": 2.5}], views=views).logits({"image": X})
        torch.testing.assert_close(logits[0], both(views, 0)[0], rtol=0, atol=1e-10)
        zero_shot, gaussian = both(views, 1)
        torch.testing.assert_close(logits[1], zero_shot + 2.5 * gaussian, rtol=0, atol=1e-9)


def test_the_search_counts_what_the_logits_give() -> None:
    made = problem(Gda, [{"alpha": SEARCH}] * 2)
    found = made.method.search(made.head(), Query({"image": X}), LABELS)
    assert found is not None
    for v in range(2):
        zero_shot, gaussian = both(1, v)
        for place, alpha in enumerate(found.settings["alpha"][v].tolist()):
            hits = int(((zero_shot + alpha * gaussian).argmax(-1) == LABELS).sum())
            assert int(found.hits[v, place]) == hits
    assert found.settings["alpha"][0].tolist() == [0, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100]
    assert found.log_p.shape == (2, 8, 40)


def test_one_picture_a_class_leaves_zero_shot() -> None:
    made = problem(Gda, [{"alpha": 100.0}] * 2)
    one = reordered(made.task, torch.tensor([[0, 1, 2, 3], [0, 3, 6, 9]]))
    params = made.method.solve(one)  # type: ignore[attr-defined]
    logits = made.method.logits(params, Query({"image": X}))
    assert torch.equal(logits.argmax(-1)[0], both(1, 0)[0].argmax(-1))
