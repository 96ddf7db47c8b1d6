import numpy as np
import pandas as pd
import pytest

from gentheory.report.analysis import analyse
from gentheory.report.grids import (
    correlation_grids,
    criterion_grids,
    setting_grid,
    size_grid,
    word_grid,
)
from gentheory.report.numbers import tau


@pytest.fixture
def analysis(study):
    return analyse(study, num_resamples=50)


def rows(grid):
    return {row[0].text: row[1:] for row in grid.rows}


def test_cells_hold_tau_its_interval_and_its_shade(analysis):
    kendall = correlation_grids(analysis)[0]
    expected = analysis.correlations.set_index(["setting", "predictor"]).loc[
        ("3-LNN", "tic.diagonal")
    ]
    cell = rows(kendall)["tic.diagonal"][1]
    assert cell.text == tau(expected["kendall"])
    low, high = (tau(expected[f"kendall.{end}"]) for end in ("low", "high"))
    assert cell.detail == (f"[{low}, {high}]",)
    assert cell.shade == pytest.approx(expected["kendall"], abs=1e-3)
    assert [(head.text, head.detail) for head in kendall.header[:2]] == [
        ("predictor", ()),
        ("all\N{NO-BREAK SPACE}models", ("24 models",)),
    ]


def test_cells_from_fewer_models_say_from_how_many(analysis):
    kendall = rows(correlation_grids(analysis)[0])
    assert kendall["norms.parameters"][0].detail[1:] == ("23 models",)
    assert kendall["norms.parameters"][2].detail[1:] == ()


def test_rows_without_a_meaning_are_left_out(analysis):
    _, partial, lead, *_ = (rows(grid) for grid in correlation_grids(analysis))
    assert "minus training loss" not in partial
    assert "learning-rate time T" in partial
    assert lead.keys() == {"tic.exact", "tic.diagonal", "norms.parameters"}
    assert "training loss" not in rows(criterion_grids(analysis)[1])


def test_a_lead_is_bold_where_its_interval_excludes_zero(analysis):
    lead = rows(correlation_grids(analysis)[2])
    table = analysis.correlations.set_index(["predictor", "setting"])
    for predictor, cells in lead.items():
        for cell, label in zip(cells, ("all models", "3-LNN", "3-NN"), strict=True):
            low, high = table.loc[(predictor, label), ["lead.low", "lead.high"]]
            assert cell.strong == (low > 0 or high < 0)
    strong = [cell.strong for cells in lead.values() for cell in cells]
    assert any(strong)
    assert not all(strong)


def test_baselines_are_marked(analysis):
    marked = {row[0].text for row in correlation_grids(analysis)[0].rows if row[0].muted}
    assert marked == {"minus training loss", "learning-rate time T"}


def test_ratios_have_no_shade(analysis):
    grid = size_grid(analysis)
    assert grid is not None
    assert {cell.shade for cells in rows(grid).values() for cell in cells} == {0.0}


def test_settings_show_counts_and_medians(analysis, study):
    cells = [cell.text for cell in rows(setting_grid(analysis))["3-NN"]]
    assert cells[:3] == ["12", "1", "0"]
    assert cells[5] == f"{np.median(study.models['gap'].iloc[13:]):.3g}"


def test_words_stand_as_they_are_and_nothing_is_no_table():
    table = pd.DataFrame({"reason": ["it broke"], "models": [3]})
    grid = word_grid("misses", "Misses", "", table)
    assert grid is not None
    assert [[cell.text for cell in row] for row in grid.rows] == [["it broke", "3"]]
    assert word_grid("misses", "Misses", "", table.iloc[:0]) is None
