"""The Gaussian process against scikit-learn's, and what its settings end at."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from torch import Tensor

from cacheclip.heads.ridge import Ridge
from cacheclip.methods.base import Value
from cacheclip.methods.gp import GRID, Gp
from cacheclip.methods.proker import Proker
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, N, Problem, normal, problem

OTHER = unit(normal(2 * N, D + 3, seed=6))
QUERY = {"image": unit(normal(5, D, seed=3)), "aux:image": unit(normal(5, D + 3, seed=9))}
SCALE = 5.0
TWO: dict[str, Value] = {"encoders": 2}
GIVEN: dict[str, Value] = {**TWO, "share": 0.3, "width": 1.3, "noise_ratio": 0.2}


def made_of(*settings: Mapping[str, Value]) -> Problem:
    made = problem(Gp, settings, scale=SCALE)
    if made.method.settings["encoders"] == 1:
        return made
    return replace(made, task=replace(made.task, pool={**made.task.pool, "aux:image": OTHER}))


def span(x: Tensor) -> float:
    n = len(x)
    return sum(float(1 - x[i] @ x[j]) for i in range(n) for j in range(n) if i != j) / (n * n - n)


def left_of(made: Problem, v: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both features of the support, and what zero-shot leaves of its labels."""
    keys, labels = made.variant(v)
    cosines = keys @ made.task.text["norm-mean"].T
    return keys, OTHER[made.task.rows[v]], torch.eye(C, dtype=torch.float64)[labels] - cosines


def test_one_kernel_is_the_posterior_mean_of_scikit_learn() -> None:
    one = {**GIVEN, "encoders": 1}
    made = made_of(one, {**one, "width": 0.4, "noise_ratio": 3.0})
    assert made.method.reads.query == ("image",)
    x, text = QUERY["image"], made.task.text["norm-mean"]
    got = made.logits({"image": x}) / SCALE - x @ text.T
    for v, (width, noise) in enumerate(((1.3, 0.2), (0.4, 3.0))):
        keys, _, left = left_of(made, v)
        kernel = RBF((span(keys) / width) ** 0.5)
        plain = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        plain.fit(keys.numpy(), left.numpy())
        np.testing.assert_allclose(got[v], plain.predict(x.numpy()), rtol=0, atol=1e-9)


def test_two_kernels_are_summed() -> None:
    made = made_of(GIVEN, {**GIVEN, "share": 0.0})
    got, text = made.logits(QUERY) / SCALE, made.task.text["norm-mean"]

    def near(x: Tensor, rows: Tensor) -> Tensor:
        return (-1.3 * (1 - x @ rows.T) / span(rows)).exp()

    for v, share in enumerate((0.3, 0.0)):
        keys, others, left = left_of(made, v)
        K = (1 - share) * near(keys, keys) + share * near(others, others)
        a = torch.linalg.solve(K + 0.2 * torch.eye(N, dtype=torch.float64), left)
        between = (1 - share) * near(QUERY["image"], keys) + share * near(
            QUERY["aux:image"], others
        )
        exact = QUERY["image"] @ text.T + between @ a
        torch.testing.assert_close(got[v], exact, rtol=0, atol=1e-10)


def test_with_noise_without_bounds_it_is_zero_shot() -> None:
    made = made_of(*[{**GIVEN, "noise_ratio": 1e9}] * 2)
    zero_shot = SCALE * QUERY["image"] @ made.task.text["norm-mean"].T
    torch.testing.assert_close(made.logits(QUERY), zero_shot.expand(2, -1, -1), rtol=0, atol=1e-6)


def test_the_evidence_is_the_likelihood_of_scikit_learn_at_the_best_amplitude() -> None:
    made = made_of(GIVEN, GIVEN)
    keys, _, left = left_of(made, 0)

    def both(width: float, noise: float) -> tuple[float, float]:
        K = (-width * (1 - keys @ keys.T) / span(keys)).exp()
        mine = float(
            Ridge(K[None], left[None]).evidence(torch.tensor([noise], dtype=torch.float64))
        )
        total = K + noise * torch.eye(N, dtype=torch.float64)
        v = float((left * torch.linalg.solve(total, left)).sum()) / (N * C)
        kernel = ConstantKernel(v) * RBF((span(keys) / width) ** 0.5) + WhiteKernel(v * noise)
        plain = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None)
        plain.fit(keys.numpy(), left.numpy())
        return mine, float(plain.log_marginal_likelihood(kernel.theta))

    (mine, theirs), (mine_too, theirs_too) = both(1.3, 0.2), both(0.4, 2.0)
    assert mine - mine_too == pytest.approx(theirs - theirs_too, abs=1e-8)


def test_what_is_learned_is_the_likeliest_of_the_grid() -> None:
    made = made_of(TWO, {**TWO, "share": "learned"})
    found = made.head()
    for v in range(2):
        keys, others, left = left_of(made, v)
        best = max(
            (
                float(
                    Ridge(K[None], left[None]).evidence(torch.tensor([noise], dtype=torch.float64))
                ),
                share,
                width,
                noise,
            )
            for share in GRID["share"]
            for width in GRID["width"]
            for K in [
                (1 - share) * (-width * (1 - keys @ keys.T) / span(keys)).exp()
                + share * (-width * (1 - others @ others.T) / span(others)).exp()
            ]
            for noise in GRID["noise_ratio"]
        )
        own = [float(found[name][v]) for name in ("share", "width", "noise_ratio")]
        assert own == pytest.approx(best[1:])
    assert set(made.method.learned({n: x[:1] for n, x in found.items()})) == set(GRID)


def test_one_kernel_has_no_share_to_learn() -> None:
    one = made_of({"encoders": 1}, {"encoders": 1})
    assert set(one.method.learned(one.head())) == {"width", "noise_ratio"}


def test_at_one_shot_nothing_is_learned() -> None:
    constants = {"encoders": 1, "share": 0.5, "width": 1.0, "noise_ratio": 1.0}
    assert Gp.fixed(1, SCALE) == constants
    assert Gp.fixed(2, SCALE) == constants | dict.fromkeys(GRID, "learned")


def test_one_kernel_is_proker_but_for_what_weighs_it() -> None:
    """Where the regression of ProKeR counts lam-fold, and not 1."""
    made = made_of(*[{**GIVEN, "encoders": 1}] * 2)
    keys, labels = made.variant(0)
    text, x = made.task.text["norm-mean"], QUERY["image"]
    task = replace(made.task, rows=made.task.rows[:1], labels=labels[None])
    settings = {"beta": torch.tensor([1.3 / span(keys)]), "lam": torch.tensor([0.2])}
    settings = {name: value.double() for name, value in settings.items()}
    other = Proker()
    params = other.head(other.solve(replace(task, settings=settings)), task)
    zero_shot = SCALE * x @ text.T
    theirs = (other.logits(params, Query({"image": x}))[0] - zero_shot) / 0.2
    mine = made.logits({"image": x})[0] - zero_shot
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
