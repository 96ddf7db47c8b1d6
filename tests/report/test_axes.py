import json
import math

import numpy as np
import pandas as pd
import pytest

from gentheory.report.analysis import analyse
from gentheory.report.axes import INFORMATION, MEAN, environments, granulated
from gentheory.report.axis_findings import axis_sentences
from gentheory.report.axis_grids import axis_grids, trend_grid
from gentheory.report.design import ORACLE, RANDOM, design
from gentheory.report.pooled import pooled
from gentheory.report.population import MISSED, population
from gentheory.report.ranking import PARAMETERS, TIME
from gentheory.stats import conditional_information, granulated_kendall

FAST = {"num_resamples": 100, "seed": 0}


@pytest.fixture
def cube(make_models):
    """Width, depth and learning rate, three levels each and three seeds; width drives the gap."""
    repeats = 3
    levels = np.stack(np.meshgrid(*[range(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    width, depth, rate = np.repeat(levels, repeats, axis=0).T
    noise = np.random.default_rng(5).normal(size=len(width))
    gap = 0.5 + 0.2 * width - 0.1 * depth + 0.02 * rate + 0.005 * noise
    shapes = [(10 * 3 ** int(w), 2 + int(d)) for w, d in zip(width, depth, strict=True)]
    models = make_models(
        len(width),
        architecture=[f"MLP, width {w}, depth {d}" for w, d in shapes],
        options=[json.dumps({"width": w, "depth": d}) for w, d in shapes],
        learning_rate=0.1 * 2.0**rate,
        num_parameters=100 * 3**width * (2 + depth),
        gap=gap,
        train_accuracy=1.0,
        test_accuracy=1 - gap / 2,
        n_test=10_000,
    )
    return models.assign(seed=np.tile(np.arange(repeats), 27))


def measures(models):
    options = [json.loads(text) for text in models["options"]]
    return {
        "norms.truth": models["gap"],
        "norms.reverse": -models["gap"],
        "norms.width": np.array([own["width"] for own in options], dtype=float),
        "norms.one": np.ones(len(models)),
    }


def rows_of(table, target="gap"):
    own = table.loc[table["target"] == target]
    return {row["predictor"]: row for row in own.to_dict(orient="records")}


def psi_of(table, target="gap"):
    own = table.loc[table["target"] == target].to_dict(orient="records")
    return {(row["predictor"], row["axis"]): row["psi"] for row in own}


def test_axes_are_settings_and_options_that_vary_alone(cube, make_tables):
    found = design(population(make_tables(cube, {"norms.one": np.ones(81)})))
    assert list(found.axes) == ["width", "depth", "learning_rate"]
    assert found.lines == ("width", "depth", "learning_rate")
    assert len(set(found.configuration)) == 27
    assert found.num_test == 10_000


def test_options_that_do_not_tell_architectures_apart_are_not_enough(cube, make_tables):
    cube["options"] = "{}"
    found = design(population(make_tables(cube, {"norms.one": np.ones(81)})))
    assert list(found.axes) == ["architecture", "learning_rate"]


def test_axes_that_vary_together_have_no_lines(cube, make_tables):
    cube["batch_size"] = [10 * 3 ** round(math.log2(r / 0.1)) for r in cube["learning_rate"]]
    found = design(population(make_tables(cube, {"norms.one": np.ones(81)})))
    assert set(found.axes) == {"width", "depth", "learning_rate", "batch_size"}
    assert found.lines == ("width", "depth")


@pytest.mark.parametrize(
    "changes",
    [{"draw": 1}, {"options": "{}", "architecture": "MLP"}, {"options": "{}", "learning_rate": 1}],
    ids=["random settings", "one axis", "no learning rates"],
)
def test_no_grid_no_design(cube, make_tables, changes):
    tables = make_tables(cube.assign(**changes), {"norms.one": np.ones(81)})
    assert design(population(tables)) is None
    analysis = analyse(tables, **FAST)
    assert analysis.granulated.empty
    assert analysis.pooled.empty
    assert axis_grids(analysis) == []
    assert axis_sentences(analysis) == []


def test_along_axes_by_hand(cube, make_tables):
    found = design(population(make_tables(cube, measures(cube))))
    psi = psi_of(granulated(found, FAST))
    for axis in ("width", "depth", "learning_rate", MEAN, INFORMATION):
        assert psi["norms.truth", axis] == pytest.approx(1)
    assert psi["norms.reverse", MEAN] == pytest.approx(-1)
    # It is tied along all else, and known as soon as the width is.
    assert [psi["norms.width", axis] for axis in found.lines] == [1, 0, 0]
    assert psi["norms.width", MEAN] == pytest.approx(1 / 3)
    assert psi["norms.width", INFORMATION] == pytest.approx(0, abs=1e-12)
    # More parameters by width and by depth, of which the gap goes with one and against the other.
    assert [psi[PARAMETERS, axis] for axis in found.lines] == [1, -1, 0]
    assert abs(psi[RANDOM, MEAN]) < 0.3
    assert psi[ORACLE, MEAN] > 0.9


def test_along_axes_equal_the_statistics(cube, make_tables):
    x = np.random.default_rng(1).normal(size=81)
    found = design(population(make_tables(cube, {"norms.x": x})))
    table = granulated(found, FAST)
    own = table.loc[(table["predictor"] == "norms.x") & (table["target"] == "gap")]
    axes = {name: list(labels) for name, labels in found.axes.items()}
    psi = granulated_kendall(x, cube["gap"], axes, **FAST)
    least = conditional_information(x, cube["gap"], axes).least
    expected = [*psi.psi.values(), psi.mean, least]
    for column, end in (("psi", "value"), ("psi.low", "low"), ("psi.high", "high")):
        np.testing.assert_allclose(own[column], [getattr(each, end) for each in expected])


def test_a_constant_measure_has_a_note_and_no_number(cube, make_tables):
    analysis = analyse(make_tables(cube, measures(cube)), **FAST)
    for table in (analysis.granulated, analysis.environments.summary, analysis.pooled):
        own = table.loc[table["predictor"] == "norms.one"]
        assert set(own["note"]) == {"constant"}
    assert math.isnan(rows_of(analysis.pooled)["norms.one"]["kendall"])


@pytest.mark.parametrize("target", ["gap", "error_gap"])
def test_sign_errors_of_what_is_known(cube, make_tables, target):
    found = design(population(make_tables(cube, measures(cube))))
    summary = rows_of(environments(found, FAST).summary, target)
    truth, reverse, random = (summary[n] for n in ("norms.truth", "norms.reverse", RANDOM))
    assert [truth[n] for n in ("mean", "median", "q90", "worst")] == [0, 0, 0, 0]
    assert [reverse[n] for n in ("mean", "median", "q90", "worst", "least")] == [1] * 5
    assert random["mean"] == pytest.approx(0.5, abs=0.15)
    assert summary[ORACLE]["mean"] < 0.1
    total = 81  # 27 pairs along each axis
    assert {
        row["environments"] + row["dropped"] for row in summary.values() if not row["note"]
    } == {total}
    # Differences of 0.01 in error, of neighbouring learning rates, are the test set's noise.
    assert truth["dropped"] == (18 if target == "error_gap" else 0)


def test_the_parameter_count_errs_along_width_and_depth_alone(cube, make_tables):
    errors = environments(design(population(make_tables(cube, measures(cube)))), FAST).errors
    own = errors.loc[(errors["predictor"] == PARAMETERS) & (errors["target"] == "gap")]
    means = own.groupby("axis")["sign_error"].mean()
    assert means.to_dict() == {"width": 0.0, "depth": 1.0, "learning_rate": 0.5}


def test_trap_37_p_values_are_adjusted_for_the_number_of_measures(cube, make_tables):
    noise = np.random.default_rng(2).normal(size=(20, 81))
    many = {f"norms.noise_{place}": column for place, column in enumerate(noise)}
    found = design(population(make_tables(cube, many)))
    table = pooled(found, {"num_resamples": 200, "seed": 0})
    own = table.loc[(table["kind"] == "measure") & (table["target"] == "gap")]
    assert len(own) == 20
    assert own["p"].min() > 0.05
    alone = pooled(design(population(make_tables(cube, {"norms.noise_3": noise[3]}))), FAST)
    assert rows_of(alone)["norms.noise_3"]["p"] <= rows_of(table)["norms.noise_3"]["p"]


def test_trap_37_repeats_are_averaged_before_they_are_ranked(cube, make_tables):
    rows = rows_of(pooled(design(population(make_tables(cube, measures(cube)))), FAST))
    assert {row["count"] for row in rows.values()} == {27}
    assert rows["norms.truth"]["kendall"] == pytest.approx(1)
    baselines = (PARAMETERS, TIME, "minus training loss")
    best = max(rows[name]["kendall"] for name in baselines)
    assert rows["norms.truth"]["lead"] == pytest.approx(1 - best)
    assert rows[rows["norms.truth"]["rival"]]["kendall"] == best


def test_own_errors_are_taken_back(cube, make_tables):
    generator = np.random.default_rng(3)
    stderr = 0.15
    tables = make_tables(cube, {"norms.noisy": cube["gap"] + stderr * generator.normal(size=81)})
    tables.measures["stderr"] = stderr
    row = rows_of(pooled(design(population(tables)), FAST))["norms.noisy"]
    assert 0.5 < row["reliability"] < 1
    assert row["kendall"] < row["true_kendall"] <= 1
    assert row["pearson"] < row["true_pearson"] == pytest.approx(1, abs=0.1)
    tables.measures["stderr"] = 0.0
    exact = rows_of(pooled(design(population(tables)), FAST))["norms.noisy"]
    assert math.isnan(exact["true_kendall"])


def test_models_that_missed_their_target_are_left_out_first(cube, make_tables):
    cube = cube.assign(stop_at_loss=0.01, outcome=["finished"] * 3 + ["target"] * 78)
    found = population(make_tables(cube, measures(cube)))
    assert found.models["excluded"].tolist() == [MISSED] * 3 + [""] * 78
    assert len(design(found).models) == 78
    unbounded = cube.assign(stop_at_loss=np.nan)
    assert len(population(make_tables(unbounded, measures(cube))).ranked) == 81


def test_sentences_about_axes(cube, make_tables):
    analysis = analyse(make_tables(cube, measures(cube)), **FAST)
    ranks, signs, worst, parameters, baselines = axis_sentences(analysis)
    assert "Along width, depth and learning rate, norms.truth ranks the gap in error best" in ranks
    assert "Ψ = 1.00 [1.00, 1.00]" in ranks
    assert "No measure of 3" in signs
    assert "In the worst of 63 environments (18 too noisy ones dropped)" in worst
    assert "the sign error is 1 for 1 of 3 measures, and for 0 with either sign" in worst
    assert "that of norms.truth, 0.00 [0.00, 0.00], random 0." in worst
    assert "sign error is 1.00 along depth and 0.00 along width, and a tie" in parameters
    assert "the furthest ahead is norms.truth" in baselines


def test_signs_that_flip_are_named(cube, make_tables):
    analysis = analyse(make_tables(cube, {"norms.p": cube["num_parameters"]}), **FAST)
    assert "norms.p: ψ = 1.00 along width and −1.00 along depth." in axis_sentences(analysis)[1]


def test_baselines_are_marked_in_every_table(cube, make_tables):
    analysis = analyse(make_tables(cube, measures(cube)), **FAST)
    grids = axis_grids(analysis)
    assert [grid.name for grid in grids] == [
        f"{kind}-{target}"
        for target in ("gap", "error_gap")
        for kind in ("axes", "environments", "pooled")
    ]
    baselines = {"minus training loss", TIME, PARAMETERS, RANDOM, ORACLE}
    for grid in grids:
        assert {row[0].text for row in grid.rows if row[0].muted} == baselines
        assert {row[0].text for row in grid.rows if not row[0].muted} == set(measures(cube))
        assert {len(row) for row in grid.rows} == {len(grid.header)}


def test_taus_that_fall_with_parameters_per_example(make_models, make_tables):
    frames, columns = [], []
    for place in range(6):
        own = make_models(24, seed=place, architecture=f"w{place}", num_parameters=300 * 4**place)
        noise = np.random.default_rng(place).normal(size=24)
        frames.append(own)
        columns.append(own["gap"] + 0.02 * 2.0**place * noise)
    models = pd.concat(frames, ignore_index=True)
    analysis = analyse(make_tables(models, {"norms.fading": np.concatenate(columns)}), **FAST)
    (row,) = (r for r in analysis.trends.to_dict("records") if r["predictor"] == "norms.fading")
    assert row["settings"] == 6
    assert row["slope.high"] < 0
    assert row["trend"] < -0.7
    assert analysis.ratios["ratio"].max() == pytest.approx(4**5)
    grid = trend_grid(analysis)
    assert "norms.fading" in {line[0].text for line in grid.rows}
    taus = analysis.ratios.loc[analysis.ratios["predictor"] == "norms.fading", "kendall"]
    steps = np.log10(4.0) * np.arange(6)
    assert row["slope"] == pytest.approx(np.polyfit(steps, taus, 1)[0])
