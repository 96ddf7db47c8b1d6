import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.class_spectra import class_spectra

COUNTS = {"a": 5, "b": 50, "c": 500}


def table(**changes):
    rows = [
        {"series": series, "class": label, "count": count}
        | {"largest": 4.0 * factor, "largest_error": 0.1}
        | {"smallest": -10.0 * factor / count, "smallest_error": 0.01}
        | {"ratio": 2.5 / count, "ratio_error": 0.002}
        for series, factor in (("re-weighted", 1.0), ("SAM", 0.5))
        for label, count in COUNTS.items()
    ]
    return pd.DataFrame(rows).assign(**changes)


def points(axes, series):
    place = [container.get_label() for container in axes.containers].index(series)
    line, _, (bars,) = axes.containers[place].lines
    return line, bars


def test_classes_stand_in_the_order_of_their_frequency():
    grid = class_spectra(table())
    for axes in grid:
        names = [text.get_text() for text in axes.get_xticklabels()]
        assert names == ["c (500)", "b (50)", "a (5)"]
    line, bars = points(grid[2], "re-weighted")
    np.testing.assert_allclose(np.round(line.get_xdata()), [2, 1, 0])
    np.testing.assert_allclose(line.get_ydata(), [2.5 / count for count in COUNTS.values()])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 0.004)


def test_names_units_and_scales():
    grid = class_spectra(table())
    units = ["loss per squared parameter", "loss per squared parameter", "ratio (no unit)"]
    assert [axes.get_ylabel() for axes in grid] == units
    assert [axes.get_yscale() for axes in grid] == ["log", "linear", "log"]
    assert "λ" in grid[2].get_title() or "lambda" in grid[2].get_title()
    assert grid[0].get_figure().get_supxlabel().startswith("class (its examples), the most")
    (legend,) = grid[0].get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["re-weighted", "SAM"]
    assert points(grid[0], "re-weighted")[0].get_marker() != points(grid[0], "SAM")[0].get_marker()
    negative = class_spectra(table(largest=-1.0))
    assert negative[0].get_yscale() == "linear"


def test_what_is_nothing_beside_the_largest_is_counted():
    data = table()
    data.loc[0, "ratio"] = 1e-19
    axes = class_spectra(data)[2]
    assert [text.get_text() for text in axes.texts] == ["1 lower, not shown"]
    assert axes.get_ylim()[0] > 1e-7


def test_equal_frequencies_are_not_written():
    grid = class_spectra(table(count=7).iloc[:3])
    assert [text.get_text() for text in grid[0].get_xticklabels()] == ["a", "b", "c"]
    assert not grid[0].get_figure().legends


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table().drop(columns="ratio_error"), r"no column ratio_error, expected the columns"),
        (table().iloc[:0], r"found no rows, expected a class; leave this figure out"),
    ],
)
def test_class_spectra_that_cannot_be_drawn(data, message):
    with pytest.raises(InputError, match=message):
        class_spectra(data)
