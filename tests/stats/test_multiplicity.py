import math

import numpy as np
import pytest
from scipy import stats

from gentheory.errors import InputError
from gentheory.stats import Interval, benjamini_hochberg, holm, p_values


def interval(value, stderr):
    return Interval(value, value - stderr, value + stderr, stderr, 10, 0.95)


def test_p_values_are_those_of_the_normal_law():
    found = p_values([interval(0.5, 0.25), interval(-1.959964, 1.0), interval(0.0, 1.0)])
    np.testing.assert_allclose(found, [0.0455003, 0.05, 1.0], rtol=1e-6)
    np.testing.assert_allclose(p_values([interval(0.75, 0.125)], null=0.5), 0.0455003, rtol=1e-6)


def test_exact_values_and_unknown_ones():
    found = p_values([interval(0.5, 0.0), interval(0.0, 0.0), interval(math.nan, 0.1),
                      interval(0.3, math.nan)])  # fmt: skip
    np.testing.assert_array_equal(found, [0, 1, math.nan, math.nan])
    assert len(p_values([])) == 0


def test_holm_by_hand():
    found = holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9, 0.7]), 1)


def test_benjamini_hochberg_by_hand():
    found = benjamini_hochberg([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.02, 0.04, 0.04, 0.02])
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    found = benjamini_hochberg([0.01, 0.04, 0.03, 0.005], dependent=True)
    np.testing.assert_allclose(found, np.array([0.02, 0.04, 0.04, 0.02]) * harmonic)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_unknown_p_values_stay_unknown_and_do_not_count(correct):
    p = np.array([0.01, math.nan, 0.04, 0.03, math.nan, 0.005])
    found = correct(p)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(p))
    np.testing.assert_allclose(found[~np.isnan(p)], correct(p[~np.isnan(p)]))
    assert np.isnan(correct([math.nan])).all()
    assert len(correct([])) == 0


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_agrees_with_a_slow_loop(correct):
    p = np.random.default_rng(0).random(30) ** 3
    sort = np.sort(p)
    slow = {
        holm: [max(min(1, (30 - j) * sort[j]) for j in range(i + 1)) for i in range(30)],
        benjamini_hochberg: [min(30 * sort[j] / (j + 1) for j in range(i, 30)) for i in range(30)],
    }[correct]
    np.testing.assert_allclose(np.sort(correct(p)), slow)


def test_trap_37_of_many_measures_of_noise_holm_finds_one_as_rarely_as_it_says():
    scores = np.random.default_rng(0).normal(size=(2000, 40))
    p = 2 * stats.norm.sf(np.abs(scores))
    assert (p < 0.05).any(axis=1).mean() > 0.8
    found = np.mean([(holm(row) < 0.05).any() for row in p])
    assert abs(found - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_false_discoveries_are_as_rare_as_it_says():
    scores = np.random.default_rng(0).normal(size=(1000, 40))
    scores[:, :10] += 3.0
    shares = []
    for row in 2 * stats.norm.sf(np.abs(scores)):
        rejected = benjamini_hochberg(row) < 0.1
        shares.append(rejected[10:].sum() / max(1, rejected.sum()))
    assert np.mean(shares) == pytest.approx(0.1 * 30 / 40, abs=0.012)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_what_is_no_probability_is_refused(correct):
    with pytest.raises(InputError, match=r"p: found 1\.5, expected a column of probabilities"):
        correct([0.1, 1.5])
    with pytest.raises(InputError, match=r"p: found shape \(1, 2\)"):
        correct([[0.1, 0.2]])
