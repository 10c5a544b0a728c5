import numpy as np
import pytest
import torch

from cacheclip.metrics import (
    Z95,
    calibration_error,
    calibration_interval,
    first_classes,
    hits,
    macro,
    per_class,
    true_rank,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
        (0, 10, 0.0, 0.2775328),
        (1, 1, 0.2065493, 1.0),
        (14, 29, 0.3138609, 0.6556898),
        (228, 497, 0.4154277, 0.5027101),
        (9321, 10000, 0.9270015, 0.9368667),
    ],
)
def test_wilsons_interval_is_the_published_one(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right / n, n) == pytest.approx((low, high), abs=1e-7)


@pytest.mark.parametrize("n", [1, 7, 500])
def test_wilsons_bounds_are_where_the_share_is_as_unlikely_as_1_in_40(n: int) -> None:
    for share in (0.0, 0.25, 0.5, 1.0):
        for bound in wilson(share, n):
            variance = bound * (1 - bound) / n
            assert (share - bound) ** 2 == pytest.approx(Z95**2 * variance, abs=1e-12)


def test_the_rank_is_0_exactly_where_the_prediction_is_right_ties_included() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 4, (3, 200, 5), generator=random).float()  # many ties
    labels = torch.randint(0, 5, (200,), generator=random)
    ranks = true_rank(logits, labels)
    assert torch.equal((ranks == 0).sum(-1), hits(logits, labels))
    ordered = logits.sort(
        dim=-1, descending=True, stable=True
    ).indices  # of equals the lowest first
    assert torch.equal(ranks, (ordered == labels[:, None]).int().argmax(-1))


@pytest.mark.parametrize("C", [1, 5, 40])
def test_the_first_classes_are_those_of_the_largest_logits_the_answer_before_all(C: int) -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 50, C, generator=random)
    ordered = logits.sort(dim=-1, descending=True, stable=True).indices
    assert torch.equal(first_classes(logits, 10), ordered[..., :10])
    few = torch.randint(0, 3, (2, 50, C), generator=random).float()  # many ties
    for tied in (few, torch.zeros(2, 50, C)):
        found = first_classes(tied, 10)
        assert torch.equal(found[..., 0], tied.argmax(-1))
        values = tied.gather(-1, found)
        assert torch.equal(values, tied.sort(dim=-1, descending=True).values[..., :10])
        assert ((values.diff() < 0) | (found.diff() > 0)).all()


def test_macro_is_the_mean_recall_of_the_classes_that_have_pictures() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2], np.uint16)
    right = np.array([True, True, True, False, False, True])
    assert per_class(right, labels, 4).tolist() == [[4, 3], [0, 0], [2, 1], [0, 0]]
    assert macro(right, labels) == (3 / 4 + 1 / 2) / 2


def test_the_calibration_error_is_the_debiased_sum_over_bins() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.1, 1, (2, 97))
    right = random.random((2, 97)) < p**2
    for v, found in enumerate(calibration_error(p, right)):
        sizes = [(k + 1) * 97 // 9 - k * 97 // 9 for k in range(9)]
        bins = np.split(np.argsort(p[v]), np.cumsum(sizes)[:-1])
        squared = 0.0
        for rows in bins:
            s = right[v, rows].mean()
            gap = p[v, rows].mean() - s
            squared += len(rows) / 97 * (gap**2 - s * (1 - s) / (len(rows) - 1))
        assert found == pytest.approx(np.sqrt(max(0, squared)), abs=1e-12)
        low, high = calibration_interval(p[v], right[v])
        assert low <= found <= high


@pytest.mark.parametrize(("boast", "holds"), [(1.0, 0.975), (0.8, 0.9)])
def test_the_interval_of_the_calibration_error_holds_the_true_one(
    boast: float, holds: float
) -> None:
    random = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        p = random.uniform(0.1, 1, 500)
        right = random.random(500) < boast * p
        low, high = calibration_interval(p, right)
        inside.append(low <= (1 - boast) * np.sqrt((p**2).mean()) <= high)
    assert np.mean(inside) >= holds
