import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.slice_line import slice_line


def table(*, steep=1.0, accuracy=True):
    rows = [
        {"panel": panel, "series": series, "distance": at, "loss": (loss := floor + steep * at**2)}
        | {"low": loss / 2, "high": loss * 2}
        | ({"accuracy": np.exp(-(at**2))} if accuracy else {})
        for panel in ("filter", "gradient")
        for series, floor in (("all", 0.1), ("class 3", 0.2))
        for at in (1.0, -1.0, 0.0, 0.5)
    ]
    return pd.DataFrame(rows)


def drawn(axes, name):
    (line,) = [line for line in axes.get_lines() if line.get_label() == name]
    return np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)


def test_losses_above_and_accuracies_below_in_the_order_of_the_distances():
    grid = slice_line(table(), across="distance (filter norms)")
    assert [axes.get_title() for axes in grid] == ["filter", "gradient"] * 2
    labels = [axes.get_ylabel() for axes in grid]
    assert labels == ["loss (units of the loss)", "", "accuracy (%)", ""]
    across, loss = drawn(grid[1], "class 3")
    np.testing.assert_array_equal(across, [-1, 0, 0.5, 1])
    np.testing.assert_allclose(loss, [1.2, 0.2, 0.45, 1.2])
    np.testing.assert_allclose(drawn(grid[3], "all")[1], 100 * np.exp([-1, 0, -0.25, -1]))
    band = grid[0].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.05, 2.2))
    assert grid[0].get_figure().get_supxlabel() == "distance (filter norms)"
    (legend,) = grid[0].get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["all", "class 3"]
    assert len(slice_line(table(accuracy=False))) == 2


def test_series_are_told_apart_without_colour():
    axes = slice_line(table())[0]
    lines = [line for line in axes.get_lines() if line.get_label() in ("all", "class 3")]
    assert len({line.get_marker() for line in lines}) == 2
    assert len({str(line.get_linestyle()) for line in lines}) == 2


@pytest.mark.parametrize(("steep", "scale"), [(1.0, "linear"), (100.0, "log")])
def test_losses_over_two_decades_are_logarithmic_and_panels_have_the_same_limits(steep, scale):
    grid = slice_line(table(steep=steep, accuracy=False))
    assert {axes.get_yscale() for axes in grid} == {scale}
    assert len({axes.get_ylim() for axes in grid}) == 1


def test_losses_that_are_not_finite_break_the_line_and_are_counted():
    data = table(accuracy=False)
    data.loc[0, "loss"] = np.inf
    axes, other = slice_line(data)
    np.testing.assert_array_equal(np.isnan(drawn(axes, "all")[1]), [False, False, False, True])
    assert [text.get_text() for text in axes.texts] == ["1 not finite, not shown"]
    assert not other.texts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table().drop(columns="high"), r"no column high, expected the columns panel, series"),
        (table().iloc[:0], r"found no rows, expected a finite loss; leave this figure out"),
        (table().assign(loss=np.nan), r"found no rows, expected a finite loss"),
    ],
)
def test_slices_that_cannot_be_drawn(data, message):
    with pytest.raises(InputError, match=message):
        slice_line(data)
