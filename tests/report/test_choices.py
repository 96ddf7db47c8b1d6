"""What choosing by a criterion costs, and who is ahead of whom, by numbers made for it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from gentheory.report.analysis import analyse
from gentheory.report.choices import choices, rivalry
from gentheory.report.findings import findings
from gentheory.report.population import ALL, ALL_HELD_OUT, population
from gentheory.report.ranking import correlations, criteria
from gentheory.stats import kendall

FAST = {"num_resamples": 200, "seed": 0}
RIVAL, SUM = "validation:0.1", "training loss + tic.good"


def settings(make_models, make_tables, *, count=4, models=12, development=(), noise=0.3):
    """Settings a, b, …: tic.good is the gap, tic.bad its reverse, the rival the loss and noise."""
    rates = np.linspace(0.01, 0.1, models)
    frames = [
        make_models(models, seed=place, architecture=chr(97 + place), learning_rate=rates)
        for place in range(count)
    ]
    frame = pd.concat(frames, ignore_index=True)
    error = np.random.default_rng(7).normal(size=len(frame)) * noise
    measures = {
        "norms.other": error,
        "tic.bad": -3 * frame["gap"],
        "tic.good": frame["gap"],
        RIVAL: frame["test_loss"] + error,
    }
    chosen = frame["architecture"].isin(development)
    tables = make_tables(frame, measures)
    costs = [
        {"model": model, "what": what, "seconds": seconds}
        for model in frame["model"]
        for what, seconds in {"training": 1.0, "tic.good": 0.5, RIVAL: 0.9}.items()
    ]
    return dataclasses.replace(
        tables,
        costs=pd.DataFrame(costs),
        main="tic.good",
        development=frozenset(frame.loc[chosen, "model"]),
    )


def row(table, **wanted):
    (found,) = [
        record
        for record in table.to_dict(orient="records")
        if all(record[key] == value for key, value in wanted.items())
    ]
    return found


def test_rivals_are_criteria_and_no_predictors_of_the_gap(make_models, make_tables):
    models = population(settings(make_models, make_tables))
    assert models.rivals == (RIVAL,)
    assert models.measures == ("tic.good", "tic.bad", "norms.other")
    found = row(criteria(models, FAST), setting="a", predictor=RIVAL)
    frame = models.ranked[models.ranked["setting"] == "a"]
    assert found["kind"] == "rival"
    assert found["kendall"] == pytest.approx(kendall(frame[RIVAL], frame["test_loss"]), abs=1e-12)
    assert RIVAL not in set(correlations(models, FAST)["predictor"])


def test_choices_against_plain_loops(make_models, make_tables):
    tables = settings(make_models, make_tables)
    models = population(tables)
    table = choices(models, tables.costs, FAST)
    assert table["predictor"].tolist() == [
        *("training loss", RIVAL, SUM),
        "training loss + tic.bad",
    ]
    for name, column in (
        ("training loss", lambda frame: frame["train_loss"]),
        (RIVAL, lambda frame: frame[RIVAL]),
        ("training loss + tic.bad", lambda frame: frame["train_loss"] + frame["tic.bad"]),
    ):
        taus, regrets = [], []
        for setting in "abcd":
            frame = models.ranked[models.ranked["setting"] == setting]
            x, y = column(frame).to_numpy(), frame["test_loss"].to_numpy()
            taus.append(kendall(x, y))
            regrets.append(y[x.argmin()] - y.min())
        found = row(table, predictor=name)
        assert found["settings"] == 4
        assert found["tau"] == pytest.approx(np.mean(taus), abs=1e-12)
        assert found["lowest"] == pytest.approx(min(taus), abs=1e-12)
        assert found["regret"] == pytest.approx(np.mean(regrets), abs=1e-12)
        assert found["tau.low"] < found["tau"] < found["tau.high"]
        assert 0 <= found["regret.low"] <= found["regret.high"]
    perfect = row(table, predictor=SUM)
    assert (perfect["regret"], perfect["regret.low"], perfect["regret.high"]) == (0, 0, 0)
    assert perfect["tau.low"] == pytest.approx(1, abs=1e-12)
    seconds = table.set_index("predictor")["seconds"].to_dict()
    assert seconds["training loss"] == 0
    assert seconds[SUM] == pytest.approx(0.5)
    assert seconds[RIVAL] == pytest.approx(0.9)


def test_the_bootstrap_draws_the_same_points_in_every_setting(make_models, make_tables):
    """Two settings that are copies of each other are no more certain than one."""
    models = make_models(20, seed=1)
    twice = [models.assign(architecture=a, model=a + models["model"]) for a in "ab"]
    noise = np.random.default_rng(0).normal(size=20)
    values = models["test_loss"] + noise
    one = population(make_tables(models, {RIVAL: values}))
    two = population(make_tables(pd.concat(twice), {RIVAL: np.tile(values, 2)}))
    empty = pd.DataFrame(columns=["model", "what", "seconds"])
    single, double = (row(choices(each, empty, FAST), predictor=RIVAL) for each in (one, two))
    for column in ("tau", "tau.low", "tau.high", "regret", "regret.low", "regret.high"):
        assert double[column] == pytest.approx(single[column], abs=1e-12)
    assert np.isnan(single["seconds"])


def test_a_model_without_a_number_is_never_picked(make_models, make_tables):
    models = make_models(10, gap=np.linspace(0.1, 1.0, 10), train_loss=0.0)
    failed = {"row0": {"value": np.nan, "status": "failed", "reason": "diverged"}}
    tables = make_tables(models, {RIVAL: models["test_loss"]}, **failed)
    found = row(choices(population(tables), tables.costs, FAST), predictor=RIVAL)
    assert found["regret"] == pytest.approx(0.1, abs=1e-12)  # the second best


def test_rivalry_counts_settings(make_models, make_tables):
    models = population(settings(make_models, make_tables, count=3))
    table = rivalry(models, FAST)
    assert set(table["predictor"]) == {"training loss", SUM, "training loss + tic.bad"}
    found = row(table, setting=ALL, predictor=SUM)
    within = [row(table, setting=setting, predictor=SUM) for setting in "abc"]
    assert found["difference"] == pytest.approx(np.mean([r["difference"] for r in within]))
    for setting, each in zip("abc", within, strict=True):
        frame = models.ranked[models.ranked["setting"] == setting]
        expected = 1 - kendall(frame[RIVAL], frame["test_loss"])
        assert each["difference"] == pytest.approx(expected, abs=1e-12)
        assert each["difference.low"] <= each["difference"] <= each["difference.high"]
    assert (found["settings"], found["ahead"], found["behind"]) == (3, 3, 0)
    worse = row(table, setting=ALL, predictor="training loss + tic.bad")
    within = [row(table, setting=s, predictor="training loss + tic.bad") for s in "abc"]
    assert worse["behind"] == sum(each["difference.high"] < 0 for each in within) > 0
    assert worse["difference.high"] < 0


def test_differences_are_taken_on_the_models_with_both_numbers(make_models, make_tables):
    models = make_models(12)
    missing = {"value": np.nan, "status": "failed", "reason": "diverged"}
    values = {"tic.good": models["gap"], RIVAL: models["test_loss"]}
    tables = make_tables(models, values, row3=missing, row12=missing, row13=missing)
    found = row(rivalry(population(tables), FAST), setting=ALL, predictor=SUM)
    assert found["count"] == 9
    assert found["difference"] == pytest.approx(0, abs=1e-12)


def test_development_settings_stand_apart(make_models, make_tables):
    tables = settings(make_models, make_tables, development=("a", "d"))
    models = population(tables)
    assert models.tested == ("b", "c")
    names = [name for name, _ in models.groups()]
    assert names == [ALL_HELD_OUT, "b", "c", "a", "d"]
    assert len(dict(models.groups())[ALL_HELD_OUT]) == 24
    found = row(choices(models, tables.costs, FAST), predictor=RIVAL)
    assert found["settings"] == 2
    pair = row(rivalry(models, FAST), setting=ALL_HELD_OUT, predictor=SUM)
    assert pair["settings"] == 2
    assert set(rivalry(models, FAST)["setting"]) == {ALL_HELD_OUT, *"abcd"}


def test_what_happens_in_development_changes_no_finding(make_models, make_tables):
    """The main criterion runs backwards in the settings of development: nobody says so."""
    tables = settings(make_models, make_tables, development=("a", "d"))
    ruined = settings(make_models, make_tables, development=("a", "d"))
    inside = ruined.measures["model"].isin(ruined.development)
    ruined.measures.loc[inside & (ruined.measures["measure"] == "tic.good"), "value"] *= -1
    found = findings(ruined, **FAST)
    assert found == findings(tables, **FAST)
    assert found[0].startswith("On the 2 held-out settings, tic.good ranks the gap of 24 models")
    assert not any("setting a" in text or "(d)" in text for text in found)
    everything = settings(make_models, make_tables)
    everything.measures.loc[inside & (everything.measures["measure"] == "tic.good"), "value"] *= -1
    assert "backwards in a (τ = −1.00) and d" in findings(everything, **FAST)[0]


def test_findings_about_rivals(make_models, make_tables):
    tables = settings(make_models, make_tables, development=("a",))
    found = findings(tables, **FAST)
    table = analyse(tables, **FAST).choices.set_index("predictor")
    assert found[3].startswith(
        "In the mean over 3 held-out settings, training loss plus tic.good ranks the test loss "
        "with τ = 1.00 [1.00, 1.00], 1.00 at the least, and tic.good the gap with a partial τ of "
        f"1.00 at the least; {RIVAL} has {table.loc[RIVAL, 'tau']:.2f} ["
    )
    assert found[3].endswith("] less, and is beyond doubt behind in 3 of 3 and ahead in 0.")
    assert "for training loss; 0 [0, 0] for training loss + tic.good (0.50 s a model);" in found[4]
    assert found[4].endswith(f"for {RIVAL} (0.90 s a model).")


def test_the_main_criterion_is_the_one_that_the_study_names(make_models, make_tables):
    models = make_models(10)
    tables = make_tables(models, {"tic.exact": models["gap"], "tic.mine": models["gap"]})
    assert analyse(tables, **FAST).main == "tic.exact"
    named = dataclasses.replace(tables, main="tic.mine")
    assert analyse(named, **FAST).main == "tic.mine"
    assert all("tic.mine" in sentence for sentence in findings(named, **FAST))
