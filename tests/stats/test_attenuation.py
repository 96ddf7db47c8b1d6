import math

import numpy as np
import pytest

from gentheory.errors import InputError
from gentheory.stats import (
    attenuation,
    bootstrap,
    disattenuated_kendall,
    disattenuated_pearson,
    kendall,
    pearson,
    reliability,
)


def noisy(reliabilities, num_rows, rho=0.6, seed=0):
    """Normal columns of correlation rho seen with errors, and their errors' sizes."""
    z, e, *noise = np.random.default_rng(seed).normal(size=(4, num_rows))
    truth = z, rho * z + math.sqrt(1 - rho**2) * e
    sizes = [np.full(num_rows, math.sqrt(1 / share - 1)) for share in reliabilities]
    seen = [t + size * n for t, size, n in zip(truth, sizes, noise, strict=True)]
    return *truth, *seen, *sizes


def test_reliability_by_hand():
    # Variance 5/3, mean squared error 1/2.
    assert reliability([1, 2, 3, 4], [0, 1, 0, 1]) == pytest.approx(1 - 0.5 / (5 / 3))
    assert reliability([1, 2, 3, 4], [2, 2, 2, 2]) == pytest.approx(1 - 4 / (5 / 3))
    assert math.isnan(reliability([1, 1, 1], [1, 1, 1]))
    assert math.isnan(reliability([1], [0]))


def test_pearson_by_hand():
    x, y = [1, 2, 3, 4], [1, 3, 2, 4]
    found = disattenuated_pearson(x, y, [0, 1, 0, 1], [0] * 4)
    assert found == pytest.approx(0.8 / math.sqrt(0.7))
    assert disattenuated_pearson(x, y, [0] * 4, [0] * 4) == pearson(x, y)
    assert math.isnan(disattenuated_pearson(x, y, [2] * 4, [0] * 4))


def test_pearson_finds_what_errors_hid():
    found = []
    for seed in range(200):
        _, _, *seen = noisy((0.8, 0.7), 400, seed=seed)
        found.append(disattenuated_pearson(*seen))
    assert abs(np.mean(found) - 0.6) < 3 * np.std(found) / math.sqrt(200)


def test_the_interval_covers_the_truth_and_is_wider_than_the_naive_one():
    hits = []
    for seed in range(100):
        _, _, *seen = noisy((0.7, 0.8), 200, seed=seed)
        interval = bootstrap(disattenuated_pearson, *seen, num_resamples=200, seed=seed)
        hits.append(interval.low <= 0.6 <= interval.high)
    assert np.mean(hits) > 0.88
    naive = bootstrap(pearson, *seen[:2], num_resamples=200)
    assert interval.stderr > naive.stderr
    assert naive.high < 0.6


def slow_noisy_kendall(x, y, x_stderr, y_stderr, extra, num_draws, generator):
    draws = []
    for _ in range(num_draws):
        e, f = generator.normal(size=(2, len(x))) * math.sqrt(extra)
        draws.append(kendall(x + e * x_stderr, y + f * y_stderr))
    return np.mean(draws), np.std(draws) / math.sqrt(num_draws)


def test_the_closed_form_of_added_noise_agrees_with_the_simulation(monkeypatch):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 25)) + generator.normal(size=25)
    x, x_stderr, y_stderr = np.round(x, 1), generator.random(25), 0.5 * generator.random(25)
    y_stderr[:10] = 0
    monkeypatch.setattr(attenuation, "_MAX_BLOCK", 90)
    exact = attenuation._noisy_kendall(x, y, x_stderr**2, y_stderr**2)
    assert exact[0] == pytest.approx(kendall(x, y))
    for extra, value in list(zip(attenuation._EXTRA_NOISE, exact, strict=True))[1:]:
        mean, error = slow_noisy_kendall(x, y, x_stderr, y_stderr, extra, 2000, generator)
        assert abs(value - mean) < 4 * error


@pytest.mark.parametrize(("share", "left"), [(0.9, 0.25), (0.8, 0.35), (0.5, 0.6)])
def test_kendall_takes_back_most_of_the_attenuation(share, left):
    truth, seen, found = [], [], []
    for seed in range(10):
        z, t, *columns = noisy((share, 1.0), 500, seed=seed)
        truth.append(kendall(z, t))
        seen.append(kendall(*columns[:2]))
        found.append(disattenuated_kendall(*columns))
    lost = np.mean(truth) - np.mean(seen)
    assert abs(np.mean(truth) - np.mean(found)) < left * lost
    assert lost > 0.01


def test_kendall_without_errors_is_kendall():
    x, y = [1, 2, 2, 3], [1, 2, 4, 3]
    assert disattenuated_kendall(x, y, [0] * 4, [0] * 4) == kendall(x, y)
    assert math.isnan(disattenuated_kendall([1, 1, 1], [1, 2, 3], [1] * 3, [0] * 3))
    assert abs(disattenuated_kendall([1, 2, 3], [1, 2, 3], [0.1] * 3, [0.1] * 3)) <= 1


def test_noise_stays_noise():
    x, y = np.random.default_rng(0).normal(size=(2, 400))
    errors = np.full(400, 0.5)
    assert abs(disattenuated_kendall(x, y, errors, errors)) < 0.12
    assert abs(disattenuated_pearson(x, y, errors, errors)) < 0.2


@pytest.mark.parametrize("correct", [disattenuated_kendall, disattenuated_pearson])
def test_bad_errors_are_refused_by_place(correct):
    x, none = [1.0, 2.0, 3.0], [0.0] * 3
    with pytest.raises(InputError, match=r"y_stderr\[1\]: found -1\.0, expected 0 or more"):
        correct(x, x, none, [0, -1, 0])
    with pytest.raises(InputError, match=r"x_stderr\[0\]: found nan, expected a finite number"):
        correct(x, x, [math.nan, 0, 0], none)
    with pytest.raises(InputError, match="x_stderr: found 2 entries, expected 3 as in x"):
        correct(x, x, [0, 0], none)
