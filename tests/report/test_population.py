import dataclasses

import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.report.population import ALL, clusters, is_predicted_gap, population


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, ("3-NN",)),
        ({"architecture": ["b", "b", "a", "a"]}, ("b", "a")),
        ({"n_train": [1000, 300, 300, 1000]}, ("n 300", "n 1000")),
        ({"label_noise": [0.2, 0.0, 0.2, 0.0]}, ("noise 0", "noise 0.2")),
        (
            {"architecture": ["b", "b", "a", "b"], "n_train": [1000, 300, 300, 300]},
            ("b, n 300", "b, n 1000", "a, n 300"),
        ),
    ],
)
def test_settings_are_named_by_what_varies(make_models, make_tables, columns, expected):
    models = make_models(4, **columns)
    assert population(make_tables(models, {"tic": models["gap"]})).settings == expected


def test_diverged_and_infinite_models_are_left_out_with_the_reason(make_models, make_tables):
    models = make_models(6, outcome=["diverged", *5 * ["finished"]])
    models.loc[1, "test_loss"] = np.inf
    models.loc[2, "gap"] = np.nan
    found = population(make_tables(models, {"tic.exact": models["train_loss"]}))
    lost = "loss not finite"
    assert found.models["excluded"].tolist() == ["diverged", lost, lost, "", "", ""]
    assert found.ranked["model"].tolist() == models["model"].tolist()[3:]


def test_values_of_other_status_are_not_numbers(make_models, make_tables):
    models = make_models(3)
    tables = make_tables(models, {"tic.exact": [1.0, 2.0, 3.0]}, row1={"status": "failed"})
    wide = population(tables).models
    np.testing.assert_array_equal(wide["tic.exact"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(wide["tic.exact.stderr"], [0.01, np.nan, 0.01])


def test_measures_put_the_main_one_first(make_models, make_tables):
    models = make_models(2)
    names = ["norms.distance", "tic.diagonal", "spectra.trace", "tic.exact"]
    found = population(make_tables(models, {name: [0, 1] for name in names})).measures
    assert found == ("tic.exact", "tic.diagonal", "norms.distance", "spectra.trace")
    assert [is_predicted_gap(name) for name in found] == [True, True, False, False]
    assert not is_predicted_gap("tickle.exact")


def test_groups_are_all_models_and_the_settings(study):
    groups = dict(population(study).groups())
    assert {name: len(frame) for name, frame in groups.items()} == {
        ALL: 24,
        "3-LNN": 12,
        "3-NN": 12,
    }


def test_a_single_setting_is_not_repeated(make_models, make_tables):
    models = make_models(5)
    groups = population(make_tables(models, {"tic.exact": models["gap"]})).groups()
    assert [name for name, _ in groups] == [ALL]


def test_models_of_one_hyper_parameter_point_are_a_cluster(make_models, make_tables):
    points = [0.1, 0.2, 0.3, 0.4, 0.5]
    models = make_models(10, learning_rate=2 * points)
    frame = population(make_tables(models, {"tic.exact": models["gap"]})).ranked
    np.testing.assert_array_equal(clusters(frame), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    assert clusters(frame.iloc[:4]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": pd.DataFrame()}, "tables.models: found an empty table.*run the study first"),
        ({"measures": pd.DataFrame()}, "tables.measures: found an empty table.*run the study"),
        ({"curves": pd.DataFrame({"epoch": [1]})}, "tables.curves: found no column model, train_l"),
    ],
)
def test_tables_without_what_a_report_needs(study, changes, message):
    with pytest.raises(InputError, match=message):
        population(dataclasses.replace(study, **changes))


@pytest.mark.parametrize("column", ["gap", "architecture", "learning_rate"])
def test_a_missing_column_is_named(study, column):
    lacking = dataclasses.replace(study, models=study.models.drop(columns=column))
    with pytest.raises(InputError, match=f"tables.models: found no column {column}, expected"):
        population(lacking)


def test_a_measure_twice_for_one_model(study):
    twice = dataclasses.replace(study, measures=pd.concat([study.measures] * 2))
    with pytest.raises(InputError, match=r"norms\.parameters twice for model 0000000100000000"):
        population(twice)
