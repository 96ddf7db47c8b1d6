import numpy as np
import pandas as pd
import pytest

from gentheory.report.ladder import ladder
from gentheory.report.population import Population


def population(**measures: list[float]) -> Population:
    count = len(next(iter(measures.values())))
    frame = pd.DataFrame(
        {**measures, "setting": "one", "excluded": "", "point": range(count), "gap": 0.1}
    )
    return Population(frame, ("one",), tuple(measures))


def row(table: pd.DataFrame, name: str) -> pd.Series:
    return table.loc[table["predictor"] == name].iloc[0]


def test_rungs_beside_the_exact_one_on_the_same_examples() -> None:
    exact, held_out = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    models = population(
        **{
            "tic.exact": exact,
            "tic.diagonal": [2 * value for value in exact],
            "tic.trace_ratio": [1.0, 2.0, 3.0, 4.0, 6.0, 5.0],
            "norms.distance": exact,
            "tic.exact:held-out": held_out,
            "tic.diagonal:held-out": [value / 2 for value in held_out],
        }
    )
    table = ladder(models, {"num_resamples": 200, "seed": 0})
    assert list(table["predictor"]) == ["tic.diagonal", "tic.trace_ratio", "tic.diagonal:held-out"]
    assert row(table, "tic.diagonal")["spearman"] == pytest.approx(1)
    assert row(table, "tic.diagonal")["kendall"] == pytest.approx(1)
    assert row(table, "tic.diagonal")["ratio"] == 2
    assert row(table, "tic.diagonal:held-out")["spearman"] == pytest.approx(1)
    assert row(table, "tic.diagonal:held-out")["ratio"] == 0.5
    swapped = row(table, "tic.trace_ratio")
    assert swapped["kendall"] == pytest.approx(13 / 15)
    assert swapped["spearman"] == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert swapped["kendall.low"] < swapped["kendall"] <= swapped["kendall.high"]


def test_a_rung_without_numbers_says_so() -> None:
    models = population(
        **{
            "tic.exact": [1.0, 2.0, 3.0, 4.0, 5.0],
            "tic.blocks": [np.nan, np.nan, 1.0, 2.0, 3.0],
            "tic.kfac": [2.0] * 5,
        }
    )
    table = ladder(models, {"num_resamples": 50, "seed": 0})
    assert list(table["note"]) == ["too few", "constant"]
    assert table["spearman"].isna().all()
    assert list(table["count"]) == [3, 5]


def test_nothing_without_the_exact_rung() -> None:
    models = population(**{"tic.kfac": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert ladder(models, {"num_resamples": 50, "seed": 0}).empty
