import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.training_curves import training_curves


def table(**columns):
    """Three models of two architectures, two epochs each, the rows of the first in disorder."""
    known = {
        "model": ["m1", "m1", "m2", "m2", "m3", "m3"],
        "architecture": ["a", "a", "a", "a", "b", "b"],
        "epoch": [2, 1, 1, 2, 1, 2],
        "train_loss": [0.5, 1.0, 2.0, 1.5, 3.0, 0.25],
    }
    return pd.DataFrame(known | columns)


def lines(axes):
    return [path.tolist() for lines in axes.collections for path in lines.get_segments()]


def test_one_line_a_model_in_the_panel_of_its_architecture():
    grid = training_curves(table())
    assert [axes.get_title() for axes in grid] == ["a", "b"]
    assert lines(grid[0]) == [[[1, 1.0], [2, 0.5]], [[1, 2.0], [2, 1.5]]]
    assert lines(grid[1]) == [[[1, 3.0], [2, 0.25]]]
    assert all(axes.get_yscale() == "log" for axes in grid)
    low, high = grid[0].get_ylim()
    assert low < 0.25 < 3.0 < high
    figure = grid[0].get_figure()
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        *("epoch", "training loss (units of the loss)"),
    )


def test_architectures_have_their_own_colour():
    colours = [tuple(axes.collections[0].get_colors()[0][:3]) for axes in training_curves(table())]
    assert len(set(colours)) == 2


def test_diverged_models_are_dotted_counted_and_do_not_stretch_the_axis():
    outcome = ["finished", "finished", "diverged", "diverged", "finished", "finished"]
    losses = [0.5, 1.0, 2.0, 1e30, 3.0, 0.25]
    axes, other = training_curves(table(outcome=outcome, train_loss=losses))
    assert [len(lines.get_segments()) for lines in axes.collections] == [1, 1]
    assert [text.get_text() for text in axes.texts] == ["dotted: 1 diverged"]
    assert list(other.texts) == []
    assert axes.get_ylim()[1] < 10


def test_losses_that_a_logarithm_cannot_show_end_the_line():
    grid = training_curves(table(train_loss=[np.nan, 1.0, 2.0, 0.0, 3.0, np.inf]))
    assert [len(line) for axes in grid for line in lines(axes)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table().drop(columns="epoch"), "found no column epoch"),
        (table(train_loss=np.nan), "found no rows, expected a positive, finite training loss"),
    ],
)
def test_tables_that_cannot_be_drawn(frame, message):
    with pytest.raises(InputError, match=message):
        training_curves(frame)
