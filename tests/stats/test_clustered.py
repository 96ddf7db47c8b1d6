import numpy as np
import pytest

from gentheory.stats import clustered, weighted
from gentheory.stats.clustered import pair_sums


@pytest.mark.parametrize("block", [1, 70, 2**22])
def test_sums_over_pairs_equal_those_counted_one_by_one(block, monkeypatch):
    monkeypatch.setattr(clustered, "_MAX_BLOCK", block)
    labels = np.array([2, 0, 1, 1, 0, 2, 2, 1, 0, 0])
    x, y = np.random.default_rng(0).integers(0, 4, size=(2, 10))
    expected = np.zeros((3, 3))
    for i in range(10):
        for j in range(10):
            sign = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
            expected[labels[i], labels[j]] += sign
    np.testing.assert_array_equal(pair_sums(labels, x, y), expected)
    one = pair_sums(labels, x)
    np.testing.assert_array_equal(one, -one.T)


def test_tau_of_clusters_equals_tau_of_rows():
    generator = np.random.default_rng(1)
    labels = np.arange(60) % 9
    counts = generator.integers(0, 4, size=(20, 9))[:, labels].astype(float)
    x, y = (weighted.Column.of(each) for each in generator.normal(size=(2, 60)).round(1))
    found = weighted.kendall(counts, x, y, clusters=labels)
    np.testing.assert_allclose(found, weighted.kendall(counts, x, y), rtol=0, atol=1e-14)
