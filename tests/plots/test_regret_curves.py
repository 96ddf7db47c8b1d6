import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.regret_curves import regret_curves


def table(**changes):
    rows = [
        {"panel": panel, "series": series, "budget": budget, "regret": first / (10 * budget)}
        | {"low": first / (20 * budget), "high": first / (5 * budget)}
        for panel in ("Nop", "Hyperband")
        for series, first in (("validation loss", 0.2), ("tic", 0.1))
        for budget in (0.01, 0.1, 1.0)
    ]
    return pd.DataFrame(rows).assign(**changes)


def drawn(axes, name):
    (line,) = [line for line in axes.get_lines() if line.get_label() == name]
    return np.array(line.get_xdata(), dtype=float), np.array(line.get_ydata(), dtype=float)


def test_regret_falls_with_the_budget_in_per_cent():
    grid = regret_curves(table(), quantity="regret (units)")
    assert [axes.get_title() for axes in grid] == ["Nop", "Hyperband"]
    for axes in grid:
        budget, regret = drawn(axes, "tic")
        np.testing.assert_allclose(budget, [1, 10, 100])
        np.testing.assert_allclose(regret, [1.0, 0.1, 0.01])
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.get_xlim() == pytest.approx((1, 100))
    figure = grid[0].get_figure()
    assert figure.get_supylabel() == "regret (units)"
    assert "% of training every trial" in figure.get_supxlabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["validation loss", "tic"]


def test_bands_and_what_is_not_positive():
    data = table()
    data.loc[(data["series"] == "tic") & (data["budget"] == 1.0), ["regret", "low"]] = 0.0
    axes = regret_curves(data, quantity="regret")[0]
    np.testing.assert_allclose(drawn(axes, "tic")[1], [1.0, 0.1, np.nan])
    band = axes.collections[0].get_paths()[0].vertices
    heights = band[np.isclose(band[:, 0], 10), 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.1, 0.4))
    assert axes.get_ylim()[0] >= 2.0 / 300


def test_a_signal_looks_the_same_in_every_panel_and_each_another():
    first, second = regret_curves(table(), quantity="regret")
    for name in ("tic", "validation loss"):
        colours = [
            line.get_color()
            for axes in (first, second)
            for line in axes.get_lines()
            if line.get_label() == name
        ]
        assert len(set(colours)) == 1
    markers = {line.get_marker() for line in first.get_lines()}
    assert len(markers) == 2


def test_nothing_to_draw():
    with pytest.raises(InputError, match="no column low, expected the columns panel, series"):
        regret_curves(table().drop(columns="low"), quantity="regret")
    with pytest.raises(InputError, match="found no rows, expected a budget; leave this figure"):
        regret_curves(table().iloc[:0], quantity="regret")
