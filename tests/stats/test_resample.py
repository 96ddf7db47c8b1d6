import math

import numpy as np
import pytest
from scipy import stats

from gentheory.errors import InputError
from gentheory.stats import Interval, bootstrap, kendall, pearson, resample


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_interval_of_a_mean_agrees_with_the_normal_law():
    x = normal(400)
    interval = bootstrap(np.mean, x, num_resamples=4000)
    # The error of a standard deviation from 4000 draws is 1.1 %; that of a percentile 2.4 %.
    stderr = x.std() / math.sqrt(len(x))
    assert interval.value == x.mean()
    assert interval.stderr == pytest.approx(stderr, rel=0.05)
    assert interval.low == pytest.approx(x.mean() - 1.96 * stderr, abs=0.12 * stderr)
    assert interval.high == pytest.approx(x.mean() + 1.96 * stderr, abs=0.12 * stderr)
    assert (interval.count, interval.level) == (400, 0.95)


def test_agrees_with_scipys_bootstrap_of_pairs():
    x, y = normal(2, 80)
    ours = bootstrap(pearson, x, y, num_resamples=2000, level=0.8)
    theirs = stats.bootstrap(
        (x, y), pearson, paired=True, vectorized=False, n_resamples=2000, confidence_level=0.8,
        method="percentile", rng=np.random.default_rng(1),
    )  # fmt: skip
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=0.1)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.15 * ours.stderr)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.15 * ours.stderr)


def test_the_seed_decides():
    x, y = normal(2, 50)
    first, again, other = (bootstrap(kendall, x, y, num_resamples=50, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first.value == other.value
    assert first.stderr != other.stderr


def test_chunks_do_not_change_the_draws(monkeypatch):
    whole = bootstrap(np.median, normal(30), num_resamples=100)
    monkeypatch.setattr(resample, "_MAX_COUNTS", 7 * 30)
    assert bootstrap(np.median, normal(30), num_resamples=100) == whole


def test_rows_are_drawn_jointly_and_independently():
    x = np.arange(40)
    assert bootstrap(lambda a, b: float((a == b).all()), x, x).low == 1
    sizes = bootstrap(lambda a: float(len(a)), x)
    assert (sizes.low, sizes.high) == (40, 40)
    distinct = bootstrap(lambda a: len(set(a)) / 40, x)
    expected = 1 - (1 - 1 / 40) ** 40
    assert (distinct.low + distinct.high) / 2 == pytest.approx(expected, abs=0.02)


def test_clusters_are_drawn_whole():
    labels = np.array(["b", "a", "c", "a", "c", "c"])
    sizes = {"a": 2, "b": 1, "c": 3}
    seen = set()

    def whole(drawn):
        found = {label: int((drawn == label).sum()) for label in sizes}
        seen.add(len(drawn))
        return float(all(found[label] % sizes[label] == 0 for label in sizes))

    assert bootstrap(whole, labels, clusters=labels).low == 1
    assert seen == {3, 4, 5, 6, 7, 8, 9}


def test_copies_of_rows_in_clusters_do_not_narrow_the_interval():
    x, y = normal(2, 60)
    original = bootstrap(pearson, x, y, num_resamples=500)
    copied_x, copied_y, labels = np.repeat([x, y, np.arange(60)], 4, axis=1)
    clustered = bootstrap(pearson, copied_x, copied_y, clusters=labels, num_resamples=500)
    naive = bootstrap(pearson, copied_x, copied_y, num_resamples=500)
    for name in ("value", "low", "high", "stderr"):
        assert getattr(clustered, name) == pytest.approx(getattr(original, name), abs=1e-12)
    assert naive.stderr == pytest.approx(original.stderr / 2, rel=0.15)


def test_degenerate_resamples_are_dropped():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    mean_of_varied = bootstrap(lambda a: a.mean() if a.std() else math.nan, x)
    assert math.isfinite(mean_of_varied.stderr)
    mostly = bootstrap(lambda a: a.mean() if len(set(a)) == 4 else math.nan, x)
    assert mostly.value == 1.5
    assert np.isnan([mostly.low, mostly.high, mostly.stderr]).all()


def test_half_degenerate_is_the_limit():
    samples = np.array([1.0, 2.0, math.nan, math.inf])
    kept = Interval.from_resamples(1.5, samples, count=9, level=0.5)
    assert (kept.low, kept.high) == (1.25, 1.75)
    assert kept.stderr == pytest.approx(math.sqrt(0.5), abs=1e-15)
    lost = Interval.from_resamples(1.5, np.append(samples, math.nan), count=9, level=0.5)
    assert math.isnan(lost.stderr)


@pytest.mark.parametrize("clusters", [None, [5] * 3])
def test_a_single_cluster_has_no_spread_to_resample(clusters):
    x = [1.0] if clusters is None else [1.0, 2.0, 6.0]
    interval = bootstrap(np.mean, x, clusters=clusters)
    assert interval.value == np.mean(x)
    assert np.isnan([interval.low, interval.high, interval.stderr]).all()


def test_bad_inputs_are_refused_with_a_cure():
    x = [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match=r"level: found 1\.5, expected a fraction"):
        bootstrap(np.mean, x, level=1.5)
    with pytest.raises(InputError, match="num_resamples: found 1, expected at least 2"):
        bootstrap(np.mean, x, num_resamples=1)
    with pytest.raises(InputError, match=r"clusters: found shape \(2,\), expected \(3,\)"):
        bootstrap(np.mean, x, clusters=[1, 2])
    with pytest.raises(InputError, match=r"clusters\[1\]: found nan, expected a label"):
        bootstrap(np.mean, x, clusters=[1, math.nan, 2])
    with pytest.raises(InputError, match=r"clusters: found .* expected labels of one kind"):
        bootstrap(np.mean, x, clusters=np.array(["a", None, "b"], dtype=object))
    with pytest.raises(InputError, match=r"columns\[1\]: found 2 entries, expected 3"):
        bootstrap(pearson, x, [1.0, 2.0])
    with pytest.raises(InputError, match=r"columns\[0\]: found shape \(1, 3\)"):
        bootstrap(np.mean, [x])
    with pytest.raises(InputError, match="columns: found none, expected at least one column"):
        bootstrap(np.mean)


@pytest.mark.parametrize(("count", "reach"), [(5, 3.1037), (10, 2.3845), (10**6, 1.95997)])
def test_the_expanded_level_has_students_width(count: int, reach: float) -> None:
    """√(N/(N − 1)) times Student's quantile, of tables, in normal deviations."""
    level = resample.expanded_level(0.95, count)
    assert stats.norm.ppf((1 + level) / 2) == pytest.approx(reach, rel=1e-3)


def test_expanded_intervals_of_few_rows_cover_the_mean_more_often() -> None:
    (counts,) = resample.draw_counts(np.arange(6), 2000, seed=0)
    numbers = np.random.default_rng(0).normal(size=(2000, 6))
    means = numbers @ counts.T / 6
    shares = {}
    for name, level in (("plain", 0.95), ("expanded", resample.expanded_level(0.95, 6))):
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)
        shares[name] = float(((low < 0) & (high > 0)).mean())
    assert shares["plain"] < 0.875
    assert 0.915 < shares["expanded"] < 0.95


def test_one_row_has_no_level() -> None:
    with pytest.raises(InputError, match="count: found 1, expected at least 2 rows"):
        resample.expanded_level(0.95, 1)
