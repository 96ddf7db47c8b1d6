import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gentheory.errors import InputError
from gentheory.plots.gap import gap


def table(predicted, measured, **columns):
    known = {
        "setting": "a",
        "architecture": "a",
        "tic.exact": predicted,
        "tic.exact.stderr": 0.01,
        "gap": measured,
        "gap_stderr": 0.02,
    }
    return pd.DataFrame(known | columns)


def points(axes):
    return axes.containers[0].lines[0].get_xydata()


def test_points_and_bars_are_those_of_the_table():
    (axes,) = gap(table([0.1, 0.2, 0.4], [0.2, 0.1, 0.5]))
    np.testing.assert_array_equal(points(axes), [[0.1, 0.2], [0.2, 0.1], [0.4, 0.5]])
    across, upward = axes.containers[0].lines[2]
    np.testing.assert_allclose(across.get_segments()[0], [[0.09, 0.2], [0.11, 0.2]])
    np.testing.assert_allclose(upward.get_segments()[2], [[0.4, 0.48], [0.4, 0.52]])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 0.1 < 0.4 < right
    assert low < 0.1 < 0.5 < high


def test_the_line_is_y_equals_x_and_in_sight_of_points_far_from_it():
    (axes,) = gap(table([1e-6, 2e-6, 4e-6], [0.2, 0.1, 0.5]))
    line = axes.lines[-1].get_xydata()
    np.testing.assert_array_equal(line[:, 0], line[:, 1])
    assert axes.get_xlim()[1] > axes.get_ylim()[0]


def test_a_panel_for_each_setting_with_shared_axes():
    grid = gap(table([0.1, 0.2, 0.4], [0.2, 0.1, 0.5], setting=["b", "a", "b"]), columns=1)
    assert [axes.get_title() for axes in grid] == ["b", "a"]
    assert [len(points(axes)) for axes in grid] == [2, 1]
    assert grid[0].get_xlim() == grid[1].get_xlim()
    assert grid[0].get_position().y0 > grid[1].get_position().y0


def test_what_a_logarithm_cannot_show_is_counted():
    frame = table([0.1, 0.2, -0.3, 0.4], [0.2, 0.1, 0.5, 0.3])
    (axes,) = gap(frame)
    assert len(points(axes)) == 3
    assert [text.get_text() for text in axes.texts] == ["1 not positive, not shown"]


def test_mostly_negative_gaps_are_drawn_on_straight_axes():
    (axes,) = gap(table([-0.1, -0.2, 0.3], [-0.2, 0.1, -0.5]))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert len(points(axes)) == 3
    assert list(axes.texts) == []


def test_models_without_a_number_are_left_out_and_unknown_errors_have_no_bar():
    frame = table([0.1, np.nan, 0.4], [0.2, 0.1, 0.5])
    frame["tic.exact.stderr"] = np.nan
    (axes,) = gap(frame)
    assert len(points(axes)) == 2
    segments = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_array_equal(segments[0], [[0.1, 0.2], [0.1, 0.2]])


def test_equal_values_have_limits_too():
    (axes,) = gap(table([0.0, 0.0], [0.0, 0.0]))
    assert axes.get_xlim()[0] < 0 < axes.get_xlim()[1]


def test_axes_are_named_with_their_units_on_the_figure_given():
    figure = Figure(layout="constrained")
    settings = dict(matplotlib.rcParams)
    (axes,) = gap(table([0.1, 0.2], [0.2, 0.1]), figure=figure)
    assert axes.get_figure() is figure
    assert figure.get_supxlabel() == "predicted gap, tic.exact (units of the loss)"
    assert figure.get_supylabel() == "measured gap (units of the loss)"
    assert dict(matplotlib.rcParams) == settings


def test_panels_differ_in_grey():
    frame = table([0.1, 0.2], [0.2, 0.1], setting=["a", "b"], architecture=["a", "b"])
    markers = [axes.containers[0].lines[0].get_marker() for axes in gap(frame)]
    assert len(set(markers)) == 2


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table([0.1], [0.1]).drop(columns="gap"), "table: found no column gap"),
        (table([np.nan], [0.1]), "table: found no rows, expected a model with tic.exact and gap"),
    ],
)
def test_tables_that_cannot_be_drawn(frame, message):
    with pytest.raises(InputError, match=message):
        gap(frame)
