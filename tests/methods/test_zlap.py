"""ZLaP against the inverse of the whole matrix, and what its equation implies."""

import torch
from torch import Tensor

from cacheclip.methods.base import Settings
from cacheclip.methods.zlap import Zlap
from cacheclip.task import unit
from tests.methods.explicit import C, D, normal, problem

n = 15
X = unit(normal(n, D, seed=4))


def solved(text: Tensor, k: int, gamma: float, alpha: float) -> Tensor:
    """F [n, C] of the pictures, with W [C + n, C + n] written entry by entry, texts first."""
    W = torch.zeros(C + n, C + n, dtype=torch.float64)
    for i, x in enumerate(X):
        nearest = (X @ x).argsort(descending=True)[:k].tolist()  # itself among them
        for j in nearest:
            W[C + i, C + j] = max(0.0, float(X[j] @ x)) if j != i else 0.0
        for c in (text @ x).argsort(descending=True)[:k].tolist():
            W[C + i, c] = max(0.0, float(text[c] @ x)) ** gamma
    W = W + W.T
    degree = W.sum(1)
    degree[degree == 0] = 1
    S = W / (degree[:, None] * degree).sqrt()
    Y = torch.eye(C + n, dtype=torch.float64)[:, :C]
    F: Tensor = torch.linalg.solve(torch.eye(C + n, dtype=torch.float64) - alpha * S, Y)
    return F[C:]


def test_it_is_the_equation_solved_as_a_whole() -> None:
    for k in (1, 3):
        own: Settings = {"neighbours": k}
        made = problem(Zlap, [own, own | {"alpha": 0.9, "gamma": 1.5}])
        shares = made.logits({"image": X}).softmax(-1)
        for v, (gamma, alpha) in enumerate(((5.0, 0.3), (1.5, 0.9))):
            F = solved(made.task.text["norm-mean"], k, gamma, alpha)
            exact = (F / F.sum(1, keepdim=True)).nan_to_num(1 / C)  # no label reaches it
            torch.testing.assert_close(shares[v], exact, rtol=0, atol=1e-7)


def test_pictures_without_neighbours_are_told_by_the_text_alone() -> None:
    """Each class's cosines over the root of what all pictures give it."""
    made = problem(Zlap, [{"neighbours": 1, "gamma": 1.0}] * 2)
    logits = made.logits({"image": X})
    zero_shot = (X @ made.task.text["norm-mean"].T).argmax(-1)
    told = (X @ made.task.text["norm-mean"].T).amax(-1) > 0
    assert torch.equal(logits[0].argmax(-1)[told], zero_shot[told])


def test_pictures_in_another_order_have_the_same_answers() -> None:
    made = problem(Zlap, [{}, {"alpha": 0.8}])
    moved = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    there, here = made.logits({"image": X[moved]}), made.logits({"image": X})
    torch.testing.assert_close(there, here[:, moved], rtol=0, atol=1e-8)
