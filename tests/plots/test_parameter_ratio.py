import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.parameter_ratio import parameter_ratio


def table():
    rows = [
        (predictor, architecture, ratio, ratio / 20 - 0.2)
        for predictor in ("training loss", "tic.exact")
        for architecture in ("2-NN", "VGG-16")
        for ratio in (10.0, 0.1, 1.0)
    ]
    frame = pd.DataFrame(rows, columns=["predictor", "architecture", "ratio", "kendall"])
    return frame.assign(**{"kendall.low": frame.kendall - 0.1, "kendall.high": frame.kendall + 0.2})


def curves(axes):
    return [line for line in axes.get_lines() if not line.get_label().startswith("_")]


def test_points_of_an_architecture_are_joined_in_the_order_of_the_ratio():
    grid = parameter_ratio(table())
    assert [axes.get_title() for axes in grid] == ["training loss", "tic.exact"]
    for axes in grid:
        assert [line.get_label() for line in curves(axes)] == ["2-NN", "VGG-16"]
        for line in curves(axes):
            np.testing.assert_allclose(line.get_xdata(), [0.1, 1, 10])
            np.testing.assert_allclose(line.get_ydata(), [-0.195, -0.15, 0.3])
        ends = [segment[:, 1] for segment in axes.collections[0].get_segments()]
        np.testing.assert_allclose(ends, [[-0.295, 0.005], [-0.25, 0.05], [0.2, 0.5]])
        assert axes.get_xscale() == "log"
    (legend,) = grid[0].get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["2-NN", "VGG-16"]


def test_what_is_unknown_or_has_no_logarithm_is_left_out():
    data = table()
    data.loc[0, "kendall"] = np.nan
    data.loc[4, "ratio"] = 0.0
    lines = curves(parameter_ratio(data)[0])
    assert [len(line.get_xdata()) for line in lines] == [2, 2]


def test_tables_that_cannot_be_drawn():
    with pytest.raises(InputError, match="found no column ratio"):
        parameter_ratio(table().drop(columns="ratio"))
    with pytest.raises(InputError, match="found no rows, expected a setting with a ratio"):
        parameter_ratio(table().assign(kendall=np.nan))
