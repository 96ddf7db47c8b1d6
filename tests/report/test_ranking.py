import math

import numpy as np
import pytest
from scipy import stats

from gentheory.report.population import ALL, population
from gentheory.report.ranking import correlations, criteria, kind

RESAMPLING = {"num_resamples": 200, "seed": 0}


def row(table, predictor, setting=ALL):
    (found,) = table[(table["predictor"] == predictor) & (table["setting"] == setting)].to_dict(
        orient="records"
    )
    return found


def ranked(tables, function=correlations, resampling=RESAMPLING):
    return function(population(tables), resampling)


@pytest.mark.parametrize(("sign", "tau"), [(1, 1.0), (-1, -1.0)])
def test_the_gap_itself_and_its_reverse(make_models, make_tables, sign, tau):
    models = make_models(30)
    found = row(ranked(make_tables(models, {"tic.exact": sign * models["gap"]})), "tic.exact")
    for statistic in ("kendall", "spearman", "pearson", "partial_kendall"):
        bounds = [found[f"{statistic}{end}"] for end in ("", ".low", ".high")]
        np.testing.assert_allclose(bounds, tau, rtol=0, atol=1e-12)
    assert found["count"] == 30
    assert found["kind"] == "predicted gap"


def test_values_equal_scipy(study):
    table = ranked(study)
    frame = population(study).ranked
    gap, loss, tic = (frame[name].to_numpy() for name in ("gap", "train_loss", "tic.diagonal"))
    found = row(table, "tic.diagonal")
    xy, xz, yz = (stats.kendalltau(*pair)[0] for pair in ((tic, gap), (tic, loss), (gap, loss)))
    expected = {
        "kendall": xy,
        "spearman": stats.spearmanr(tic, gap)[0],
        "pearson": stats.pearsonr(tic, gap)[0],
        "partial_kendall": (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2)),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12)
    assert row(table, "minus training loss")["kendall"] == pytest.approx(-yz, abs=1e-12)
    assert math.isnan(row(table, "minus training loss")["partial_kendall"])


def test_intervals_of_noise_cover_zero(make_models, make_tables):
    covered = 0
    for seed in range(40):
        models = make_models(40, seed=seed)
        noise = np.random.default_rng(1000 + seed).normal(size=40)
        found = row(ranked(make_tables(models, {"noise.draw": noise})), "noise.draw")
        covered += found["kendall.low"] <= 0 <= found["kendall.high"]
    # 95 % of 40 is 38; fewer than 33 has a probability of 7e-4.
    assert covered >= 33


def test_the_rival_is_the_better_baseline(make_models, make_tables):
    models = make_models(30)
    models["training_time"] = np.exp(models["gap"])
    found = row(ranked(make_tables(models, {"tic.exact": -models["gap"]})), "tic.exact")
    assert found["rival"] == "learning-rate time T"
    assert found["rival_tau"] == pytest.approx(1, abs=1e-12)
    bounds = [found[f"lead{end}"] for end in ("", ".low", ".high")]
    np.testing.assert_allclose(bounds, -2, rtol=0, atol=1e-12)


def test_the_parameter_count_is_a_baseline_where_it_varies(make_models, make_tables):
    models = make_models(30)
    same = ranked(make_tables(models, {"tic.exact": models["gap"]}))
    assert "parameter count" not in set(same["predictor"])
    models["num_parameters"] = 100 + np.argsort(np.argsort(models["gap"]))
    found = ranked(make_tables(models, {"tic.exact": -models["gap"]}))
    assert row(found, "parameter count")["kind"] == "baseline"
    assert row(found, "tic.exact")["rival"] == "parameter count"
    assert row(found, "tic.exact")["rival_tau"] == pytest.approx(1)


def test_measures_that_are_trivial_are_baselines():
    assert kind("baselines.parameter_count") == kind("baselines.training_loss") == "baseline"
    assert kind("baselines.aic") == "measure"


def test_training_loss_plus_the_gap_is_the_test_loss(make_models, make_tables):
    models = make_models(30)
    table = ranked(make_tables(models, {"tic.exact": models["gap"]}), criteria)
    alone, both = row(table, "training loss"), row(table, "training loss + tic.exact")
    tau = stats.kendalltau(models["train_loss"], models["test_loss"])[0]
    assert alone["kendall"] == pytest.approx(tau, abs=1e-12)
    assert both["kendall"] == pytest.approx(1, abs=1e-12)
    assert both["lead"] == pytest.approx(1 - tau, abs=1e-12)
    assert both["partial_kendall"] == pytest.approx(1, abs=1e-12)
    assert (both["rival"], alone["kind"], both["kind"]) == (
        *("training loss", "baseline"),
        "predicted gap",
    )


def test_only_predicted_gaps_are_added_to_the_training_loss(study):
    found = set(ranked(study, criteria)["predictor"])
    sums = {"training loss + tic.exact", "training loss + tic.diagonal"}
    assert found == {"training loss", "learning-rate time T", *sums}


def test_a_measure_is_ranked_where_it_has_a_number(study):
    table = ranked(study)
    assert row(table, "norms.parameters")["count"] == 23
    assert row(table, "norms.parameters", "3-LNN")["count"] == 11
    assert row(table, "tic.exact", "3-NN")["count"] == 12


def test_too_few_and_constant_are_said(make_models, make_tables):
    models = make_models(9, architecture=5 * ["a"] + 4 * ["b"])
    table = ranked(make_tables(models, {"tic.exact": models["gap"], "norms.one": 9 * [1.0]}))
    assert row(table, "tic.exact", "a")["note"] == ""
    few, constant = row(table, "tic.exact", "b"), row(table, "norms.one")
    assert (few["note"], few["count"]) == ("too few", 4)
    assert constant["note"] == "constant"
    assert math.isnan(few["kendall"])
    assert math.isnan(constant["kendall"])


def test_repeats_of_one_point_widen_the_interval(make_models, make_tables):
    """Ten seeds of each of eight points carry the information of eight models, not of eighty."""
    generator = np.random.default_rng(5)
    rates, gaps, values = generator.uniform(0.1, 1, size=(3, 8)).repeat(10, axis=1)
    jitter = 1 + 1e-6 * generator.normal(size=(2, 80))
    measure = {"tic.exact": values * jitter[1]}
    shared = make_models(80, learning_rate=rates, gap=gaps * jitter[0])
    alone = shared.assign(learning_rate=np.arange(80.0))
    widths = []
    for models in (shared, alone):
        found = row(ranked(make_tables(models, measure)), "tic.exact")
        widths.append(found["kendall.high"] - found["kendall.low"])
    assert widths[0] > 2 * widths[1]
