import numpy as np
import pytest
from test_slice_contour import path, table

from gentheory.errors import InputError
from gentheory.plots.surface import fragment, script, surface


def test_the_surface_is_the_table_with_the_way_upon_it():
    data = table()
    figure = surface(data, path(), names=("first (filter norms)", "second (filter norms)"))
    sheet, line, way = figure.data
    assert (len(sheet.x), len(sheet.y)) == (7, 5)
    np.testing.assert_allclose(sheet.customdata, 10**sheet.z)
    np.testing.assert_allclose(sorted(np.ravel(sheet.customdata)), sorted(data["loss"]))
    # One of the four points of the path lies beyond the grid.
    np.testing.assert_array_equal(way.x, [-0.9, -0.5, 0.0])
    assert list(way.text) == ["step 0", "step 2", "step 4"]
    np.testing.assert_allclose(line.x[::24], way.x)
    np.testing.assert_allclose(line.z[::24], way.z)
    chord = np.interp(line.x, way.x, way.z)
    assert np.abs(line.z - chord).max() > 0.03 * (np.max(sheet.z) - np.min(sheet.z))
    lowest = np.log10(0.01) + 0.01 * (np.max(sheet.z) - np.min(sheet.z))
    assert way.z[-1] == pytest.approx(lowest)
    scene = figure.layout.scene
    assert scene.xaxis.title.text == "first (filter norms)"
    assert scene.yaxis.title.text == "second (filter norms)"
    assert scene.zaxis.title.text == "loss (units of the loss)"
    assert [float(text) for text in (scene.zaxis.ticktext[0], scene.zaxis.ticktext[-1])] == [
        0.01,
        13.0,
    ]


@pytest.mark.parametrize("stages", [0, 1])
def test_a_way_that_lies_beyond_the_grid_is_not_drawn(stages):
    way = path()
    way.loc[stages:, "first"] = 100.0
    drawn = surface(table(), way.iloc[: stages + 2]).data
    assert len(drawn) == 1 + 2 * stages
    assert all(len(trace.x) == 1 for trace in drawn[1:])


def test_a_narrow_range_is_linear():
    (sheet,) = surface(table(floor=100.0)).data
    np.testing.assert_array_equal(sheet.z, sheet.customdata)


def test_the_element_is_the_same_each_time_and_asks_no_network():
    first, second = (fragment(surface(table()), "plane") for _ in range(2))
    assert first == second
    assert 'id="plane"' in first
    assert "<script src" not in first
    assert "cdn.plot.ly" not in first
    assert len(first) < 100_000
    assert script().startswith("<script>")
    assert len(script()) > 1_000_000


def test_surfaces_that_cannot_be_drawn():
    with pytest.raises(InputError, match=r"found 34 points on 7 × 5 coordinates"):
        surface(table().iloc[1:])
