"""CALIP against its attention written out picture by picture, and what must leave zero-shot."""

import pytest
import torch
from torch import Tensor

from cacheclip.methods import calip
from cacheclip.methods.base import SEARCH
from cacheclip.methods.calip import TRIED, Calip
from cacheclip.task import Query, unit
from tests.methods.explicit import C, D, normal, problem

N, M = 9, 5
X, PARTS = unit(normal(N, D, seed=4)), 3 * normal(N, M, D, seed=5)
LABELS = torch.arange(N) % C
QUERY = {"image": X, "patches": PARTS}


def written_out(x: Tensor, parts: Tensor, text: Tensor, beta2: float, beta3: float) -> Tensor:
    """The logits [C] of one picture, with the text that looked formed."""
    parts = unit(parts)
    affinity = 2 * parts @ text.T  # [M, C]
    looked = affinity.softmax(0).T @ parts  # [C, D]
    looking = affinity.softmax(1) @ text  # [M, D]
    pooled = looking.mean(0) + looking.max(0).values
    return 100 * (text @ x + beta2 * looked @ x + beta3 * text @ pooled)


def test_it_is_the_attention_written_out() -> None:
    made = problem(Calip, [{}, {"beta2": 0.7, "beta3": 3.0}])
    logits, text = made.logits(QUERY), made.task.text["norm-mean"]
    for v, betas in enumerate(((2.0, 0.1), (0.7, 3.0))):
        exact = [written_out(x, s, text, *betas) for x, s in zip(X, PARTS, strict=True)]
        torch.testing.assert_close(logits[v], torch.stack(exact), rtol=0, atol=1e-11)


def test_the_order_and_the_lengths_of_the_parts_do_not_matter() -> None:
    made = problem(Calip, [{}, {"beta3": 5.0}])
    moved = PARTS[:, [3, 0, 4, 1, 2]] * normal(N, M, 1, seed=6).abs()
    other = made.logits({"image": X, "patches": moved})
    torch.testing.assert_close(other, made.logits(QUERY), rtol=0, atol=1e-11)


def test_without_weights_it_is_zero_shot_and_so_it_is_where_a_picture_is_one_part() -> None:
    made = problem(Calip, [{"beta2": 0.0, "beta3": 0.0}, {"beta2": 40.0, "beta3": 0.0}])
    zero_shot = 100 * X @ made.task.text["norm-mean"].T
    torch.testing.assert_close(made.logits(QUERY)[0], zero_shot, rtol=0, atol=1e-12)
    one = made.logits({"image": X, "patches": PARTS[:, :1]})[1] - zero_shot
    torch.testing.assert_close(one, one[:, :1].expand_as(one), rtol=0, atol=1e-10)


@pytest.mark.parametrize("searched", [("beta2", "beta3"), ("beta3",)])
def test_a_search_tries_the_released_ranges_of_what_is_searched(
    searched: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calip, "AT_ONCE", 4)  # of nine pictures
    given = {"beta2": 0.3, "beta3": 0.05}
    made = problem(Calip, [given | dict.fromkeys(searched, SEARCH)] * 2)
    found = made.method.search(made.head(), Query(QUERY), LABELS)
    assert found is not None
    assert {n: set(x[1].tolist()) for n, x in found.settings.items()} == {
        name: set(TRIED[name]) for name in searched
    }
    assert found.hits.shape == (2, 99 if len(searched) == 2 else 9)
    started = {name: float(x[0]) for name, x in made.task.settings.items()}  # of one not searched
    for t in range(0, found.hits.shape[1], 8):
        at = started | {name: float(x[0, t]) for name, x in found.settings.items()}
        text = made.task.text["norm-mean"]
        exact = [written_out(x, s, text, **at) for x, s in zip(X, PARTS, strict=True)]
        hits = (torch.stack(exact).argmax(-1) == LABELS).sum()
        assert int(found.hits[0, t]) == int(hits)


def test_constants_are_those_of_the_released_run() -> None:
    assert Calip.fixed(4, 16.0) == {"beta2": 2.0, "beta3": 0.1}
    assert Calip.table["beta2"].default in TRIED["beta2"]
    assert Calip.table["beta3"].default in TRIED["beta3"]
