import numpy as np
import pytest

from gentheory.report.resampled import Resampled, difference, interval, mean
from gentheory.stats import bootstrap, kendall, partial_kendall, pearson, spearman


@pytest.fixture(params=[False, True], ids=["rows", "clusters"])
def drawn(request):
    """Columns with ties, and how a bootstrap draws their rows."""
    generator = np.random.default_rng(0)
    columns = dict(zip("xyz", generator.normal(size=(3, 40)).round(1), strict=True))
    labels = generator.integers(0, 12, 40) if request.param else None
    return columns, {"clusters": labels, "num_resamples": 80, "seed": 4}


def equal(found, expected):
    for name in ("value", "low", "high", "stderr"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)
    assert found.count == expected.count


def test_intervals_equal_the_bootstrap_of_each_statistic(drawn):
    columns, options = drawn
    x, y, z = columns.values()
    pool = Resampled(columns, **options)
    equal(pool.interval(pool.kendall("x", "y")), bootstrap(kendall, x, y, **options))
    equal(pool.interval(pool.spearman("x", "y")), bootstrap(spearman, x, y, **options))
    equal(pool.interval(pool.pearson("x", "y")), bootstrap(pearson, x, y, **options))
    partial = pool.interval(pool.partial_kendall("x", "y", "z"))
    equal(partial, bootstrap(partial_kendall, x, y, z, **options))


def test_a_lead_equals_the_bootstrap_of_the_difference(drawn):
    columns, options = drawn

    def lead(a, b, c):
        return kendall(a, c) - kendall(b, c)

    pool = Resampled(columns, **options)
    found = pool.interval(difference(pool.kendall("x", "z"), pool.kendall("y", "z")))
    equal(found, bootstrap(lead, *columns.values(), **options))


def test_each_tau_is_computed_once(drawn):
    columns, options = drawn
    pool = Resampled(columns, **options)
    assert pool.kendall("x", "y") is pool.kendall("y", "x")


def test_a_setting_drops_out_of_the_means_in_which_it_is_undefined():
    nan = np.nan
    found = [
        (1.0, np.array([1.0, 2.0, nan])),
        (nan, np.array([9.0, 9.0, 9.0])),
        (3.0, np.array([nan, 4.0, nan])),
    ]
    value, samples = mean(found)
    assert value == 2.0
    np.testing.assert_array_equal(samples, [1.0, 3.0, nan])
    assert (interval((value, samples), 2).low, interval((value, samples), 2).count) == (1.05, 2)
    assert mean([]) is mean([found[1]]) is None
