import math

import numpy as np
import pytest
from designs import cells, environments, grid, uneven

from gentheory.errors import InputError
from gentheory.stats import bootstrap, granulated_kendall, sign_error, sign_errors


def errors_by_counting(x, y, axes, num_test=None):
    """Error and effective size by the two rows that come first and the axis."""
    rows, found = cells(axes), {}
    for name, one, other in environments(axes):
        total = wrong = squares = 0.0
        for i in rows[one]:
            for j in rows[other]:
                weight = 1.0
                if num_test:
                    phi = 2 * math.exp(-2 * num_test * (abs(y[i] - y[j]) / 2) ** 2)
                    weight = max(max(0, 1 - phi) ** 2 - 0.5, 0)
                sign = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
                total, squares = total + weight, squares + weight**2
                wrong += weight * (1 - sign) / 2
        key = (name, frozenset([rows[one][0], rows[other][0]]))
        found[key] = (wrong / total, total**2 / squares) if total else (math.nan, 0.0)
    return found


def test_by_hand():
    # Two configurations, two seeds each: of four pairs, two agree, one is against, one is tied.
    x, y = [1, 2, 2, 4], [0, 3, 1, 2]
    found = sign_errors(x, y, {"width": [8, 8, 16, 16]})
    np.testing.assert_allclose(found.error, [(0 + 0 + 0.5 + 1) / 4])
    assert found.effective_size == [4]
    assert list(found.axis) == ["width"]
    np.testing.assert_array_equal(found.rows, [[0, 2]])


def test_hoeffdings_weight_by_hand():
    # n = 200: a difference of 0.2 has φ = 2 exp(-4), one of 0.1 φ = 2 exp(-1), too noisy.
    found = sign_errors([1, 2, 0], [0.0, 0.1, 0.2], {"a": [0, 1, 1]}, num_test=200)
    assert found.error == [1.0]
    assert found.effective_size == [1.0]
    weight = (1 - 2 * math.exp(-4)) ** 2 - 0.5, (1 - 2 * math.exp(-9)) ** 2 - 0.5
    found = sign_errors([1, 2, 0], [0.0, 0.3, 0.2], {"a": [0, 1, 1]}, num_test=200)
    assert found.error[0] == pytest.approx(weight[0] / sum(weight))
    assert found.effective_size[0] == pytest.approx(
        sum(weight) ** 2 / (weight[0] ** 2 + weight[1] ** 2)
    )
    scaled = sign_errors([1, 2, 0], [0.0, 3.0, 2.0], {"a": [0, 1, 1]}, num_test=200, span=10)
    assert scaled.error[0] == pytest.approx(found.error[0])


@pytest.mark.parametrize("num_test", [None, 3])
@pytest.mark.parametrize("seed", range(4))
def test_counts_every_pair_of_uneven_repeats_once(seed, num_test, monkeypatch):
    x, y, axes = uneven(seed)
    monkeypatch.setattr(sign_error, "_MAX_BLOCK", 7)
    found = sign_errors(x, y, axes, num_test=num_test, span=1.0, num_resamples=2)
    slow = errors_by_counting(x, y, axes, num_test)
    keys = [(str(a), frozenset(map(int, r))) for a, r in zip(found.axis, found.rows, strict=True)]
    assert len(keys) == len(set(keys)) == len(slow)
    values = np.stack([found.error, found.effective_size], axis=1)
    np.testing.assert_allclose(values, [slow[key] for key in keys], atol=1e-13)


def test_environments_too_noisy_are_dropped_and_counted():
    axes, _ = grid(3, 3, repeats=2)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=18), 0.05 * generator.normal(size=18)
    found = sign_errors(x, y, axes, num_test=1500, min_effective_size=2.0)
    assert 0 < found.num_dropped < len(found.error) == 18
    np.testing.assert_array_equal(found.kept, found.effective_size >= 2)
    assert found.mean.value == pytest.approx(found.error[found.kept].mean())
    none = sign_errors(x, y, axes, num_test=2)
    assert none.num_dropped == 18
    assert np.isnan([none.mean.value, none.worst, none.quantile(0.9)]).all()


def test_noise_is_wrong_half_of_the_time_and_an_oracle_never():
    axes, _ = grid(5, 5, 5, repeats=2)
    x, y = np.random.default_rng(1).normal(size=(2, 250))
    noise = sign_errors(x, y, axes)
    assert noise.mean.low < 0.5 < noise.mean.high
    assert noise.worst == 1
    assert noise.mean.high - noise.mean.low < 0.12
    oracle = sign_errors(np.exp(y), y, axes)
    assert (oracle.mean.value, oracle.worst) == (0, 0)
    assert sign_errors(-y, y, axes).mean.value == 1
    assert sign_errors(np.zeros(250), y, axes).quantile(0.1) == 0.5
    noisy = sign_errors(y + 0.05 * x, y, axes)
    assert noisy.mean.high < 0.05


def test_intervals_of_noise_hold_one_half_as_often_as_they_say():
    axes, _ = grid(4, 4, 4, repeats=2)
    hits = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(2, 128))
        mean = sign_errors(x, y, axes, num_resamples=200, seed=seed).mean
        hits.append(mean.low <= 0.5 <= mean.high)
    assert 0.9 < np.mean(hits) <= 1


def test_a_measure_that_echoes_one_axis_fails_along_it():
    # More width, less gap; the number of parameters grows with width and says nothing else.
    axes, _ = grid(4, 3, 3)
    y = -axes["axis 0"] + 0.1 * np.random.default_rng(0).normal(size=36)
    found = sign_errors(axes["axis 0"], y, axes)
    along = found.axis == "axis 0"
    assert (found.error[along] == 1).all()
    assert (found.error[~along] == 0.5).all()


def test_the_mean_is_one_less_psi_halved_on_one_axis():
    axes, _ = grid(6, repeats=3)
    x, y = np.random.default_rng(0).normal(size=(2, 18))
    psi = granulated_kendall(x, y, axes, seed=4).psi["axis 0"]
    mean = sign_errors(x, y, axes, seed=4).mean
    assert mean.value == pytest.approx((1 - psi.value) / 2)
    assert (mean.low, mean.high) == pytest.approx(((1 - psi.high) / 2, (1 - psi.low) / 2))


def test_trap_37_the_interval_is_that_of_configurations_drawn_with_their_repeats():
    axes, _ = grid(3, 3, repeats=4)
    x, y = np.random.default_rng(0).normal(size=(2, 36))
    found = sign_errors(x, y, axes, num_resamples=100)
    codes = np.unique(np.stack(list(axes.values()), 1), axis=0, return_inverse=True)[1].reshape(-1)
    pairs = codes[found.rows]

    def mean(drawn):
        copies = np.bincount(drawn, minlength=9)
        weights = copies[pairs].prod(axis=1)
        return weights @ found.error / weights.sum() if weights.any() else math.nan

    slow = bootstrap(mean, np.arange(9), num_resamples=100)
    assert found.mean.stderr == pytest.approx(slow.stderr, abs=1e-13)
    assert found.mean.low == pytest.approx(slow.low, abs=1e-13)


def test_quantiles_are_errors_that_occur():
    axes, _ = grid(11)
    found = sign_errors(np.arange(11), np.r_[np.arange(1, 11), 0], {"a": axes["axis 0"]})
    kept = np.sort(found.error)
    assert found.quantile(0.9) in kept
    assert (kept <= found.quantile(0.9)).mean() >= 0.9
    assert found.quantile(0.0) == kept[0]


def test_nothing_to_compare_is_nan():
    found = sign_errors([1, 2], [1, 2], {"a": [0, 0]})
    assert len(found.error) == 0
    assert np.isnan([found.mean.value, found.worst]).all()
    assert math.isnan(sign_errors([], [], {"a": []}).mean.value)


def test_bad_inputs_are_refused_with_a_cure():
    x, axes = [1.0, 2.0, 3.0], {"a": [0, 1, 2]}
    with pytest.raises(InputError, match="num_test: found 0, expected at least 1"):
        sign_errors(x, x, axes, num_test=0)
    with pytest.raises(InputError, match=r"span: found 0\.0, expected a positive length"):
        sign_errors(x, x, axes, span=0.0)
    with pytest.raises(InputError, match="axes: found none"):
        sign_errors(x, x, {})
