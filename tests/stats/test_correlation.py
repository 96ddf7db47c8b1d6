import dataclasses
import math

import numpy as np
import pytest

from gentheory.errors import InputError
from gentheory.stats import (
    bootstrap,
    correlate,
    kendall,
    kendall_interval,
    partial_kendall,
    partial_pearson,
    partial_spearman,
    pearson,
    resample,
    spearman,
    weighted,
)

STATISTICS = {"kendall": kendall, "spearman": spearman, "pearson": pearson}
PARTIAL = {
    "partial_kendall": partial_kendall,
    "partial_spearman": partial_spearman,
    "partial_pearson": partial_pearson,
}


def table(num_rows, *, tied, seed=0):
    """Columns x, y, given and the clusters, of unequal sizes."""
    generator = np.random.default_rng(seed)
    x, y, given = generator.normal(size=(3, num_rows)) + generator.normal(size=num_rows)
    columns = np.stack([x, np.exp(3 * y), given])
    clusters = generator.integers(0, num_rows // 3 + 2, num_rows)
    return *(np.round(columns) if tied else columns), clusters


def numbers(interval):
    return np.array(dataclasses.astuple(interval))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("num_rows", [3, 4, 7, 60, 200])
def test_equals_the_slow_bootstrap_on_the_same_resamples(num_rows, tied, clustered):
    x, y, given, labels = table(num_rows, tied=tied)
    options = {"clusters": labels if clustered else None, "num_resamples": 60, "seed": 5}
    fast = correlate(x, y, given=given, **options)
    slow = {name: bootstrap(statistic, x, y, **options) for name, statistic in STATISTICS.items()}
    for name, statistic in PARTIAL.items():
        slow[name] = bootstrap(statistic, x, y, given, **options)
    assert fast.keys() == slow.keys()
    for name in slow:
        np.testing.assert_allclose(numbers(fast[name]), numbers(slow[name]), rtol=0, atol=1e-12)


def test_every_resample_equals_the_slow_one_degenerate_ones_too():
    x, y, given, labels = table(9, tied=True)
    columns = [weighted.Column.of(column) for column in (x, y, given)]
    (counts,) = resample.draw_counts(np.unique(labels, return_inverse=True)[1], 200, seed=0)
    rows = [np.repeat(np.arange(9), row.astype(int)) for row in counts]
    pairs = [(getattr(weighted, name), function) for name, function in STATISTICS.items()]
    for fast, slow in pairs:
        expected = [slow(x[drawn], y[drawn]) for drawn in rows]
        assert np.isnan(expected).any()
        np.testing.assert_allclose(fast(counts, *columns[:2]), expected, rtol=0, atol=1e-12)
    for name, slow in PARTIAL.items():
        expected = [slow(x[drawn], y[drawn], given[drawn]) for drawn in rows]
        found = getattr(weighted, name)(counts, *columns)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_rounding_of_the_mean_gives_a_constant_resample_no_correlation():
    x, y = (weighted.Column.of(np.array(c)) for c in ([0.1, 0.1, 0.1, 1.0], [1.0, 2.0, 4.0, 3.0]))
    copies = np.random.default_rng(0).integers(1, 40, (50, 3))
    counts = np.column_stack([copies, np.zeros(50)])
    assert ((counts * 0.1).sum(axis=1) / counts.sum(axis=1) != 0.1).any()
    for correlation in (weighted.kendall, weighted.spearman, weighted.pearson):
        assert np.isnan(correlation(counts, x, y)).all()


def test_blocks_chunks_and_precision_do_not_change_the_numbers(monkeypatch):
    x, y, given, labels = table(90, tied=True)
    options = {"given": given, "clusters": labels, "num_resamples": 50}
    whole = kendall_interval(x, y, **options)
    monkeypatch.setattr(weighted, "_MAX_BLOCK", 90 * 7)
    assert kendall_interval(x, y, **options) == whole
    monkeypatch.setattr(resample, "_MAX_COUNTS", 90 * 11)
    monkeypatch.setattr(weighted, "_EXACT_IN_FLOAT32", 0)
    assert kendall_interval(x, y, **options) == whole


def test_large_tables_are_exact():
    x, y, given, _ = table(3000, tied=False)
    fast = kendall_interval(x, y, given=given, num_resamples=3)
    slow = bootstrap(partial_kendall, x, y, given, num_resamples=3)
    np.testing.assert_allclose(numbers(fast), numbers(slow), rtol=0, atol=1e-12)


def test_offsets_and_outliers_cost_no_digits():
    x, y, *_ = table(40, tied=False)
    x[3], y = 1e9, y + 1e6
    fast = correlate(x, y, num_resamples=200)["pearson"]
    slow = bootstrap(pearson, x, y, num_resamples=200)
    np.testing.assert_allclose(numbers(fast), numbers(slow), rtol=0, atol=1e-8)


def test_kendall_interval_is_the_entry_of_correlate():
    x, y, given, labels = table(50, tied=True)
    options = {"clusters": labels, "num_resamples": 100, "level": 0.9, "seed": 2}
    every = correlate(x, y, given=given, **options)
    assert every["kendall"] == kendall_interval(x, y, **options)
    assert every["partial_kendall"] == kendall_interval(x, y, given=given, **options)
    assert "partial_kendall" not in correlate(x, y, **options)


def test_the_seed_decides():
    x, y, given, _ = table(50, tied=False)
    assert correlate(x, y, given=given, seed=1) == correlate(x, y, given=given, seed=1)
    assert correlate(x, y, seed=1)["kendall"] != correlate(x, y, seed=2)["kendall"]


def test_copies_in_clusters_leave_every_interval_as_it_was():
    x, y, given, _ = table(60, tied=False)
    original = correlate(x, y, given=given)
    copies = np.repeat([x, y, given, np.arange(60)], 3, axis=1)
    clustered = correlate(copies[0], copies[1], given=copies[2], clusters=copies[3])
    naive = correlate(copies[0], copies[1], given=copies[2])
    for name, interval in original.items():
        assert clustered[name].count == 180
        found, expected = numbers(clustered[name]), numbers(interval)
        np.testing.assert_allclose(np.delete(found, 4), np.delete(expected, 4), atol=1e-12)
        assert naive[name].stderr < 0.7 * interval.stderr


def test_partial_tau_of_binary_columns_that_share_only_given_is_zero():
    generator = np.random.default_rng(0)
    given = generator.integers(0, 2, 4000)
    x, y = given ^ (generator.random((2, 4000)) < 0.2)
    found = correlate(x, y, given=given)
    assert found["kendall"].value > 10 * found["kendall"].stderr
    assert abs(found["partial_kendall"].value) < 3 * found["partial_kendall"].stderr
    assert 0.01 < found["partial_kendall"].stderr < 0.02


def test_partial_tau_of_normal_columns_that_share_only_given_is_one_ninth():
    given, *noise = np.random.default_rng(0).normal(size=(3, 4000))
    found = kendall_interval(given + noise[0], given + noise[1], given=given, num_resamples=300)
    assert abs(found.value - 1 / 9) < 3 * found.stderr
    assert found.stderr < 0.02


def coverage(truth, columns_of, num_replications=300):
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(num_replications):
        x, y, *given = columns_of(generator)
        options = {"given": given[0] if given else None, "num_resamples": 300, "seed": seed}
        interval = kendall_interval(x, y, **options)
        hits += interval.low <= truth <= interval.high
    return hits / num_replications


def test_intervals_of_tau_cover_the_truth_as_often_as_they_say():
    rho, root = 0.6, 0.8

    def columns_of(generator):
        x, noise = generator.normal(size=(2, 60))
        return x, rho * x + root * noise

    assert 0.90 < coverage(2 / math.pi * math.asin(rho), columns_of) < 0.985


def test_intervals_of_partial_tau_cover_the_truth_as_often_as_they_say():
    def columns_of(generator):
        given, *noise = generator.normal(size=(3, 60))
        return given + noise[0], given + noise[1], given

    assert 0.90 < coverage(1 / 9, columns_of) < 0.985


def test_undefined_correlations_are_nan_not_errors():
    for x in ([], [1.0, 2.0], [3.0] * 5):
        found = correlate(x, np.arange(len(x)), given=np.arange(len(x)) % 2)
        for interval in found.values():
            assert interval.count == len(x)
            assert np.isnan([interval.value, interval.low, interval.high, interval.stderr]).all()


def test_bad_inputs_are_refused_with_a_cure():
    x = [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match=r"y\[0\]: found nan, .*; filter such rows out"):
        correlate(x, [math.nan, 1.0, 2.0])
    with pytest.raises(InputError, match="given: found 2 entries, expected 3 as in x"):
        kendall_interval(x, x, given=[1.0, 2.0])
    with pytest.raises(InputError, match=r"clusters: found shape \(1,\), expected \(3,\)"):
        correlate(x, x, clusters=["a"])
    with pytest.raises(InputError, match=r"level: found 0\.0, expected a fraction"):
        kendall_interval(x, x, level=0.0)
    with pytest.raises(InputError, match="num_resamples: found 0, expected at least 2"):
        correlate(x, x, num_resamples=0)
