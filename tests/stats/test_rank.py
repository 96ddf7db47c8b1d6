import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from gentheory.errors import InputError
from gentheory.stats import (
    kendall,
    partial_kendall,
    partial_pearson,
    partial_spearman,
    pearson,
    spearman,
)

PARTIAL = [partial_kendall, partial_spearman, partial_pearson]
ALL = [
    *(kendall, spearman, pearson),
    *(lambda x, y, f=f: f(x, y, np.arange(len(x)) % 2) for f in PARTIAL),
]


def tied_pair(seed, num_rows):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 6, num_rows)
    return x.astype(float), (x + generator.integers(0, 8, num_rows)).astype(float)


def tau_by_counting(x, y):
    pairs = list(combinations(zip(x, y, strict=True), 2))
    signs = [(np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for a, b in pairs]
    net = sum(s * t for s, t in signs)
    return net / math.sqrt(sum(s != 0 for s, _ in signs) * sum(t != 0 for _, t in signs))


@pytest.mark.parametrize("num_rows", [5, 40, 300])
def test_agrees_with_scipy_in_the_presence_of_ties(num_rows):
    x, y = tied_pair(num_rows, num_rows)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-14)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-14)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-14)


@pytest.mark.parametrize("seed", range(20))
def test_kendall_counts_pairs(seed):
    x, y = tied_pair(seed, 8)
    assert kendall(x, y) == pytest.approx(tau_by_counting(x, y), abs=1e-15)


def test_partial_kendall_by_hand():
    # Of six pairs xy has one discordant, xz two, yz one: taus 2/3, 1/3 and 2/3.
    x, y, given = [1, 2, 3, 4], [1, 3, 2, 4], [2, 3, 1, 4]
    expected = (2 / 3 - 2 / 9) / math.sqrt((1 - 1 / 9) * (1 - 4 / 9))
    assert partial_kendall(x, y, given) == pytest.approx(expected, abs=1e-15)


def test_partial_pearson_is_that_of_the_residuals_of_two_lines():
    x, y, given = np.random.default_rng(0).normal(size=(3, 50)) + np.linspace(0, 3, 50)
    design = np.stack([np.ones(50), given], axis=1)
    left = [c - design @ np.linalg.lstsq(design, c)[0] for c in (x, y)]
    assert partial_pearson(x, y, given) == pytest.approx(stats.pearsonr(*left).statistic)
    ranks = [stats.rankdata(np.round(c)) for c in (x, y, given)]
    rounded = [np.round(c) for c in (x, y, given)]
    assert partial_spearman(*rounded) == pytest.approx(partial_pearson(*ranks), abs=1e-14)


def test_partial_pearson_of_columns_that_share_only_given_is_zero():
    given, *noise = np.random.default_rng(0).normal(size=(3, 4000))
    x, y = given + noise[0], given + noise[1]
    assert abs(partial_pearson(x, y, given)) < 3 / math.sqrt(4000)
    assert pearson(x, y) == pytest.approx(0.5, abs=0.04)
    assert math.isnan(partial_pearson(x, y, 3 - 2 * x))


def test_partial_kendall_is_undefined_where_given_orders_a_column_completely():
    x, y = np.random.default_rng(0).normal(size=(2, 200))
    assert math.isnan(partial_kendall(x, y, np.exp(x)))
    assert math.isnan(partial_kendall(x, y, -y))
    tied = np.round(3 * x)
    assert math.isnan(partial_kendall(tied, y, tied**3))


def test_partial_kendall_survives_one_discordant_pair_among_many():
    x = np.arange(2000.0)
    nearly, y = x.copy(), np.random.default_rng(0).normal(size=2000)
    nearly[:2] = 1, 0
    t_xz, t_xy, t_yz = 1 - 4 / (2000 * 1999), kendall(x, y), kendall(nearly, y)
    expected = (t_xy - t_xz * t_yz) / math.sqrt((1 - t_xz**2) * (1 - t_yz**2))
    assert partial_kendall(x, y, nearly) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("statistic", ALL)
def test_is_nan_where_undefined(statistic):
    assert math.isnan(statistic([], []))
    assert math.isnan(statistic([1, 2], [1, 2]))
    assert math.isnan(statistic([1, 2, 3, 4], [0.1] * 4))
    assert math.isnan(statistic([0.1] * 4, [1, 2, 3, 4]))
    assert math.isfinite(statistic([1, 2, 4, 3], [1, 2, 3, 3]))


@pytest.mark.parametrize("statistic", ALL)
def test_huge_and_tiny_numbers_do_no_harm(statistic):
    x, y = tied_pair(1, 30)
    assert statistic(1e300 * x, 1e-300 * y) == pytest.approx(statistic(x, y), abs=1e-12)


@pytest.mark.parametrize("statistic", ALL)
def test_bad_columns_are_refused_by_place(statistic):
    with pytest.raises(InputError, match=r"y: found 3 entries, expected 4 as in x"):
        statistic([1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(InputError, match=r"y\[2\]: found nan, expected a finite number"):
        statistic([1, 2, 3, 4], [1, 2, math.nan, 4])
    with pytest.raises(InputError, match=r"x\[1\]: found -inf, expected a finite number"):
        statistic([1, -math.inf, 3, 4], [1, 2, 3, 4])
    with pytest.raises(InputError, match=r"x: found shape \(3, 1\), expected one dimension"):
        statistic(np.ones((3, 1)), [1, 2, 3])
    with pytest.raises(InputError, match=r"x: found dtype <U1, expected real numbers"):
        statistic(["a", "b", "c"], [1, 2, 3])


def test_a_bad_given_is_refused_by_name():
    with pytest.raises(InputError, match=r"given\[0\]: found inf"):
        partial_kendall([1, 2, 3], [1, 2, 3], [math.inf, 1, 2])
    with pytest.raises(InputError, match=r"given: found 2 entries, expected 3 as in x"):
        partial_kendall([1, 2, 3], [1, 2, 3], [1, 2])
