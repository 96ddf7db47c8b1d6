import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.export import render
from gentheory.plots.spectral_density import spectral_density

CENTRES = {"Hessian": (-2.0, 0.0, 50.0), "GGN": (0.0, 0.0, 40.0)}


def table(shift=0.0):
    parts = []
    for series, centres in CENTRES.items():
        grid = np.linspace(-5, 55, 601)
        kernels = np.exp(-0.5 * ((grid[:, None] - centres) / 0.5) ** 2) / 0.5 / np.sqrt(2 * np.pi)
        density = kernels @ [0.01, 0.98, 0.01]
        parts.append(
            pd.DataFrame({"series": series, "eigenvalue": grid + shift, "density": density})
        )
    return pd.concat(parts).assign(
        low=lambda t: 0.5 * t["density"], high=lambda t: 2 * t["density"]
    )


def outliers():
    rows = [("GGN", 40.0, 0.5), ("GGN", 30.0, 0.0)]
    return pd.DataFrame(rows, columns=["series", "eigenvalue", "stderr"])


def test_a_panel_a_matrix_with_its_density_and_its_band():
    data = table()
    grid = spectral_density(data, outliers())
    assert [axes.get_title() for axes in grid] == list(CENTRES)
    for axes, series in zip(grid, CENTRES, strict=True):
        rows = data.loc[data["series"] == series]
        line = axes.get_lines()[0]
        np.testing.assert_array_equal(line.get_xdata(), rows["eigenvalue"])
        known = rows["density"] > 0
        assert 300 < known.sum() < len(rows)
        np.testing.assert_array_equal(line.get_ydata(), rows["density"].where(known))
        band = axes.collections[0].get_paths()[0].vertices
        assert band[:, 1].max() == pytest.approx(rows["high"].max())
        assert (axes.get_yscale(), axes.get_xscale()) == ("log", "symlog")
    figure = grid[0].get_figure()
    assert figure.get_supxlabel() == "eigenvalue (loss per squared parameter)"
    assert figure.get_supylabel() == "density (per unit of the eigenvalue)"
    assert grid[0].get_lines()[0].get_linestyle() != grid[1].get_lines()[0].get_linestyle()


def test_outliers_are_marked_at_the_foot_of_their_own_panel():
    hessian, ggn = spectral_density(table(), outliers(), marks="the two largest")
    assert len(hessian.get_lines()) == 1
    marks = ggn.get_lines()[1]
    np.testing.assert_array_equal(marks.get_xdata(), [40.0, 30.0])
    assert (marks.get_marker(), marks.get_linestyle()) == ("^", "None")
    bars = [path.vertices[:, 0].tolist() for path in ggn.collections[1].get_paths()]
    assert bars == [[39.5, 40.5], [30.0, 30.0]]
    (legend,) = ggn.get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["the two largest"]
    assert not spectral_density(table())[0].get_figure().legends


def test_the_axes_hold_what_is_not_negligible():
    axes = spectral_density(table())[0]
    low, high = axes.get_ylim()
    lowest_peak = 0.01 / 0.5 / np.sqrt(2 * np.pi)
    assert low == pytest.approx(lowest_peak / 10, rel=1e-3)
    assert high > table()["density"].max()
    assert axes.get_xlim()[0] < -2.0
    assert axes.get_xlim()[1] > 50.0
    assert [text.get_text() for text in axes.get_xticklabels()] == ["−1", "0", "1", "10"]


def test_without_negative_eigenvalues_the_axis_is_linear():
    assert spectral_density(table(shift=10.0))[0].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("data", "marks", "message"),
    [
        (table().drop(columns="low"), None, r"no column low, expected the columns series, eigen"),
        (table().iloc[:0], None, r"found no rows, expected a density; leave this"),
        (table().assign(density=0.0), None, r"table, Hessian: found no positive density"),
        (table(), outliers().drop(columns="stderr"), r"no column stderr, expected the columns"),
    ],
)
def test_densities_that_cannot_be_drawn(data, marks, message):
    with pytest.raises(InputError, match=message):
        spectral_density(data, marks)


@pytest.mark.parametrize("name", ["svg", "png", "pdf"])
def test_the_same_density_gives_the_same_bytes(name):
    first, second = (spectral_density(table(), outliers())[0].get_figure() for _ in range(2))
    assert render(first, name, dpi=50) == render(second, name, dpi=50)
