import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gentheory.errors import InputError
from gentheory.plots.sign_errors import sign_errors

ERRORS = {
    "parameters": [0.0, 0.5, 0.5, 1.0, np.nan],
    "tic.exact": [*[0.0] * 9, 0.25, 0.75],
    "silent": [np.nan],
}


def table():
    rows = [
        (name, "baseline" if name == "parameters" else "measure", value)
        for name, values in ERRORS.items()
        for value in values
    ]
    return pd.DataFrame(rows, columns=["predictor", "kind", "sign_error"])


def marks(axes, marker):
    return [line.get_xdata()[0] for line in axes.lines if line.get_marker() == marker]


def test_mean_quantile_and_worst_are_marked():
    axes = sign_errors(table())
    assert marks(axes, "D") == pytest.approx([0.5, 1 / 11])
    assert marks(axes, "|") == [1.0, 0.25]
    assert marks(axes, "X") == [1.0, 0.75]


def test_bars_are_the_shares_of_a_strip_and_stand_on_its_line():
    axes = sign_errors(table())
    drawn = [bar for bar in axes.patches if bar.get_height()]
    heights = {round(b.get_x() + b.get_width() / 2, 3): -b.get_height() for b in drawn[:3]}
    assert heights == pytest.approx({0.0: 0.36, 0.5: 0.72, 1.0: 0.36})
    assert {round(bar.get_y(), 9) for bar in drawn} == {0.36, 1.36}
    assert drawn[0].get_hatch()
    assert not drawn[-1].get_hatch()


def test_environments_dropped_are_counted_and_strips_without_any_say_so():
    axes = sign_errors(table())
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["parameters (1 dropped)", "tic.exact", "silent (1 dropped)"]
    assert [text.get_text() for text in axes.texts] == ["no environment"]
    assert axes.yaxis_inverted()
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["baseline", "measure", "mean", "90 % quantile", "worst"]


def test_draws_on_given_axes():
    axes = Figure().subplots()
    assert sign_errors(table(), axes=axes) is axes


def test_tables_that_cannot_be_drawn():
    with pytest.raises(InputError, match="found no column sign_error"):
        sign_errors(table().drop(columns="sign_error"))
    with pytest.raises(InputError, match="found no rows, expected an environment"):
        sign_errors(table().iloc[:0])
