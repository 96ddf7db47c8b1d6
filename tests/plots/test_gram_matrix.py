import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.gram_matrix import gram_matrix


def table(count=4, scale=1.0):
    frame = np.full((count, count), -1 / (count - 1))
    np.fill_diagonal(frame, 1.0)
    rows = [
        {"panel": panel, "row": row, "column": column, "value": scale * frame[row, column]}
        for panel in ("class means", "simplex ETF")
        for row in range(count)
        for column in range(count)
    ]
    return pd.DataFrame(rows)


def test_a_matrix_a_panel_with_its_numbers_in_the_cells():
    grid = gram_matrix(table())
    assert [axes.get_title() for axes in grid] == ["class means", "simplex ETF"]
    for axes in grid:
        mesh = axes.collections[0]
        expected = np.full((4, 4), -1 / 3)
        np.fill_diagonal(expected, 1.0)
        np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(4, 4), expected)
        assert [text.get_text() for text in axes.texts[:2]] == ["1.00", "−.33"]
        assert [text.get_text() for text in axes.get_xticklabels()] == list("0123")
    assert grid[0].get_ylabel() == "class"
    assert grid[0].get_figure().get_supxlabel() == "class (numbers: cosine)"


def test_colours_are_centred_on_zero_and_the_same_in_all_panels():
    data = table(scale=5.0)
    data.loc[data["panel"] == "simplex ETF", "value"] /= 5
    for axes in gram_matrix(data):
        assert axes.collections[0].get_clim() == (-5.0, 5.0)


def test_many_classes_have_a_scale_of_colours_instead_of_numbers():
    grid = gram_matrix(table(count=12), quantity="inner product")
    assert not grid[0].texts
    labels = [axes.get_ylabel() for axes in grid[0].get_figure().axes]
    assert "inner product" in labels


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table().drop(columns="value"), r"no column value, expected the columns panel, row"),
        (table().iloc[:0], r"found no rows, expected a matrix; leave this figure out"),
    ],
)
def test_gram_matrices_that_cannot_be_drawn(data, message):
    with pytest.raises(InputError, match=message):
        gram_matrix(data)
