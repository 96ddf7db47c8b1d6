import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gentheory.errors import InputError
from gentheory.plots.granulated_matrix import granulated_matrix


def table():
    rows = [
        ("parameters", "baseline", "K", 0.0, 0.01),
        ("parameters", "baseline", "width", -0.5, 0.1),
        ("parameters", "baseline", "learning rate", 0.1, 0.2),
        ("tic.exact", "predicted gap", "K", 0.3, 0.1),
        ("tic.exact", "predicted gap", "width", 0.9, 0.05),
        ("tic.exact", "predicted gap", "learning rate", np.nan, np.nan),
    ]
    frame = pd.DataFrame(rows, columns=["predictor", "kind", "axis", "psi", "reach"])
    return frame.assign(**{"psi.low": frame.psi - frame.reach, "psi.high": frame.psi + frame.reach})


def test_every_number_stands_in_its_cell_and_summaries_last():
    axes = granulated_matrix(table())
    assert [t.get_text() for t in axes.get_xticklabels()] == ["width", "learning rate", "K"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["parameters", "tic.exact"]
    found = {t.get_position(): t.get_text() for t in axes.texts}
    assert found == {(0, 0): "−.50", (1, 0): ".10", (2, 0): ".00", (0, 1): ".90", (2, 1): ".30"}


def test_what_differs_from_zero_is_bold_and_framed():
    axes = granulated_matrix(table())
    bold = {t.get_position() for t in axes.texts if t.get_fontweight() == "bold"}
    assert bold == {(0, 0), (0, 1), (2, 1)}
    framed = {(round(p.get_x() + 0.45), round(p.get_y() + 0.42)) for p in axes.patches}
    assert framed == bold


def test_draws_on_given_axes():
    axes = Figure().subplots()
    assert granulated_matrix(table(), axes=axes) is axes


def test_tables_that_cannot_be_drawn():
    with pytest.raises(InputError, match=r"found no column psi\.low"):
        granulated_matrix(table().drop(columns="psi.low"))
    with pytest.raises(InputError, match="found no rows, expected a predictor"):
        granulated_matrix(table().iloc[:0])
