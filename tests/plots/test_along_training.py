import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.along_training import along_training


def table(**changes):
    rows = [
        {"panel": panel, "series": series, "epoch": epoch, "value": value}
        | {"low": value / 2, "high": value * 2}
        for panel in ("net", "linear")
        for series, first in (("measured gap", 0.1), ("tic.exact", 2.0))
        for epoch, value in ((8, 4 * first), (0, first), (2, 2 * first))
    ]
    return pd.DataFrame(rows).assign(**changes)


def drawn(axes, name):
    (line,) = [line for line in axes.get_lines() if line.get_label() == name]
    return np.array(line.get_xdata(), dtype=float), np.array(line.get_ydata(), dtype=float)


def test_lines_go_from_checkpoint_to_checkpoint_at_equal_distances():
    grid = along_training(table(), quantity="gap")
    assert [axes.get_title() for axes in grid] == ["net", "linear"]
    for axes in grid:
        across, value = drawn(axes, "tic.exact")
        np.testing.assert_array_equal(across, [0, 1, 2])
        np.testing.assert_array_equal(value, [2.0, 4.0, 8.0])
        assert axes.get_yscale() == "log"
        assert axes.get_ylim() == pytest.approx((0.1 / 1.5, 8.0 * 1.5))
    assert [text.get_text() for text in grid[-1].get_xticklabels()] == ["0", "2", "8"]
    assert grid[0].get_figure().get_supylabel() == "gap"
    (legend,) = grid[0].get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["measured gap", "tic.exact"]


def test_a_series_is_joined_across_checkpoints_that_only_others_have():
    data = table()
    (axes, _) = along_training(
        data.loc[(data["series"] != "tic.exact") | (data["epoch"] != 2)], quantity="gap"
    )
    across, value = drawn(axes, "tic.exact")
    np.testing.assert_array_equal(across, [0, 2])
    np.testing.assert_array_equal(value, [2.0, 8.0])
    np.testing.assert_array_equal(drawn(axes, "measured gap")[0], [0, 1, 2])


def test_bands_reach_from_low_to_high():
    axes = along_training(table(), quantity="gap")[0]
    band = axes.collections[1].get_paths()[0].vertices
    for place, value in enumerate([2.0, 4.0, 8.0]):
        heights = band[band[:, 0] == place, 1]
        assert (heights.min(), heights.max()) == (value / 2, value * 2)


def test_limits_make_the_axis_linear_and_what_is_unknown_breaks_the_line():
    data = table()
    data.loc[2, "value"] = np.nan
    axes = along_training(data, quantity="τ", limits=(-1.05, 1.05))[0]
    assert (axes.get_yscale(), axes.get_ylim()) == ("linear", (-1.05, 1.05))
    np.testing.assert_array_equal(drawn(axes, "measured gap")[1], [0.1, np.nan, 0.4])
    assert any(list(line.get_ydata()) == [0, 0] for line in axes.get_lines())


def test_what_a_logarithm_cannot_show_is_counted():
    data = table()
    data.loc[[0, 1], "value"] = [-1.0, 0.0]
    axes, other = along_training(data, quantity="gap")
    np.testing.assert_array_equal(drawn(axes, "measured gap")[1], [np.nan, 0.2, np.nan])
    assert [text.get_text() for text in axes.texts] == ["2 not positive, not shown"]
    assert list(other.texts) == []
    linear = along_training(data.assign(value=-data["value"]), quantity="gap")[0]
    assert linear.get_yscale() == "linear"


def test_many_checkpoints_have_few_numbers_and_the_last_one_has_its_own():
    rows = [
        {"panel": "net", "series": "a", "epoch": e, "value": 1.0, "low": 1.0, "high": 1.0}
        for e in range(20)
    ]
    axes = along_training(pd.DataFrame(rows), quantity="gap")[0]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["1", "4", "7", "10", "13", "16", "19"]


def test_steps_stand_on_a_logarithmic_axis_with_a_place_for_zero():
    steps = {0: 0, 2: 4, 8: 64}
    data = table().assign(steps=lambda t: t["epoch"].map(steps)).drop(columns="epoch")
    axes = along_training(data, quantity="gap", by="steps")[0]
    np.testing.assert_array_equal(drawn(axes, "tic.exact")[0], [0, 4, 64])
    places = axes.transData.transform([[step, 1.0] for step in (0, 4, 16, 64)])[:, 0]
    assert 0 < places[1] - places[0] < places[2] - places[1]
    assert places[2] - places[1] == pytest.approx(places[3] - places[2])
    low, high = axes.transAxes.transform([[0, 0], [1, 0]])[:, 0]
    assert low < places[0] < places[3] < high
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "4", "64"]
    assert axes.get_figure().get_supxlabel() == "steps of the optimizer"
    later = along_training(data.loc[data["steps"] > 0], quantity="gap", by="steps")[0]
    assert 0 < later.get_xlim()[0] < 4
    before = along_training(data.loc[data["steps"] == 0], quantity="gap", by="steps")[0]
    assert [text.get_text() for text in before.get_xticklabels()] == ["0"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table().drop(columns="low"), "no column low, expected the columns panel, series"),
        (table().iloc[:0], "found no rows, expected a checkpoint; leave this figure out"),
        (
            pd.concat([table(panel=str(place)) for place in range(13)]),
            "found 13 panels, expected at most 12; choose some",
        ),
    ],
)
def test_bad_tables_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        along_training(data, quantity="gap")
