import dataclasses

import pandas as pd

from gentheory.report import pictures as module
from gentheory.report.analysis import analyse
from gentheory.report.grids import regime_grid
from gentheory.report.pictures import pictures


def test_panels_stand_in_the_order_of_the_settings(make_models, make_tables, monkeypatch):
    titles = []

    def spy(table, measure, **options):
        titles.append(list(dict.fromkeys(table["setting"])))
        return drawn(table, measure, **options)

    drawn = module.gap
    monkeypatch.setattr(module, "gap", spy)
    models = make_models(12, n_train=[1000, 300] * 6)
    tables = make_tables(models, {"tic.exact": models["gap"]})
    pictures(tables, analyse(tables, num_resamples=10))
    assert titles == [["n 300", "n 1000"]] * 2


def test_a_picture_for_a_narrow_window_is_narrow(study):
    found = pictures(study, analyse(study, num_resamples=10))
    assert [picture.name for picture in found] == ["gap", "correlations", "training_curves"]
    for picture in found:
        assert 600 < picture.wide.width <= 1152
        assert picture.narrow.width == 374


def test_without_curves_or_tic_there_is_no_such_picture(study):
    curves = pd.DataFrame(columns=["model", "epoch", "train_loss"])
    others = study.measures[study.measures["measure"] == "norms.parameters"]
    changed = dataclasses.replace(study, curves=curves, measures=others)
    found = pictures(changed, analyse(changed, num_resamples=10))
    assert [picture.name for picture in found] == ["correlations"]


def test_settings_are_placed_by_the_measures_that_describe_them(many):
    shown = dataclasses.replace(many, describe=("norms.parameters",))
    analysis = analyse(shown, num_resamples=10)
    drawn = next(picture for picture in pictures(shown, analysis) if picture.name == "regime")
    assert f" {len(analysis.population.tested)} settings" in drawn.alternative
    row = analysis.regimes.iloc[0]
    own = analysis.population.ranked.query("setting == @row.setting")["norms.parameters"]
    assert [row["low"], row["median"], row["high"]] == list(own.quantile([0.25, 0.5, 0.75]))
    assert regime_grid(analysis).rows[0][1].text == f"{row['median']:.3g}"
    plain = analyse(many, num_resamples=10)
    assert regime_grid(plain) is None
    assert plain.regimes.empty
