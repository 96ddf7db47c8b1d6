import math

import numpy as np
import pytest

from gentheory.report.population import ALL, population
from gentheory.report.sizes import ratio, ratio_interval, sizes
from gentheory.stats import bootstrap

RESAMPLING = {"num_resamples": 100, "seed": 0}


def test_half_the_gap_is_half_its_size(make_models, make_tables):
    models = make_models(20)
    measures = {"tic.exact": models["gap"] / 2, "norms.distance": models["gap"]}
    table = sizes(population(make_tables(models, measures)), RESAMPLING)
    (row,) = table.to_dict(orient="records")
    np.testing.assert_allclose([row["ratio"], row["ratio.low"], row["ratio.high"]], 0.5, rtol=1e-12)
    assert row["median_gap"] == np.median(models["gap"])
    assert (row["setting"], row["predictor"], row["count"]) == (ALL, "tic.exact", 20)


@pytest.mark.parametrize(
    ("count", "gap", "note"), [(4, 0.1, "too few"), (9, -0.1, "gap not positive")]
)
def test_no_number_where_it_has_no_meaning(make_models, make_tables, count, gap, note):
    models = make_models(count, gap=gap)
    table = sizes(population(make_tables(models, {"tic.exact": models["gap"]})), RESAMPLING)
    assert table["note"].tolist() == [note]
    assert table["ratio"].isna().all()


def test_a_study_without_predicted_gaps(make_models, make_tables):
    models = make_models(6)
    table = sizes(population(make_tables(models, {"norms.distance": models["gap"]})), RESAMPLING)
    assert table.empty
    assert "ratio" in table.columns


def test_ratio_of_a_vanishing_gap_is_nan():
    assert math.isnan(ratio(np.ones(3), np.array([-1.0, 0.0, 1.0])))


@pytest.mark.parametrize("clustered", [False, True])
def test_all_resamples_at_once_equal_the_bootstrap(clustered):
    generator = np.random.default_rng(2)
    predicted, gap = generator.normal(size=(2, 31)).round(1)  # ties, zeros and both signs
    labels = generator.integers(0, 7, 31) if clustered else None
    options = {"clusters": labels, "num_resamples": 300, "seed": 5}
    fast = ratio_interval(predicted, gap, **options)
    assert fast == bootstrap(ratio, predicted, gap, **options)
