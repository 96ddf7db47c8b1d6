import numpy as np
import pytest
from matplotlib.figure import Figure

from gentheory.plots.style import entitle, log_axis, looks, panels


def test_looks_are_all_different_and_differ_without_colour():
    found = looks(f"label {place}" for place in range(56))
    assert len({(look.colour, look.marker) for look in found.values()}) == 56
    first = list(found.values())[:7]
    assert len({look.marker for look in first}) == 7
    assert looks(["a", "b", "a"]).keys() == {"a", "b"}


@pytest.mark.parametrize(("count", "columns", "shape"), [(1, 6, (1, 1)), (5, 3, (2, 3))])
def test_panels_fill_rows(count, columns, shape):
    grid = panels(None, count, columns=columns, width=12, height=2)
    figure = grid[0].get_figure()
    assert len(grid) == len(figure.axes) == count
    spec = grid[0].get_subplotspec().get_gridspec()
    assert (spec.nrows, spec.ncols) == shape
    assert figure.get_figwidth() <= 12


def test_the_lowest_panel_of_each_column_has_tick_labels():
    grid = panels(Figure(), 5, columns=3, width=12, height=2)
    labelled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in grid]
    assert labelled == [False, False, True, True, True]


@pytest.mark.parametrize("decades", [0.3, 1.0, 3.0, 9.0])
def test_logarithmic_axes_have_between_two_and_eight_ticks(decades):
    axes = Figure().subplots()
    low, high = 0.13, 0.13 * 10**decades
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    log_axis(axes.xaxis, low, high)
    ticks = axes.xaxis.get_majorticklocs()
    visible = [tick for tick in ticks if low <= tick <= high]
    assert 2 <= len(visible) <= 8
    assert np.unique(visible).size == len(visible)


def test_titles_break_into_lines_where_panels_are_narrow():
    title = "6-NN with skips, n 1000, noise 0.2"
    heights = []
    for width in (3.9, 12.0):
        grid = panels(None, 2, columns=2, width=width, height=2)
        entitle(grid, [title, title])
        assert grid[0].get_title().replace("\n", " ") == title
        heights.append(grid[0].get_title().count("\n"))
        boxes = [axes.title.get_window_extent() for axes in grid]
        assert not boxes[0].overlaps(boxes[1])
        lines = grid[0].get_title().split("\n")
        assert all(line.endswith(",") for line in lines[:-1])
    assert heights == [1, 0]
