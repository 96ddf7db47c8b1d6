import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.accuracy_shift import accuracy_shift

MODELS = pd.DataFrame(
    {
        "data": ["colours"] * 3 + ["turns"],
        "trained_by": ["sgd", "sgd", "adam", "sgd"],
        "id": [0.8, 0.81, 0.7, 0.9],
        "shifted": [0.3, 0.5, 0.6, 0.7],
    }
)
CURVE = pd.DataFrame(
    {
        "data": ["colours", "colours", "turns"],
        "trained_by": ["sgd", "adam", "sgd"],
        "id": [0.805, 0.7, 0.9],
        "shifted": [0.4, 0.6, 0.7],
        "shifted.low": [0.35, np.nan, np.nan],
        "shifted.high": [0.45, np.nan, np.nan],
    }
)


def test_points_and_means_stand_in_the_panel_of_their_data():
    grid = accuracy_shift(MODELS, CURVE)
    assert [axes.get_title() for axes in grid] == ["colours", "turns"]
    named = {line.get_label(): line for line in grid[0].get_lines()}
    np.testing.assert_allclose(named["sgd"].get_xydata(), [[0.805, 0.4]])
    np.testing.assert_allclose(named["adam"].get_xydata(), [[0.7, 0.6]])
    assert named["sgd"].get_color() != named["adam"].get_color()
    points = [line.get_xydata() for line in grid[0].get_lines() if line.get_linestyle() == "None"]
    np.testing.assert_allclose(points[0], [[0.8, 0.3], [0.81, 0.5]])
    (bar,) = grid[0].collections[0].get_segments()
    np.testing.assert_allclose(bar, [[0.805, 0.35], [0.805, 0.45]])
    assert grid[0].get_xlabel() == "in-distribution accuracy"


def test_an_optimizer_looks_the_same_in_every_panel():
    first, second = accuracy_shift(MODELS, CURVE)
    colours = [
        next(line.get_color() for line in axes.get_lines() if line.get_label() == "sgd")
        for axes in (first, second)
    ]
    assert colours[0] == colours[1]


def test_the_line_of_equality_spans_what_both_accuracies_share():
    near = MODELS.assign(shifted=[0.72, 0.75, 0.79, 0.7])
    line = accuracy_shift(near, CURVE)[0].get_lines()[0]
    np.testing.assert_allclose(line.get_xydata(), [[0.72, 0.72], [0.79, 0.79]])


@pytest.mark.parametrize("column", ["shifted", "trained_by"])
def test_a_missing_column_is_named(column):
    with pytest.raises(InputError, match=f"no column {column}, expected the columns data"):
        accuracy_shift(MODELS.drop(columns=column), CURVE)
    with pytest.raises(InputError, match=f"no column {column}, expected the columns data"):
        accuracy_shift(MODELS, CURVE.drop(columns=column))


def test_no_model_is_no_figure():
    with pytest.raises(InputError, match="no rows, expected a model with a shifted accuracy"):
        accuracy_shift(MODELS.iloc[:0], CURVE)
