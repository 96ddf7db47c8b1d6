import numpy as np
import pytest

from gentheory.report.resampled import Resampled, difference
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
