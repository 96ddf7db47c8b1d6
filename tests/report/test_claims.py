import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.report.claims import claims
from gentheory.report.population import population
from gentheory.stats import kendall, partial_kendall
from gentheory.study.claim import Claim
from gentheory.study.tables import Tables

DRAWN: Any = {"num_resamples": 300, "seed": 0}


def decided(tables: Tables, **claim: Any) -> dict[str, Any]:
    """The row of one claim."""
    asked = dataclasses.replace(tables, claims=(Claim(says="it is so", **claim),))
    (row,) = claims(asked, population(asked), DRAWN).to_dict(orient="records")
    return row


@pytest.fixture
def three(make_models: Any, make_tables: Any) -> Tables:
    """Three settings; tic.exact is the gap in a, its reverse in b and noise in c."""
    parts = [
        make_models(40, seed=seed, architecture=name, num_parameters=100 * 10**seed)
        for seed, name in enumerate("abc")
    ]
    models = pd.concat(parts, ignore_index=True)
    sign = models["architecture"].map({"a": 1.0, "b": -1.0, "c": 0.0})
    noise = np.random.default_rng(5).normal(size=len(models))
    values = {
        "tic.exact": sign * models["gap"] + (sign == 0) * noise,
        "tic.diagonal": 2 * (sign * models["gap"] + (sign == 0) * noise),
        "norms.distance": models["gap"] ** 3,
    }
    return make_tables(models, values)


@pytest.mark.parametrize(
    ("architecture", "bounds", "verdict"),
    [
        ("a", {"above": 0.5}, "agrees"),
        ("a", {"below": 0.5}, "disagrees"),
        ("b", {"above": 0.0}, "disagrees"),
        ("b", {"below": 0.0}, "agrees"),
        ("c", {"above": -0.5, "below": 0.5}, "agrees"),
        ("c", {"above": 0.0}, "undecided"),
    ],
)
def test_the_whole_interval_decides(
    three: Tables, architecture: str, bounds: dict[str, float], verdict: str
) -> None:
    row = decided(three, predictor="tic.exact", where={"architecture": [architecture]}, **bounds)
    own = three.wide().loc[lambda t: t["architecture"] == architecture]
    assert row["value"] == pytest.approx(kendall(own["tic.exact"], own["gap"]))
    assert row["value.low"] <= row["value"] <= row["value.high"]
    assert (row["settings"], row["models"]) == (1, 40)
    assert row["verdict"] == verdict


def test_the_number_is_a_mean_over_settings(three: Tables) -> None:
    row = decided(three, predictor="tic.exact", where={"architecture": ["a", "b"]}, above=0.5)
    assert row["value"] == pytest.approx(0)
    assert (row["settings"], row["models"], row["verdict"]) == (2, 80, "disagrees")


def test_rank_of_another_measure_and_given_the_training_loss(three: Tables) -> None:
    assert decided(three, predictor="tic.diagonal", target="tic.exact", above=0.9)[
        "value"
    ] == pytest.approx(1)
    row = decided(
        three,
        predictor="tic.exact",
        statistic="partial_kendall",
        where={"architecture": ["c"]},
        below=0.5,
    )
    own = three.wide().loc[lambda t: t["architecture"] == "c"]
    wanted = partial_kendall(own["tic.exact"], own["gap"], own["train_loss"])
    assert row["value"] == pytest.approx(wanted)


def test_a_difference_of_predictors_or_of_settings(three: Tables) -> None:
    other = {"predictor": "norms.distance"}
    row = decided(
        three, predictor="tic.exact", against=other, where={"architecture": ["b"]}, below=-1.9
    )
    assert (row["value"], row["verdict"]) == (pytest.approx(-2), "agrees")
    assert row["number"].endswith("where architecture b, less that of norms.distance")
    elsewhere = {"where": {"architecture": ["b"]}}
    chosen = {"architecture": ["a"]}
    row = decided(three, predictor="tic.exact", against=elsewhere, where=chosen, above=1.9)
    assert (row["value"], row["verdict"]) == (pytest.approx(2), "agrees")


def test_a_trend_over_parameters_per_example(three: Tables) -> None:
    falling = three.models["architecture"].map({"a": 1.0, "b": 0.6, "c": 0.2})
    noise = np.random.default_rng(1).normal(size=len(three.models))
    rows = pd.DataFrame(
        {
            "model": three.models["model"],
            "measure": "tic.kfac",
            "value": falling * three.models["gap"] + (1 - falling) * 0.12 * noise,
            "stderr": 0.0,
            "status": "ok",
            "reason": "",
            "warnings": "[]",
            "stats": "{}",
        }
    )
    tables = dataclasses.replace(three, measures=pd.concat([three.measures, rows]))
    row = decided(tables, predictor="tic.kfac", trend=True, below=0.0)
    assert (row["value"], row["verdict"], row["settings"]) == (-1, "agrees", 3)


def test_along_training_every_model_counts_once(three: Tables) -> None:
    epochs = [1, 2, 4, 8]
    models = three.models["model"][:10]
    trajectory = pd.DataFrame(
        [
            {"model": m, "epoch": e, "gap": 0.1 * e, "train_loss": 1 / e, "training_time": e}
            | {"steps": 10 * e}
            for m in models
            for e in epochs
        ]
    )
    along = trajectory.assign(
        measure="tic.exact", value=lambda t: (-1.0) ** (t["epoch"] == 4) * t["gap"], status="ok"
    )
    tables = dataclasses.replace(three, trajectory=trajectory, measures_along=along)
    row = decided(tables, predictor="tic.exact", along=True, above=0.0)
    assert (row["value"], row["models"], row["verdict"]) == (pytest.approx(1 / 3), 10, "agrees")
    rival = {"predictor": "minus training loss"}
    row = decided(tables, predictor="tic.exact", along=True, against=rival, above=0.0)
    assert (row["value"], row["verdict"]) == (pytest.approx(-2 / 3), "disagrees")


def test_without_checkpoints_there_is_nothing_along_training(three: Tables) -> None:
    row = decided(three, predictor="tic.exact", along=True, above=0.0)
    assert (row["verdict"], row["settings"], row["models"]) == ("no number", 0, 0)


def test_too_few_models_give_no_number(three: Tables) -> None:
    row = decided(three, predictor="tic.exact", where={"n_train": [7]}, above=0.0)
    assert (row["verdict"], row["settings"]) == ("no number", 0)
    assert np.isnan(row["value"])


def test_what_the_tables_lack_is_refused(three: Tables) -> None:
    with pytest.raises(InputError, match=r"report.claims: found 'tic.exakt'"):
        decided(three, predictor="tic.exakt", above=0.0)
    with pytest.raises(InputError, match=r"report.claims.where: found 'colour'"):
        decided(three, predictor="tic.exact", where={"colour": ["red"]}, above=0.0)


@pytest.mark.parametrize(
    ("claim", "mistake"),
    [
        ({}, "no bound"),
        ({"above": 1.0, "below": 0.0}, "nothing is above 1.0 and below 0.0"),
        ({"above": 0.0, "trend": True, "along": True}, "a trend is of one predictor"),
        ({"above": 0.0, "along": True, "statistic": "pearson"}, "Kendall's tau with the gap alone"),
        ({"above": 0.0, "against": {}}, "nothing to compare with"),
    ],
)
def test_what_nothing_can_decide_is_refused(claim: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        Claim(says="it is so", predictor="tic.exact", **claim)
