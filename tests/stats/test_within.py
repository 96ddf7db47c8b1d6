import math

import numpy as np
import pytest
from scipy import stats

from gentheory.errors import InputError
from gentheory.stats import bootstrap, kendall, kendall_within, mean_interval


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_each_group_has_the_tau_of_its_own_rows():
    x, y = normal(2, 60)
    groups = np.random.default_rng(1).integers(0, 5, size=60)
    expected = [kendall(x[groups == g], y[groups == g]) for g in range(5)]
    np.testing.assert_array_equal(kendall_within(x, y, groups), expected)
    names = np.array(list("edcba"))[groups]
    np.testing.assert_array_equal(kendall_within(x, y, names), expected[::-1])


def test_what_differs_between_groups_does_not_count():
    """Simpson's paradox: every group falls, all of them together rise."""
    time, groups = np.tile(np.arange(4.0), 3), np.repeat([0, 1, 2], 4)
    value = 100.0 * groups - time
    assert kendall(time + 10 * groups, value) > 0.4
    assert kendall_within(time, value, groups).tolist() == [-1.0, -1.0, -1.0]
    shifted = kendall_within(time + 7 * groups, value**3, groups)
    assert shifted.tolist() == [-1.0, -1.0, -1.0]


def test_groups_without_an_order_are_nan():
    x, y = np.array([1.0, 2, 1, 2, 3, 1, 2, 3]), np.array([1.0, 2, 5, 5, 5, 3, 2, 1])
    taus = kendall_within(x, y, [0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(taus, [math.nan, math.nan, -1.0])
    assert kendall_within([], [], []).shape == (0,)


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(12), 5)])
def test_the_mean_is_bootstrapped_as_rows_or_clusters_are(clusters):
    values = normal(60)
    expected = bootstrap(np.mean, values, clusters=clusters, num_resamples=200, seed=3)
    found = mean_interval(values, clusters=clusters, num_resamples=200, seed=3)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-10)
    assert found.count == 60


def test_entries_that_are_nan_are_no_rows():
    values, clusters = normal(20), np.arange(20) // 2
    holes = np.concatenate([[math.nan] * 3, values])
    labels = np.concatenate([[99, 98, 97], clusters])
    assert mean_interval(holes, clusters=labels) == mean_interval(values, clusters=clusters)
    nothing = mean_interval([math.nan] * 4)
    assert nothing.count == 0
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)


def test_calibration_of_the_mean_over_groups():
    """The error over 200 studies of 30 groups is a standard score."""
    scores = []
    for seed in range(200):
        steps = normal(2, 30, 6, seed=seed)
        rows = np.repeat(np.arange(30), 6)
        taus = kendall_within(*(part.ravel() for part in steps), rows)
        found = mean_interval(taus, num_resamples=400, seed=seed)
        scores.append(found.value / found.stderr)
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert abs(np.mean(scores)) < 3 / math.sqrt(200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kendall_within([1.0], [1.0, 2.0], [0]), "y: found 2 entries, expected 1 as in x"),
        (lambda: kendall_within([1.0, 2.0], [1.0, 2.0], [0]), r"groups: found shape \(1,\)"),
        (lambda: mean_interval([[1.0]]), r"values: found shape \(1, 1\), expected one dimension"),
        (lambda: mean_interval([1.0, math.inf]), r"values\[1\]: found inf, expected a finite"),
        (lambda: mean_interval([1.0, 2.0], level=1.0), "level: found 1.0, expected a fraction"),
    ],
)
def test_bad_columns_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
