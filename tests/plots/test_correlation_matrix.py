from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.correlation_matrix import correlation_matrix

NAMES = ("gap", "tic", "norm", "sharpness")
VALUES = {("gap", "tic"): 0.9, ("gap", "norm"): 0.1, ("gap", "sharpness"): -0.2}
VALUES |= {("tic", "norm"): 0.2, ("tic", "sharpness"): -0.1, ("norm", "sharpness"): -0.8}


def table(values=VALUES):
    rows = [(row, column, value) for (row, column), value in values.items()]
    return pd.DataFrame(rows, columns=["row", "column", "value"])


def matrix(axes):
    count = len(axes.get_yticklabels())
    return np.ma.filled(axes.collections[0].get_array(), np.nan).reshape(count, count)


def test_a_pair_stands_for_both_and_a_measure_is_one_with_itself():
    axes = correlation_matrix(table(), clustered=False)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(NAMES)
    found = matrix(axes)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1.0)
    for (row, column), value in VALUES.items():
        assert found[NAMES.index(row), NAMES.index(column)] == value
    assert ".90" in [text.get_text() for text in axes.texts]
    assert axes.collections[0].get_clim() == (-1, 1)
    labels = [other.get_ylabel() for other in axes.get_figure().axes]
    assert "Kendall's τ" in labels


def test_alike_measures_stand_beside_each_other_whatever_the_sign():
    shuffled = {k: VALUES[k] for k in (("gap", "norm"), ("tic", "sharpness"))} | VALUES
    axes = correlation_matrix(table(shuffled))
    order = [text.get_text() for text in axes.get_yticklabels()]
    assert sorted(order) == sorted(NAMES)
    assert abs(order.index("gap") - order.index("tic")) == 1
    assert abs(order.index("norm") - order.index("sharpness")) == 1


def test_unknown_pairs_are_blank_and_many_measures_have_no_numbers():
    data = table()
    data.loc[0, "value"] = np.nan
    axes = correlation_matrix(data, clustered=False)
    assert np.isnan(matrix(axes)[0, 1])
    assert len(axes.texts) == 14
    many = [f"measure {place}" for place in range(20)]
    pairs = {pair: 0.5 for pair in combinations(many, 2)}
    assert not correlation_matrix(table(pairs)).texts
    assert correlation_matrix(table(pairs), width=3.9).get_figure().get_figwidth() <= 3.9


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table().drop(columns="row"), r"no column row, expected the columns row, column, value"),
        (table().iloc[:0], r"found no rows, expected a correlation; leave this figure out"),
    ],
)
def test_correlations_that_cannot_be_drawn(data, message):
    with pytest.raises(InputError, match=message):
        correlation_matrix(data)
