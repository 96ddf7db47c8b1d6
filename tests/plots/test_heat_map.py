import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.heat_map import MEAN, heat_map


def table(settings=3, predictors=5):
    rows = [
        {
            "setting": f"setting {s}",
            "predictor": f"predictor {p}",
            "kind": "baseline" if p < 2 else "measure",
            "kendall": np.cos(s + 2 * p),
        }
        for s in range(settings)
        for p in range(predictors)
    ]
    return pd.DataFrame(rows)


def numbers(axes):
    return [text.get_text() for text in axes.texts]


def test_every_number_and_the_means_stand_in_the_cells():
    data = table()
    (axes,) = heat_map(data, "kendall")
    rows = data["kendall"].to_numpy().reshape(3, 5)
    expected = np.concatenate([rows, rows.mean(0, keepdims=True)])
    found = [float(text.replace("−", "-")) for text in numbers(axes)]
    np.testing.assert_allclose(found, expected.ravel(), atol=0.0051)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["setting 0", "setting 1", "setting 2", MEAN]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [f"predictor {p}" for p in range(5)]


def test_wide_tables_are_cut_into_blocks():
    grid = heat_map(table(predictors=7), "kendall", columns=3, width=3.9)
    counts = [len(axes.get_xticklabels()) for axes in grid]
    assert sorted(counts) == [2, 2, 3]
    names = [label.get_text() for axes in grid for label in axes.get_xticklabels()]
    assert names == [f"predictor {p}" for p in range(7)]


def test_what_is_unknown_is_blank_and_out_of_the_mean():
    data = table(settings=2, predictors=2)
    data.loc[0, "kendall"] = np.nan
    (axes,) = heat_map(data, "kendall")
    assert len(numbers(axes)) == 5
    assert numbers(axes)[1] == numbers(axes)[3]  # the mean of one number
    data.loc[2, "kendall"] = np.nan  # nothing is left of the first predictor
    (axes,) = heat_map(data, "kendall")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["predictor 1"]


def test_orange_and_blue_for_every_kind_of_colour_vision():
    data = table(settings=1, predictors=3)
    data["kendall"] = [-1.0, 0.0, 1.0]
    (axes,) = heat_map(data, "kendall")
    (mesh,) = axes.collections
    orange, white, blue = mesh.cmap(mesh.norm([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(white, 1, atol=0.01)
    assert orange[0] > 0.8 > 0.1 > orange[2]
    assert blue[2] > 0.6 > 0.1 > blue[0]


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="no column spearman"):
        heat_map(table(), "spearman")
    with pytest.raises(InputError, match="table: found no rows"):
        heat_map(table(settings=0).reindex(columns=table().columns), "kendall")
