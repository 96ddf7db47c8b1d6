"""Error of a mean over chains, against autoregressive ones, whose error is known."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

import gentheory as gt
from gentheory.stats.chains import chain_mean


def autoregressive(phi: float, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Stationary x_t = φ x_{t-1} + noise along the last axis, of variance 1."""
    noise = np.random.default_rng(seed).normal(size=shape)
    noise[..., 1:] *= math.sqrt(1 - phi**2)
    return lfilter([1], [1, -phi], noise, axis=-1)


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.6, 0.9])
def test_trap_35_effective_size_counts_the_autocorrelation(phi: float):
    found = chain_mean(autoregressive(phi, (8, 20_000)))
    exact = 160_000 * (1 - phi) / (1 + phi)
    assert found.effective_size == pytest.approx(exact, rel=0.1)
    assert found.stderr == pytest.approx(1 / math.sqrt(exact), rel=0.06)
    assert found.rhat == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_trap_35_the_error_is_calibrated(phi: float):
    draws = autoregressive(phi, (200, 4, 500), seed=1)
    found = [chain_mean(each) for each in draws]
    scores = np.array([each.value / each.stderr for each in found])
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert abs(scores.mean()) < 3 / math.sqrt(200)
    drifts = np.array([each.drift for each in found])
    assert stats.kstest(drifts, "norm").pvalue > 0.01


def test_independent_draws_have_the_textbook_values():
    draws = np.random.default_rng(0).normal(3, 2, size=(4, 1000))
    found = chain_mean(draws)
    assert found.value == pytest.approx(draws.mean())
    assert found.stderr == pytest.approx(draws.std(ddof=1) / math.sqrt(4000), rel=0.1)


def test_chains_that_disagree_are_seen():
    draws = autoregressive(0.3, (4, 400)) + np.array([0.0, 0.0, 0.0, 5.0])[:, None]
    found = chain_mean(draws)
    assert found.rhat > 2
    assert found.stderr == pytest.approx(draws.mean(1).std(ddof=1) / 2, rel=0.3)


def test_a_drift_common_to_all_chains_is_seen():
    found = chain_mean(autoregressive(0.3, (4, 400)) + np.linspace(0, 3, 400))
    assert found.rhat > 1.2
    assert found.drift > 8


def test_constant_draws_are_exact():
    found = chain_mean(np.full((2, 10), 3.5))
    assert (found.value, found.stderr, found.rhat, found.drift) == (3.5, 0.0, 1.0, 0.0)


@pytest.mark.parametrize("shape", [(4, 7), (20,)])
def test_too_few_draws_are_refused(shape: tuple[int, ...]):
    with pytest.raises(gt.InputError, match=r"draws: found shape .* draw more"):
        chain_mean(np.zeros(shape))
