"""p values, against SciPy's and against counting every choice of signs."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, friedmanchisquare, rankdata, studentized_range, wilcoxon

from cacheclip.stats.bootstrap import interval
from cacheclip.stats.exact import McNemar, sign_p, wilcoxon_p
from cacheclip.stats.ranks import critical_difference, friedman


@pytest.mark.parametrize(
    ("wins", "losses"), [(0, 0), (3, 0), (0, 5), (5, 6), (1, 9), (40, 71), (2000, 2150)]
)
def test_the_sign_test_is_that_of_a_fair_coin(wins: int, losses: int) -> None:
    wanted = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_p(wins, losses) == pytest.approx(wanted, rel=1e-9)
    assert sign_p(losses, wins) == sign_p(wins, losses)


def test_mcnemar_counts_the_pictures_that_one_alone_has_right() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 300)) < np.array([[0.7], [0.6]])
    test = McNemar.of(first, second)
    table = [(first & ~second).sum(), (~first & second).sum()]
    assert [test.first_only, test.second_only] == table
    assert test.p == pytest.approx(binomtest(int(table[0]), int(sum(table))).pvalue, rel=1e-9)
    assert McNemar.of(first, first).p == 1.0


def test_wilcoxons_p_is_scipys_where_no_sizes_are_equal() -> None:
    random = np.random.default_rng(0)
    for n in (1, 2, 5, 11, 30):
        d = random.normal(0.3, 1, n)
        wanted = wilcoxon(d, method="exact").pvalue
        assert wilcoxon_p(d.tolist()) == pytest.approx(wanted, rel=1e-9)


def test_wilcoxons_p_counts_every_choice_of_signs_where_sizes_are_equal() -> None:
    d = [1.0, -1.0, 1.0, 2.0, 2.0, -3.0, 0.0, 4.0]
    sizes = np.abs([x for x in d if x])
    ranks = rankdata(sizes)
    own = ranks[np.array([x for x in d if x]) > 0].sum()
    sums = np.array([ranks[np.array(signs)].sum() for signs in product([True, False], repeat=7)])
    wanted = min(1.0, 2 * min((sums >= own).mean(), (sums <= own).mean()))
    assert wilcoxon_p(d) == pytest.approx(wanted, abs=1e-12)
    assert wilcoxon_p([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("digits", [6, 1])  # with one digit many are equal
def test_friedmans_test_is_scipys(digits: int) -> None:
    values = np.random.default_rng(0).normal(size=(9, 5)).round(digits)
    wanted = friedmanchisquare(*values.T)
    found = friedman(values)
    assert found.chi2 == pytest.approx(wanted.statistic, rel=1e-9)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    np.testing.assert_allclose(found.mean, rankdata(-values, axis=1).mean(0))


def test_methods_that_are_all_equal_differ_in_nothing() -> None:
    found = friedman(np.ones((4, 3)))
    assert (found.chi2, found.p, found.groups) == (0.0, 1.0, [[0, 1, 2]])


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_published_table(k: int, q: float) -> None:
    assert critical_difference(k, 14) == pytest.approx(q * np.sqrt(k * (k + 1) / 84), rel=5e-4)
    exact = studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)
    assert critical_difference(k, 14) == pytest.approx(exact * np.sqrt(k * (k + 1) / 84), rel=1e-5)


def test_methods_within_the_critical_difference_are_a_group_and_others_are_not() -> None:
    values = np.tile([5.0, 4.0, 3.0, 2.0, 1.0], (12, 1))  # mean ranks 1, 2, 3, 4, 5
    found = friedman(values)
    assert 1 < found.critical < 2
    assert found.groups == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_the_interval_resamples_data_sets_and_then_their_seeds() -> None:
    assert interval({"a": [0.5]}) is None
    assert interval({"a": [0.5, 0.5], "b": [0.5]}) == (0.5, 0.5)
    assert interval({"a": [0.0, 1.0]}) == (0.0, 1.0)  # each of the two ends: 1 in 4
    low, high = interval({"a": [0.0], "b": [1.0]}) or (9.0, 9.0)
    assert (low, high) == (0.0, 1.0)
    values = {name: [0.1 * k, 0.1 * k + 0.02] for k, name in enumerate("abcdef")}
    shifted = {name: [x + 1 for x in own] for name, own in values.items()}
    assert interval(values) == interval(values)
    np.testing.assert_allclose(interval(shifted) or 0, np.array(interval(values)) + 1)


def test_the_interval_is_as_wide_as_the_spread_of_means_over_sets_and_seeds() -> None:
    random = np.random.default_rng(0)
    sets = random.normal(0, 1, 40)
    values = {str(k): (mean + random.normal(0, 1, 8)).tolist() for k, mean in enumerate(sets)}
    means = np.array([np.mean(own) for own in values.values()])
    within = np.mean([np.var(own) / 8 for own in values.values()])
    error = np.sqrt((means.var() + within) / 40)
    low, high = interval(values) or (0.0, 0.0)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.03)
