import dataclasses
import math

import numpy as np
import pytest
from designs import cells, environments, grid, uneven

from gentheory.errors import InputError
from gentheory.stats import bootstrap, granulated, granulated_kendall


def psi_by_counting(x, y, axes, copies=None):
    """ψ of each axis; `copies` of each row, whose pairs weigh as many times."""
    copies = np.ones(len(x)) if copies is None else copies
    rows = cells(axes)
    psi = {}
    for name in axes:
        net, pairs = {}, {}
        for axis, one, other in environments(axes):
            if axis == name:
                place = list(axes).index(name)
                line = one[:place] + one[place + 1 :]
                share = 1 / (len(rows[one]) * len(rows[other]))
                for i in rows[one]:
                    for j in rows[other]:
                        weight = share * copies[i] * copies[j]
                        sign = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
                        net[line] = net.get(line, 0) + weight * sign
                        pairs[line] = pairs.get(line, 0) + weight
        taus = [net[line] / pairs[line] for line in net if pairs[line] > 0]
        psi[name] = np.mean(taus) if taus else math.nan
    return psi


def test_by_hand():
    # Along a: 2 of 3 pairs agree, then all; along b: agree, tied, against.
    axes = {"a": [0, 1, 2, 0, 1, 2], "b": [0, 0, 0, 1, 1, 1]}
    x, y = [1, 3, 2, 5, 3, 1], [1, 2, 3, 4, 3, 2]
    found = granulated_kendall(x, y, axes)
    assert found.psi["a"].value == pytest.approx((1 / 3 + 1) / 2)
    assert found.psi["b"].value == pytest.approx((1 + 0 + 1) / 3)
    assert found.mean.value == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found.lines == {"a": 2, "b": 3}


@pytest.mark.parametrize("seed", range(5))
def test_counts_every_pair_of_uneven_repeats(seed):
    x, y, axes = uneven(seed)
    found = granulated_kendall(x, y, axes, num_resamples=2)
    slow = psi_by_counting(x, y, axes)
    assert {name: psi.value for name, psi in found.psi.items()} == pytest.approx(slow, abs=1e-14)
    assert found.mean.value == pytest.approx(np.mean(list(slow.values())), abs=1e-14)


@pytest.mark.parametrize("clustered", [False, True])
def test_the_interval_equals_that_of_a_slow_bootstrap(clustered, monkeypatch):
    x, y, axes = uneven()
    codes = [np.unique(column, return_inverse=True)[1] for column in axes.values()]
    codes = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    labels = np.arange(len(x)) % 7 if clustered else codes
    slow = {}
    for name in axes:

        def psi(rows, name=name):
            return psi_by_counting(x, y, axes, np.bincount(rows, minlength=len(x)))[name]

        slow[name] = bootstrap(psi, np.arange(len(x)), clusters=labels, num_resamples=12, seed=3)
    monkeypatch.setattr(granulated, "_MAX_BLOCK", 50)
    drawn = {"num_resamples": 12, "seed": 3}
    fast = granulated_kendall(x, y, axes, clusters=labels if clustered else None, **drawn)
    for name in axes:
        found, expected = (dataclasses.astuple(each[name]) for each in (fast.psi, slow))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_oracle_and_its_reverse():
    axes, _ = grid(3, 3, 4, repeats=3)
    y = np.random.default_rng(0).normal(size=108)
    assert granulated_kendall(np.exp(y), y, axes, num_resamples=20).mean.value == 1
    found = granulated_kendall(-y, y, axes, num_resamples=20)
    assert {psi.value for psi in found.psi.values()} == {-1.0}
    assert granulated_kendall(np.zeros(108), y, axes, num_resamples=20).mean.value == 0


def test_a_noisy_oracle_is_near_one():
    axes, _ = grid(3, 3, 3, repeats=5)
    y = np.random.default_rng(0).normal(size=135)
    x = y + 0.1 * np.random.default_rng(1).normal(size=135)
    assert granulated_kendall(x, y, axes).mean.low > 0.85


def test_intervals_of_noise_hold_zero_as_often_as_they_say():
    axes, _ = grid(4, 4, 4, repeats=2)
    hits = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(2, 128))
        mean = granulated_kendall(x, y, axes, num_resamples=200, seed=seed).mean
        hits.append(mean.low <= 0 <= mean.high)
    assert 0.9 < np.mean(hits) <= 1


def test_trap_37_repeats_are_not_independent_configurations():
    # What makes x and y differ is the configuration alone, so repeats tell nothing new.
    axes, _ = grid(3, 4)
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    once = granulated_kendall(x, y, axes)
    repeated = {name: np.repeat(column, 5) for name, column in axes.items()}
    again = granulated_kendall(np.repeat(x, 5), np.repeat(y, 5), repeated)
    assert again.mean.stderr == pytest.approx(once.mean.stderr, abs=1e-12)
    naive = granulated_kendall(np.repeat(x, 5), np.repeat(y, 5), repeated, clusters=np.arange(60))
    assert naive.mean.stderr < 0.8 * once.mean.stderr


def test_tau_that_one_axis_makes_is_seen_through():
    # x echoes axis 0, which drives y: a high tau, but nothing along the other axes.
    axes, _ = grid(5, 4, 4)
    y = 10.0 * axes["axis 0"] + np.random.default_rng(0).normal(size=80)
    x = 10.0 * axes["axis 0"] + np.random.default_rng(1).normal(size=80)
    found = granulated_kendall(x, y, axes)
    assert found.psi["axis 0"].value == 1
    for name in ("axis 1", "axis 2"):
        assert found.psi[name].low < 0 < found.psi[name].high


def test_axes_without_lines_are_nan_and_out_of_the_mean():
    axes = {"a": [0, 1, 2, 3], "constant": [7, 7, 7, 7]}
    found = granulated_kendall([1, 2, 3, 4], [1, 2, 3, 4], axes)
    assert math.isnan(found.psi["constant"].value)
    assert (found.mean.value, found.lines) == (1.0, {"a": 1, "constant": 0})
    scattered = {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert math.isnan(granulated_kendall([1, 2, 3], [1, 2, 3], scattered).mean.value)
    assert math.isnan(granulated_kendall([], [], {"a": []}).mean.value)


def test_bad_axes_are_refused_by_name():
    x = [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match="axes: found none, expected at least one hyper-param"):
        granulated_kendall(x, x, {})
    with pytest.raises(InputError, match=r"axes\[depth\]: found shape \(2,\), expected \(3,\)"):
        granulated_kendall(x, x, {"depth": [1, 2]})
    with pytest.raises(InputError, match=r"axes\[depth\]\[1\]: found nan, expected a label"):
        granulated_kendall(x, x, {"depth": [1, math.nan, 2]})
    with pytest.raises(InputError, match=r"y\[0\]: found nan"):
        granulated_kendall(x, [math.nan, 1, 2], {"depth": x})
