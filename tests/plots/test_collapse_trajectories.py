import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.collapse_trajectories import collapse_trajectories

EPOCHS = (0, 10, 100)


def table():
    rows = [
        {"panel": panel, "series": series, "epoch": epoch, "steps": 5 * epoch, "value": value}
        | {"low": value / 2, "high": value * 2}
        for panel, start in (("NC1", 10.0), ("NC3", 0.5))
        for series, factor in (("digits", 1.0), ("MNIST", 2.0))
        for epoch in EPOCHS
        for value in [start * factor / (1 + epoch)]
    ]
    return pd.DataFrame(rows)


def upright(axes):
    lines = [line for line in axes.get_lines() if list(line.get_ydata()) == [0, 1]]
    return {line.get_xdata()[0]: line for line in lines}


def test_each_metric_has_an_axis_of_its_own():
    grid = collapse_trajectories(table())
    assert [axes.get_title() for axes in grid] == ["NC1", "NC3"]
    assert grid[0].get_ylim() == pytest.approx((10 / 101 / 1.5, 20 * 1.5))
    assert grid[1].get_ylim() == pytest.approx((0.5 / 101 / 1.5, 1.0 * 1.5))
    (line,) = [line for line in grid[1].get_lines() if line.get_label() == "MNIST"]
    np.testing.assert_allclose(line.get_ydata(), [1.0, 1 / 11, 1 / 101])
    figure = grid[0].get_figure()
    assert figure.get_supylabel() == "metric (no unit; 0: collapsed)"
    assert figure.get_supxlabel() == "epoch (checkpoints at equal distances)"
    assert not upright(grid[0])


def test_an_upright_line_in_the_look_of_its_series_where_training_errors_end():
    grid = collapse_trajectories(table(), {"digits": 10, "MNIST": 55})
    for axes in grid:
        marks = upright(axes)
        assert sorted(marks) == [1.0, 1.5]
        own = {line.get_label(): line for line in axes.get_lines()}
        assert marks[1.0].get_color() == own["digits"].get_color()
        assert marks[1.5].get_linestyle() == own["MNIST"].get_linestyle()
    assert "upright: zero training error" in [text.get_text() for text in grid[0].texts]


def test_steps_of_the_optimizer_stand_where_they_are():
    grid = collapse_trajectories(table(), {"digits": 50}, by="steps")
    assert list(upright(grid[0])) == [50]


def test_collapse_that_cannot_be_drawn():
    with pytest.raises(InputError, match=r"no column high, expected the columns panel, series"):
        collapse_trajectories(table().drop(columns="high"))
    with pytest.raises(InputError, match=r"found no rows, expected a checkpoint"):
        collapse_trajectories(table().iloc[:0])
