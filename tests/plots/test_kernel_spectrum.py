import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.plots.kernel_spectrum import kernel_spectrum


def table():
    index = np.arange(1, 41)
    parts = [
        pd.DataFrame({"series": series, "index": index, "eigenvalue": 40.0 * index**power})
        for series, power in (("at initialization", -2.0), ("after training", -1.0))
    ]
    return pd.concat(parts, ignore_index=True)


def test_eigenvalues_on_logarithmic_axes_with_names_and_units():
    axes = kernel_spectrum(table().iloc[::-1])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "index of the eigenvalue, the largest first"
    assert axes.get_ylabel().endswith("(squared output per squared parameter)")
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["after training"].get_xdata(), np.arange(1, 41))
    np.testing.assert_allclose(lines["after training"].get_ydata(), 40 / np.arange(1, 41))
    assert len({line.get_marker() for line in lines.values()}) == 2
    assert len({str(line.get_linestyle()) for line in lines.values()}) == 2
    marked = lines["after training"].get_markevery()
    assert (marked[0], marked[-1]) == (0, 39)


def test_bands_where_the_table_has_them():
    data = table().assign(low=lambda t: t["eigenvalue"] / 2, high=lambda t: t["eigenvalue"] * 2)
    axes = kernel_spectrum(data)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == 80.0
    assert not kernel_spectrum(table()).collections


def test_what_a_logarithm_cannot_show_is_counted_in_the_kernels_panel():
    data = table()
    data.loc[[38, 39], "eigenvalue"] = [0.0, -1.0]
    axes = kernel_spectrum(data)
    assert [text.get_text() for text in axes.texts] == ["2 not positive, not shown"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table().drop(columns="index"), r"no column index, expected the columns series, index"),
        (table().assign(eigenvalue=0.0), r"found no rows, expected a positive eigenvalue"),
    ],
)
def test_kernels_that_cannot_be_drawn(data, message):
    with pytest.raises(InputError, match=message):
        kernel_spectrum(data)
