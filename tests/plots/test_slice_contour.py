import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.export import render
from gentheory.plots.frame import plane
from gentheory.plots.slice_contour import slice_contour

ENDS = (("first", -1.0, 1.0, 7), ("second", -2.0, 2.0, 5))


def table(*, floor=0.01):
    axes = (np.linspace(low, high, count) for _, low, high, count in ENDS)
    first, second = (part.ravel() for part in np.meshgrid(*axes, indexing="ij"))
    return pd.DataFrame(
        {"first": first, "second": second, "loss": floor + first**2 + 3 * second**2}
    )


def path():
    rows = [(4, 0.0, 0.0), (0, -0.9, 1.8), (2, -0.5, 0.2), (1, -3.0, 0.0)]
    return pd.DataFrame(rows, columns=["step", "first", "second"])


def test_the_plane_is_the_table_whatever_the_order_of_its_rows():
    data = table()
    found = plane(data.sample(frac=1, random_state=0), "loss")
    assert found.columns["loss"].shape == (5, 7)
    for row in data.itertuples():
        place = list(found.second).index(row.second), list(found.first).index(row.first)
        assert found.columns["loss"][place] == row.loss


def test_contours_of_the_loss_and_of_the_accuracy_with_names_and_units():
    data = table().assign(accuracy=lambda t: np.exp(-t["loss"]))
    grid = slice_contour(data, names=("first (filter norms)", "second (filter norms)"))
    assert [axes.get_title() for axes in grid] == ["loss (units of the loss)", "accuracy (%)"]
    figure = grid[0].get_figure()
    assert figure.get_supxlabel() == "first (filter norms)"
    assert figure.get_supylabel() == "second (filter norms)"
    filled, accuracies = (axes.collections[0] for axes in grid)
    assert (filled.levels[0], filled.levels[-1]) == pytest.approx((0.01, 13.01))
    np.testing.assert_allclose(np.diff(np.log(filled.levels)), np.log(1301) / 12)
    np.testing.assert_allclose(accuracies.levels, np.arange(0, 101, 10))
    assert grid[0].get_xlim() == (-1, 1)
    assert grid[0].get_ylim() == (-2, 2)
    assert len(slice_contour(table())) == 1


def test_darker_is_lower_in_grey_too():
    filled = slice_contour(table())[0].collections[0]
    colours = filled.get_cmap()(np.linspace(0, 1, 20))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(colours) > 0).all()


def test_a_narrow_range_of_losses_has_equal_distances():
    levels = slice_contour(table(floor=100.0))[0].collections[0].levels
    np.testing.assert_allclose(np.diff(levels), 13 / 12)
    flat = slice_contour(table().assign(loss=2.0))[0].collections[0].levels
    assert (flat[0], flat[-1]) == (2.0, 4.0)


def test_the_way_of_training_goes_in_the_order_of_its_steps():
    axes = slice_contour(table(), path())[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["training"].get_xdata(), [-0.9, -3.0, -0.5, 0.0])
    np.testing.assert_array_equal(lines["training"].get_ydata(), [1.8, 0.0, 0.2, 0.0])
    assert (lines["begin"].get_marker(), lines["end"].get_marker()) == ("s", "*")
    assert lines["begin"].get_xdata() == [-0.9]
    assert lines["end"].get_ydata() == [0.0]
    assert "1 of 4 checkpoints beyond" in [text.get_text() for text in axes.texts]
    (legend,) = axes.get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "begin", "end"]


def test_losses_that_are_not_finite_are_white_and_counted():
    data = table()
    data.loc[[0, 1], "loss"] = [np.inf, np.nan]
    axes = slice_contour(data)[0]
    assert "2 not finite, white" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("data", "way", "message"),
    [
        (table().drop(columns="loss"), None, r"no column loss, expected the columns first, second"),
        (table().iloc[1:], None, r"found 34 points on 7 × 5 coordinates, expected a whole grid"),
        (pd.concat([table(), table()]), None, r"found 70 points on 7 × 5 coordinates"),
        (table().iloc[:5], None, r"found 5 points on 1 × 5 coordinates, expected a whole grid"),
        (table().assign(loss=np.nan), None, r"found no finite loss, expected at least one"),
        (table(), path().drop(columns="step"), r"no column step, expected the columns step"),
    ],
)
def test_planes_that_cannot_be_drawn(data, way, message):
    with pytest.raises(InputError, match=message):
        slice_contour(data, way)


def test_the_same_plane_gives_the_same_bytes():
    first, second = (slice_contour(table(), path())[0].get_figure() for _ in range(2))
    assert render(first, "svg") == render(second, "svg")
