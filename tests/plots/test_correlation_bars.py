import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.correlation_bars import correlation_bars


def table():
    """Two groups of a baseline, a predicted gap and another measure."""
    rows = [
        ("all models", "minus training loss", "baseline", 0.8, np.nan),
        ("all models", "tic.exact", "predicted gap", 0.6, 0.3),
        ("all models", "spectra.trace", "measure", -0.4, -0.1),
        ("3-NN", "minus training loss", "baseline", 0.5, np.nan),
        ("3-NN", "tic.exact", "predicted gap", np.nan, np.nan),
        ("3-NN", "spectra.trace", "measure", 0.2, 0.1),
    ]
    frame = pd.DataFrame(
        rows, columns=["setting", "predictor", "kind", "kendall", "partial_kendall"]
    )
    for name in ("kendall", "partial_kendall"):
        frame[f"{name}.low"], frame[f"{name}.high"] = frame[name] - 0.1, frame[name] + 0.05
    return frame


def test_bars_are_the_taus_and_diamonds_the_partial_taus():
    first, second = correlation_bars(table())
    assert [axes.get_title() for axes in (first, second)] == ["all models", "3-NN"]
    assert [bar.get_width() for bar in first.patches] == [0.8, 0.6, -0.4]
    assert [bar.get_width() for bar in second.patches] == [0.5, 0.2]
    diamonds = next(line for line in first.lines if line.get_marker() == "D")
    np.testing.assert_array_equal(diamonds.get_xdata(), [np.nan, 0.3, -0.1])
    raw, partial = (lines.get_segments() for lines in first.collections)
    np.testing.assert_allclose(raw[1][:, 0], [0.5, 0.65])
    np.testing.assert_allclose(partial[2][:, 0], [-0.2, -0.05])


def test_baselines_are_marked_and_stand_first():
    axes = correlation_bars(table())[0]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [True, False, False]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["minus training loss", "tic.exact", "spectra.trace"]
    assert axes.yaxis_inverted()
    legend = axes.get_figure().legends[0]
    assert legend.get_texts()[0].get_text() == "trivial baseline: τ"


def test_axes_hold_every_interval_but_not_more_than_a_correlation():
    axes = correlation_bars(table())[0]
    low, high = axes.get_xlim()
    assert -0.6 < low < -0.5
    assert 0.85 < high < 1.0


def test_tables_that_cannot_be_drawn():
    with pytest.raises(InputError, match=r"found no column kendall\.low"):
        correlation_bars(table().drop(columns="kendall.low"))
    with pytest.raises(InputError, match="found no rows, expected a setting"):
        correlation_bars(table().iloc[:0])
