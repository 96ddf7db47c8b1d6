import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.paired_bars import paired_bars

TABLE = pd.DataFrame(
    {
        "panel": ["Hyperband"] * 3 + ["Median"],
        "name": ["tic", "training loss", "random", "tic"],
        "difference": [-0.2, 0.1, 0.3, np.nan],
        "low": [-0.3, -0.1, 0.2, np.nan],
        "high": [-0.1, 0.3, 0.4, np.nan],
        "certain": [True, False, True, False],
    }
)


def test_bars_have_the_length_and_the_look_of_their_verdict():
    first, second = paired_bars(TABLE, quantity="difference (units)")
    assert [bar.get_width() for bar in first.patches] == [-0.2, 0.1, 0.3]
    better, undecided, worse = first.patches
    assert undecided.get_facecolor() == (1, 1, 1, 1)
    assert len({bar.get_facecolor() for bar in first.patches}) == 3
    assert worse.get_hatch()
    assert not better.get_hatch()
    (lines,) = first.collections
    np.testing.assert_allclose(lines.get_segments()[0], [[-0.3, 0], [-0.1, 0]])
    assert len(second.patches) == 0
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == ["tic", "training loss", "random"]
    assert first.get_figure().get_supxlabel() == "difference (units)"


def test_nothing_to_draw():
    with pytest.raises(InputError, match="no column certain, expected the columns panel, name"):
        paired_bars(TABLE.drop(columns="certain"), quantity="difference")
    with pytest.raises(InputError, match="no rows, expected a difference; leave this figure out"):
        paired_bars(TABLE.iloc[:0], quantity="difference")
