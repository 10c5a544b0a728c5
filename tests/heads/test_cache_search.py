"""200 betas in one pass, against the logits point by point."""

import pytest
import torch
from torch import Tensor

from cacheclip.heads import cache_search
from cacheclip.heads.breakpoints import MOST
from cacheclip.heads.cache import Cache, cache_logits, zero_shot_of
from cacheclip.heads.cache_search import GRID, Betas, search, tune
from cacheclip.heads.points import Points
from cacheclip.heads.temperature import label_log_p
from cacheclip.task import Query, unit

C, D, N = 5, 8, 30
ALPHAS = [0.03 + 0.5 * j for j in range(40)]


def cache(counts: list[int], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """One variant whose classes have that many keys, in no order."""
    g = torch.Generator().manual_seed(sum(counts))
    labels = torch.arange(C).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=g)]
    centres = torch.randn(C, D, generator=g, dtype=torch.float64)
    keys = unit(centres[labels] + torch.randn(len(labels), D, generator=g, dtype=torch.float64))
    text = unit(centres + 2 * torch.randn(C, D, generator=g, dtype=torch.float64))
    made = {
        "weight": text,
        "keys": keys,
        "logit_scale": torch.tensor(10.0),
        "alpha": torch.tensor(1.5),
        "beta": torch.tensor(5.5),
    }
    return {name: x.to(dtype)[None] for name, x in made.items()} | {"labels": labels[None]}


def pictures(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = unit(torch.randn(N, D, generator=g, dtype=torch.float64))
    return x.to(dtype), torch.arange(N) % C


def at(params: dict[str, Tensor], x: Tensor, alpha: float, beta: float) -> Tensor:
    point = {"alpha": torch.tensor([alpha]).to(x), "beta": torch.tensor([beta]).to(x)}
    zero_shot = zero_shot_of(params, Query({"image": x}))
    return cache_logits(x, Cache.of(params), zero_shot, point["alpha"], point["beta"])[0]


def tuned(params: dict[str, Tensor], x: Tensor, labels: Tensor, wanted: list[str]) -> Points:
    zero_shot = zero_shot_of(params, Query({"image": x}))
    return tune(x, Cache.of(params), zero_shot, labels, params["alpha"], params["beta"], wanted)


def searched(
    params: dict[str, Tensor], x: Tensor, labels: Tensor, alpha: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    zero_shot = at(params, x, 0.0, 1.0)
    return search(x, Cache.of(params).variant(0), zero_shot, labels, GRID, alpha)


@pytest.mark.parametrize("counts", [[1] * C, [4] * C, [3, 1, 4, 2, 2], [2, 0, 3, 1, 5]])
@pytest.mark.parametrize("tile", [1, 100, 2**19])
def test_every_beta_is_at_least_as_good_as_a_grid_of_alphas(
    counts: list[int], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_search, "TILE", tile)
    params, (x, labels) = cache(counts), pictures()
    alphas, found = searched(params, x, labels)
    for alpha, beta, count in zip(
        alphas.tolist(), GRID.values().tolist(), found.tolist(), strict=True
    ):
        assert int((at(params, x, alpha, beta).argmax(-1) == labels).sum()) == count
    for j in range(0, len(alphas), 23):
        beta = float(GRID.values()[j])
        tried = [int((at(params, x, a, beta).argmax(-1) == labels).sum()) for a in ALPHAS]
        assert max(tried) <= int(found[j])


def test_a_given_alpha_is_kept_for_every_beta() -> None:
    params, (x, labels) = cache([3, 1, 4, 2, 2]), pictures()
    alphas, found = searched(params, x, labels, torch.tensor([2.5], dtype=x.dtype))
    assert (alphas == 2.5).all()
    for beta, count in zip(GRID.values().tolist(), found.tolist(), strict=True):
        assert int((at(params, x, 2.5, beta).argmax(-1) == labels).sum()) == count


def test_the_grid_spans_the_released_ones_and_doubles_exactly() -> None:
    values = GRID.values().sort().values
    assert len(values) == 200
    assert 0.1 < values[0] <= 0.2
    assert 49 < values[-1] < 50
    assert values.diff().min() > 0
    torch.testing.assert_close(values[1:] / values[:-1], torch.full((199,), 2 ** (1 / 25)).double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_zero_shot_and_the_constants_come_first_and_points_are_what_the_logits_say(
    dtype: torch.dtype,
) -> None:
    params, (x, labels) = cache([4] * C, dtype), pictures(dtype)
    settings, counts, log_p = tuned(params, x, labels, ["alpha", "beta"])
    assert settings["alpha"][0, :2].tolist() == [0.0, 1.5]
    assert settings["beta"][0, :2].tolist() == [5.5, 5.5]
    assert (settings["beta"][0, 2:].diff() > 0).all()
    assert ((settings["alpha"] >= 0) & (settings["alpha"] <= MOST)).all()
    judged = log_p[0].isfinite().all(-1)
    assert judged[:2].all()
    assert judged[2:].any()
    for t in judged.nonzero().flatten().tolist():
        logits = at(params, x, float(settings["alpha"][0, t]), float(settings["beta"][0, t]))
        assert int((logits.argmax(-1) == labels).sum()) == int(counts[0, t])
        torch.testing.assert_close(log_p[0, t], label_log_p(logits[None], labels)[0])


def test_points_that_hits_rule_out_are_not_judged() -> None:
    params, (x, labels) = cache([4] * C), pictures()
    _, counts, log_p = tuned(params, x, labels, ["alpha", "beta"])
    best = int(counts[0, 2:].max())
    error = (best * (1 - best / N)) ** 0.5
    ruled_out = ~log_p[0, 2:].isfinite().all(-1)
    assert torch.equal(ruled_out, counts[0, 2:] < best - error)


@pytest.mark.parametrize("beta", [0.0, 7.3])
def test_one_beta_with_its_own_best_alpha(beta: float) -> None:
    """At beta 0 an empty slot must still not vote."""
    params, (x, labels) = cache([3, 1, 4, 2, 2]), pictures()
    params["beta"][:] = beta
    settings, counts, _ = tuned(params, x, labels, ["alpha"])
    assert list(settings) == ["alpha"]
    assert counts.shape == (1, 3)
    tried = [int((at(params, x, a, beta).argmax(-1) == labels).sum()) for a in ALPHAS]
    assert max(tried) <= int(counts.max())
    assert Betas((beta,), 1).values().tolist() == [beta]
