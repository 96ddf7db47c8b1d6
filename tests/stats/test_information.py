import math
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from designs import cells, grid, uneven

from gentheory.errors import InputError
from gentheory.stats import conditional_information, information


def signs(difference):
    """±1 with its share; a tie is half of each."""
    return [(float(np.sign(difference)), 1.0)] if difference else [(1.0, 0.5), (-1.0, 0.5)]


def information_by_counting(x, y, axes, given):
    rows, joint = cells(axes), Counter()
    places = [list(axes).index(name) for name in given]
    for one, other in permutations(rows, 2):
        u = tuple(one[p] for p in places), tuple(other[p] for p in places)
        share = 1 / (len(rows[one]) * len(rows[other]))
        for i in rows[one]:
            for j in rows[other]:
                for a, p in signs(x[i] - x[j]):
                    for b, q in signs(y[i] - y[j]):
                        joint[u, a, b] += share * p * q
    total, by_u, by_a, by_b = sum(joint.values()), Counter(), Counter(), Counter()
    for (u, a, b), mass in joint.items():
        by_u[u] += mass
        by_a[u, a] += mass
        by_b[u, b] += mass
    found = sum(
        mass * math.log(mass * by_u[u] / (by_a[u, a] * by_b[u, b]))
        for (u, a, b), mass in joint.items()
    )
    entropy = -sum(mass * math.log(mass / by_u[u]) for (u, _), mass in by_b.items())
    return found / entropy if entropy > 1e-12 * total else math.nan


def subsets(axes):
    return [s for size in range(3) for s in combinations(axes, size)]


def test_by_hand():
    # Six ordered pairs: four agree, two do not; both signs are as frequent.
    found = conditional_information([1, 2, 3], [1, 3, 2], {"a": [0, 1, 2]})
    agree = 2 / 3
    entropy = -(agree * math.log(agree) + (1 - agree) * math.log(1 - agree))
    assert found.least.value == pytest.approx(1 - entropy / math.log(2))
    assert found.given == ()
    assert math.isnan(found.normalized[("a",)])  # each pair is alone with its values


@pytest.mark.parametrize("seed", range(4))
def test_counts_every_pair_of_uneven_repeats(seed, monkeypatch):
    x, y, axes = uneven(seed)
    monkeypatch.setattr(information, "_MAX_BLOCK", 90)
    found = conditional_information(x, y, axes)
    slow = {given: information_by_counting(x, y, axes, given) for given in subsets(axes)}
    assert found.normalized == pytest.approx(slow, abs=1e-12, nan_ok=True)
    assert found.least.value == pytest.approx(np.nanmin(list(slow.values())), abs=1e-12)
    assert slow[found.given] == pytest.approx(found.least.value, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_that_of_leaving_out_each_configuration(seed):
    x, y, axes = uneven(seed, num_rows=24)
    without = []
    for rows in cells(axes).values():
        kept = np.delete(np.arange(24), rows)
        some = {name: column[kept] for name, column in axes.items()}
        each = [information_by_counting(x[kept], y[kept], some, given) for given in subsets(axes)]
        without.append(np.nanmin(each))
    stderr = math.sqrt((len(without) - 1) * np.var(without))
    found = conditional_information(x, y, axes).least
    assert found.stderr == pytest.approx(stderr, abs=1e-12)
    assert found.high - found.value == pytest.approx(1.959964 * stderr, rel=1e-6)


def test_noise_says_nothing_and_an_oracle_all():
    axes, _ = grid(3, 3, 3, 3, repeats=3)
    x, y = np.random.default_rng(0).normal(size=(2, 243))
    oracle = conditional_information(np.exp(y), y, axes)
    assert oracle.least.value == pytest.approx(1)
    assert conditional_information(-y, y, axes).least.value == pytest.approx(1)
    assert conditional_information(np.zeros(243), y, axes).least.value == pytest.approx(
        0, abs=1e-12
    )
    noise = conditional_information(x, y, axes).least
    assert noise.low <= 0 <= noise.value < 0.01
    assert conditional_information(y + 0.05 * x, y, axes).least.low > 0.5


def test_the_interval_of_noise_holds_zero_as_often_as_it_says():
    axes, _ = grid(4, 4, 4, repeats=2)
    hits = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(2, 128))
        hits.append(conditional_information(x, y, axes).least.low <= 0)
    assert np.mean(hits) > 0.9


def test_the_stderr_is_the_spread_over_new_configurations_and_repeats():
    axes, _ = grid(4, 4, 4, repeats=2)
    place = np.unique(np.stack(list(axes.values())), axis=1, return_inverse=True)[1].reshape(-1)
    found = []
    for seed in range(200):
        worth, *noise = np.random.default_rng(seed).normal(size=(3, 128))
        x, y = worth[place] + noise[0], worth[place] + noise[1] / 2
        found.append(conditional_information(x, y, axes).least)
    values, errors = np.array([(each.value, each.stderr) for each in found]).T
    assert values.std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.25)
    truth = values.mean()
    assert 0.9 < np.mean([each.low <= truth <= each.high for each in found]) < 0.99


def test_a_measure_that_echoes_one_axis_says_nothing_once_it_is_given():
    axes, _ = grid(5, 4, 4)
    noise = np.random.default_rng(0).normal(size=(2, 80))
    found = conditional_information(*(3.0 * axes["axis 0"] + noise), axes)
    assert found.normalized[()] > 0.3
    assert found.normalized[("axis 0",)] < 0.03
    assert "axis 0" in found.given


def test_trap_37_repeats_are_not_independent_configurations():
    axes, _ = grid(3, 4)
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    once = conditional_information(x, y, axes)
    repeated = {name: np.repeat(column, 5) for name, column in axes.items()}
    again = conditional_information(np.repeat(x, 5), np.repeat(y, 5), repeated)
    assert again.normalized == pytest.approx(once.normalized, nan_ok=True)
    assert again.least.stderr == pytest.approx(once.least.stderr)


def test_nothing_to_compare_is_nan():
    for x, axis in (([], []), ([1], [0]), ([1, 2, 3], [5, 5, 5])):
        found = conditional_information(x, x, {"a": axis})
        assert np.isnan([found.least.value, found.least.stderr]).all()
        assert found.given == ()


def test_axes_with_too_many_values_are_refused(monkeypatch):
    x = np.arange(400.0)
    monkeypatch.setattr(information, "_MAX_BYTES", 2**22)
    with pytest.raises(InputError, match=r"axes: found 0\.0 GiB of counts, .* leave out axes with"):
        conditional_information(x, x, {"a": x, "b": x % 20})
