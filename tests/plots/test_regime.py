import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.regime import regime


def table(**changes):
    rows = [
        {
            "panel": panel,
            "predictor": predictor,
            "regime": x,
            "regime_name": "ntk.distance",
            "kendall": tau,
            "kendall.low": tau - 0.1,
            "kendall.high": tau + 0.1,
        }
        for panel in ("gap", "test loss")
        for predictor in ("training loss", "tic.exact")
        for x, tau in ((0.3, 0.2), (0.01, 0.6), (0.1, 0.4))
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_points_are_joined_in_the_order_of_the_regime_with_their_intervals():
    grid = regime(table())
    assert [axes.get_title() for axes in grid] == ["gap", "test loss"]
    for axes in grid:
        lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
        assert [line.get_label() for line in lines] == ["training loss", "tic.exact"]
        for line in lines:
            np.testing.assert_allclose(line.get_xdata(), [0.01, 0.1, 0.3])
            np.testing.assert_allclose(line.get_ydata(), [0.6, 0.4, 0.2])
        (bars, _) = (found.get_segments() for found in axes.collections)
        ends = [[end[1] for end in bar] for bar in bars]
        np.testing.assert_allclose(ends, [[0.5, 0.7], [0.3, 0.5], [0.1, 0.3]])
        assert axes.get_xscale() == "log"
        assert axes.get_xlabel() == "ntk.distance, median of the setting"


def test_a_regime_of_zero_has_a_linear_axis_and_what_is_unknown_is_left_out():
    data = table()
    data.loc[0, "kendall"] = np.nan
    data["regime"] -= 0.01
    axes = regime(data)[0]
    assert axes.get_xscale() == "linear"
    assert sorted(len(line.get_xdata()) for line in axes.get_lines())[-2:] == [2, 3]


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="no column kendall, expected the columns panel"):
        regime(table().drop(columns="kendall"))
