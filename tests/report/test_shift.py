"""Adaptive optimizers against others under shift, on made-up accuracies with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import models_of, tables_of

from gentheory.report.page import write_report
from gentheory.report.population import population
from gentheory.report.shift import Shift, shift
from gentheory.report.shift_words import points, shift_grids, shift_sentences

FAST = {"num_resamples": 200, "seed": 0}


def trained(names, ids, shifted, *, data="digits", seed=0, **columns):
    """One model each, by an optimizer, with these accuracies."""
    count = len(names)
    known = {
        "data": data,
        "optimizer": [str(name).removesuffix(", nesterov") for name in names],
        "nesterov": [str(name).endswith("nesterov") for name in names],
        "draw": np.arange(count),
        "test_accuracy": np.asarray(ids, dtype=float),
        "shifted_accuracy": np.asarray(shifted, dtype=float),
    }
    return models_of(count, seed=seed, **(known | columns))


def found(*parts):
    models = pd.concat(parts, ignore_index=True)
    tables = tables_of(models, {"norms.distance": np.arange(len(models))})
    result = shift(population(tables), FAST)
    assert result is not None
    return result


def line(count, *, slope=0.5, less=0.0, seed=0, low=0.7, high=0.9):
    """ID accuracies and shifted ones on a line, lower by `less`, with a little noise."""
    stream = np.random.default_rng(seed)
    ids = stream.uniform(low, high, count)
    return ids, 0.2 + slope * ids - less + 0.002 * stream.standard_normal(count)


def test_differences_in_bins_are_those_counted_by_hand():
    names = ["adam", "rmsprop", "sgd", "sgd", "sgd, nesterov", "adam", "sgd", "adam"]
    ids = [0.801, 0.819, 0.80, 0.81, 0.815, 0.831, 0.839, 0.90]
    shifted = [0.3, 0.4, 0.5, 0.6, 0.7, 0.2, 0.5, 0.9]
    rows = found(trained(names, ids, shifted)).matched.to_dict(orient="records")
    whole, *bins = rows
    # The bin from 0.80: (0.3 + 0.4)/2 - (0.5 + 0.6 + 0.7)/3; that from 0.82: 0.2 - 0.5.
    assert [row["difference"] for row in bins] == pytest.approx([-0.25, -0.3])
    assert [(row["low"], row["high"]) for row in bins] == [
        pytest.approx((0.80, 0.82)),
        pytest.approx((0.82, 0.84)),
    ]
    assert [(row["adaptive"], row["others"]) for row in bins] == [(2, 3), (1, 1)]
    assert bins[0]["id"] == pytest.approx(0.81 - 2.425 / 3)
    weights = np.array([2 * 3 / 5, 1 / 2])
    assert whole["difference"] == pytest.approx(weights @ [-0.25, -0.3] / weights.sum())
    assert (whole["adaptive"], whole["others"]) == (3, 4)
    # Within kinds and bins: deviations of ID and of shifted accuracy.
    x = np.array([-0.009, 0.009, *(np.array([0.80, 0.81, 0.815]) - 2.425 / 3)])
    y = np.array([-0.05, 0.05, -0.1, 0, 0.1])
    ids = weights @ [bins[0]["id"], bins[1]["id"]] / weights.sum()
    assert whole["adjusted"] == pytest.approx(whole["difference"] - (x @ y) / (x @ x) * ids)
    assert np.isnan(whole["difference.low"])


def test_an_accuracy_on_the_edge_of_a_bin_belongs_above_it():
    # 0.58 / 0.02 is 28.999999999999996.
    rows = found(trained(["adam", "sgd"], [0.58, 0.59], [0.1, 0.2])).matched
    assert len(rows) == 2
    assert rows["low"].iloc[1] == pytest.approx(0.58)


@pytest.mark.parametrize("less", [0.05, 0.0, -0.05])
def test_a_difference_at_equal_id_accuracy_is_found_with_its_interval(less):
    adaptive, others = line(80, less=less), line(80, seed=1)
    rows = found(trained(["adam"] * 80, *adaptive), trained(["sgd"] * 80, *others, seed=1)).matched
    whole = rows.iloc[0]
    for name in ("difference", "adjusted"):
        assert whole[f"{name}.low"] < -less < whole[f"{name}.high"]
        assert whole[f"{name}.high"] - whole[f"{name}.low"] < 0.01


def test_other_id_accuracies_within_the_bins_are_adjusted_for():
    # Adaptive models lie in the upper half of every bin, on one steep line with the others.
    middles = np.repeat(np.arange(0.71, 0.9, 0.02), 8)
    stream = np.random.default_rng(5)
    ids = [middles + sign * stream.uniform(0, 0.009, len(middles)) for sign in (1, -1)]
    count = len(middles)
    parts = [
        trained([name] * count, own, 4 * own - 3, seed=seed)
        for seed, (name, own) in enumerate(zip(("adam", "sgd"), ids, strict=True))
    ]
    whole = found(*parts).matched.iloc[0]
    assert whole["difference"] > 0.02
    assert whole["adjusted"] == pytest.approx(0, abs=1e-9)


@pytest.fixture(scope="module")
def studies():
    """200 made-up data sets of 40 models an optimizer, without difference and without bend."""
    parts = []
    for seed in range(200):
        for place, name in enumerate(("adam", "sgd")):
            draws = np.arange(40) + 40 * (2 * seed + place)
            accuracies = line(40, seed=(seed, place))
            known = {"data": f"{seed}", "draw": draws, "seed": 2 * seed + place}
            parts.append(trained([name] * 40, *accuracies, **known))
    return found(*parts)


def test_intervals_cover_the_truth_as_often_as_they_say(studies):
    whole = studies.matched.loc[studies.matched["low"].isna()]
    assert len(whole) == 200
    for table, name in ((whole, "adjusted"), (studies.returns, "bend")):
        covered = ((table[f"{name}.low"] <= 0) & (table[f"{name}.high"] >= 0)).mean()
        assert abs(covered - 0.95) < 3 * (0.95 * 0.05 / len(table)) ** 0.5


def test_settings_are_drawn_together_over_optimizers():
    # The draw alone makes the accuracy: in pairs there is no spread at all.
    ids, shifted = line(40)
    shifted = shifted + np.random.default_rng(3).standard_normal(40) * 0.1
    parts = [trained([name] * 40, ids, shifted, seed=s) for s, name in enumerate(("adam", "sgd"))]
    whole = found(*parts).matched.iloc[0]
    assert whole["difference"] == pytest.approx(0)
    assert whole["difference.high"] - whole["difference.low"] < 1e-12
    apart = found(parts[0], parts[1].assign(draw=np.arange(40, 80))).matched.iloc[0]
    assert apart["difference.high"] - apart["difference.low"] > 0.01


def test_without_draws_hyper_parameter_points_are_drawn():
    ids, shifted = line(40)
    one = trained(["adam"] * 40, ids, shifted, draw=np.nan)
    other = one.assign(model=[f"other {m}" for m in one["model"]], optimizer="sgd")
    whole = found(one, other).matched.iloc[0]
    assert whole["difference.high"] - whole["difference.low"] < 1e-12


@pytest.mark.parametrize(
    ("bend", "expected"), [(2.0, "increasing"), (-2.0, "diminishing"), (0.0, "linear")]
)
def test_returns_are_told_by_the_bend(bend, expected):
    ids, shifted = line(60, seed=2)
    shifted = shifted + bend * np.maximum(ids - np.median(ids), 0)
    row = found(trained(["adam"] * 60, ids, shifted)).returns.iloc[0]
    assert row["type"] == expected
    assert row["knot"] == pytest.approx(np.median(ids))
    assert row["below.low"] < 0.5 < row["below.high"]
    assert row["bend"] == pytest.approx(bend, abs=0.05)
    assert row["above"] == pytest.approx(row["below"] + row["bend"])


def test_the_model_is_chosen_by_id_accuracy_alone():
    names = ["adam", "adam", "adam", "sgd", "sgd"]
    chosen = found(trained(names, [0.7, 0.9, 0.9, 0.6, 0.5], [0.9, 0.2, 0.8, 0.1, 0.7])).chosen
    assert list(chosen["trained_by"]) == ["adam", "sgd"]
    assert list(chosen["id"]) == [0.9, 0.6]
    assert list(chosen["shifted"]) == [0.2, 0.1]


def test_curves_are_means_in_bins():
    curve = found(trained(["sgd"] * 4, [0.50, 0.51, 0.519, 0.53], [0.1, 0.2, 0.6, 0.4])).curve
    assert list(curve["count"]) == [3, 1]
    assert list(curve["shifted"]) == pytest.approx([0.3, 0.4])
    assert list(curve["id"]) == pytest.approx([0.5096666666, 0.53])


def test_data_sets_stand_apart():
    parts = [
        trained(["adam"] * 20 + ["sgd"] * 20, *line(40, seed=s), data=name, seed=s)
        for s, name in enumerate(("colours", "turns"))
    ]
    result = found(*parts)
    for table in (result.matched, result.curve, result.returns, result.chosen):
        assert list(dict.fromkeys(table["data"])) == ["colours", "turns"]


def test_diverged_models_are_left_out():
    names, ids = ["adam", "sgd"], [0.8, 0.8]
    models = trained(names, ids, [0.3, 0.3], outcome=["diverged", "finished"])
    assert len(found(models).models) == 1
    assert found(models).matched.empty


@pytest.mark.parametrize("column", [None, np.nan])
def test_without_a_shift_there_is_no_section(column, tmp_path):
    models = models_of(8)
    models = models if column is None else models.assign(shifted_accuracy=column)
    tables = tables_of(models, {"norms.distance": np.arange(8)})
    assert shift(population(tables), FAST) is None
    write_report(tables, tmp_path, num_resamples=20)
    assert 'id="shift"' not in (tmp_path / "index.html").read_text("utf-8")


def both(less) -> Shift:
    return found(
        trained(["adam"] * 80, *line(80, less=less)),
        trained(["sgd"] * 80, *line(80, seed=1), seed=1),
    )


@pytest.mark.parametrize(
    ("less", "verdict"),
    [
        (0.05, "holds here, and they are worse"),
        (-0.05, "does not hold here: they are better"),
        (0.0, "is not contradicted here, nor are they beyond doubt worse"),
    ],
)
def test_the_first_sentence_gives_the_verdict(less, verdict):
    first, chosen, returns = shift_sentences(both(less))
    assert first.startswith("On digits, at equal in-distribution accuracy")
    assert first.endswith(f"{verdict}.")
    assert "chosen by that alone" in chosen
    assert "adam linear (bend" in returns


def test_one_kind_of_optimizer_is_compared_with_nothing():
    result = found(trained(["sgd"] * 20, *line(20)))
    assert result.matched.empty
    assert not any("adaptive" in sentence for sentence in shift_sentences(result))
    assert [grid.name for grid in shift_grids(result)] == ["shift-chosen", "shift-returns"]


def test_a_page_has_the_section_its_figure_and_its_numbers(tmp_path):
    parts = [
        trained(["adam"] * 20 + ["sgd"] * 20, *line(40, seed=s), data=name, seed=s)
        for s, name in enumerate(("colours", "turns"))
    ]
    models = pd.concat(parts, ignore_index=True)
    tables = tables_of(models, {"norms.distance": np.arange(len(models))})
    report = write_report(tables, tmp_path, num_resamples=50)
    assert report.findings[0].startswith("On colours, at equal in-distribution accuracy")
    assert not any("No TIC" in sentence for sentence in report.findings)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert page.count('id="shift"') == 1
    assert page.count("figures/accuracy_shift.svg") == 2
    assert (tmp_path / "figures" / "accuracy_shift.png").stat().st_size > 1000
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["data"] for row in results["shift_matched"]} == {"colours", "turns"}


def test_points_are_hundredths():
    assert [points(value) for value in (0.125, -0.02, -0.0001)] == ["12.5", "−2.0", "0.0"]
