import numpy as np

from gentheory.report.outcomes import exclusions, misses, settings, warnings
from gentheory.report.population import population


def test_settings_count_and_take_medians_of_ranked_models(study):
    table = settings(population(study)).set_index("setting")
    assert table[["trained", "ranked", "excluded"]].to_numpy().tolist() == [
        [12, 12, 0],
        [13, 12, 1],
    ]
    gaps = study.models["gap"].iloc[13:]
    assert table.loc["3-NN", "gap"] == np.median(gaps)


def test_a_setting_in_which_all_diverged_has_no_medians(make_models, make_tables):
    models = make_models(2, architecture=["a", "b"], outcome=["finished", "diverged"])
    table = settings(population(make_tables(models, {"tic.exact": [1.0, 2.0]}))).set_index(
        "setting"
    )
    assert table.loc["b", "ranked"] == 0
    assert np.isnan(table.loc["b", "gap"])


def test_models_left_out_are_counted_by_setting_and_reason(study):
    assert exclusions(population(study)).to_numpy().tolist() == [["3-NN", "diverged", 1]]


def test_misses_are_counted_by_measure_status_and_reason(study):
    rows = {tuple(row) for row in misses(study).to_numpy().tolist()}
    failed = {(name, "failed", "loss not finite", 1) for name in study.measures["measure"]}
    assert rows == failed | {("norms.parameters", "refused", "needs 9 GB, 8 GB are free", 1)}


def test_warnings_that_differ_in_numbers_are_one_with_an_example(study):
    expected = [["tic.diagonal", "e.g. the gradient norm is 0.1", 2]]
    assert warnings(study).to_numpy().tolist() == expected


def test_warnings_of_what_has_no_number_do_not_count(make_models, make_tables):
    cells = {"status": "failed", "warnings": ["it may mislead"]}
    tables = make_tables(make_models(2), {"tic.exact": [1.0, 2.0]}, row0=cells)
    assert warnings(tables).empty


def test_missing_reasons_and_warnings_are_no_error(make_models, make_tables):
    models = make_models(2)
    cells = {"status": "failed", "reason": None, "warnings": []}
    tables = make_tables(models, {"tic.exact": [1.0, 2.0]}, row0=cells)
    tables.measures["warnings"] = None
    assert misses(tables).to_numpy().tolist() == [["tic.exact", "failed", "", 1]]
    assert warnings(tables).empty
