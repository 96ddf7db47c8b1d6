"""Statements on quantities against numbers worked out by hand."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.report.claims import claims
from gentheory.report.population import population
from gentheory.study.claim import Claim, Statement
from gentheory.study.tables import Tables

DRAWN: Any = {"num_resamples": 400, "seed": 0}
EPOCHS = (0, 1, 2, 4)


def decided(tables: Tables, **statement: Any) -> dict[str, Any]:
    """The row of one statement."""
    asked = Statement(says="it is so", **statement)
    tables = dataclasses.replace(tables, claims=(asked,))
    (row,) = claims(tables, population(tables), DRAWN).to_dict(orient="records")
    return {str(key): value for key, value in row.items()}


@pytest.fixture
def trained(make_models: Any, make_tables: Any) -> Tables:
    """Two architectures with six seeds each, and one model more of one of them.

    Of seed s, `collapse.nc1` is 100, 10, 5 + s and 1 + s / 10 at the epochs of "lazy", a tenth of
    that for "rich". "lazy" fits its data from epoch 1 on, "rich" from epoch 2; and the test loss
    of "lazy" comes below 1 at epoch 4, that of "rich" at epoch 1.
    """
    parts = [
        make_models(6, seed=place, architecture=name, options=f'{{"alpha": {alpha}}}')
        for place, (name, alpha) in enumerate((("lazy", 4.0), ("rich", 1.0)))
    ]
    models = pd.concat([part.assign(seed=range(6)) for part in parts], ignore_index=True)
    rows: list[dict[str, Any]] = []
    for model, lazy, seed in zip(
        models["model"], models["architecture"] == "lazy", models["seed"], strict=True
    ):
        numbers = np.array([100, 10, 5 + seed, 1 + seed / 10]) * (1 if lazy else 0.1)
        accuracy = [0.1, 1.0, 1.0, 1.0] if lazy else [0.1, 0.5, 1.0, 1.0]
        loss = [2.0, 2.0, 1.5, 0.5] if lazy else [2.0, 0.9, 0.8, 0.5]
        for place, epoch in enumerate(EPOCHS):
            rows.append(
                {"model": model, "epoch": epoch, "steps": 10 * epoch, "value": numbers[place]}
                | {"train_accuracy": accuracy[place], "test_accuracy": 0.5}
                | {"train_loss": 0.1, "test_loss": loss[place], "gap": 0.1}
            )
    trajectory = pd.DataFrame(rows)
    along = trajectory[["model", "epoch", "steps", "value"]].assign(
        measure="collapse.nc1", stderr=0.0, status="ok"
    )
    ends = trajectory.loc[trajectory["epoch"] == EPOCHS[-1], "value"]
    tables = make_tables(models, {"collapse.nc1": ends})
    return dataclasses.replace(tables, trajectory=trajectory, measures_along=along)


LAZY: Any = {"where": {"architecture": ["lazy"]}}
SEEDS = np.arange(6)


def test_a_value_is_the_mean_over_the_models(trained: Tables) -> None:
    row = decided(trained, quantity="collapse.nc1", **LAZY, above=1.0, below=2.0)
    assert row["value"] == pytest.approx(1.25)
    assert 1 < row["value.low"] < 1.25 < row["value.high"] < 1.5
    assert (row["verdict"], row["models"], row["repeats"]) == ("agrees", 6, 6)
    assert row["number"] == "collapse.nc1 where architecture lazy"


def test_a_value_at_a_checkpoint_and_a_change(trained: Tables) -> None:
    row = decided(trained, quantity="collapse.nc1", end=2, **LAZY, above=7.0)
    assert (row["value"], row["verdict"]) == (pytest.approx(7.5), "undecided")
    assert row["number"] == "collapse.nc1 at checkpoint 2 where architecture lazy"
    row = decided(trained, quantity="collapse.nc1", statistic="change", start=1, end=2, below=0.0)
    assert row["value"] == pytest.approx(np.mean([*(SEEDS - 5), *(SEEDS - 5) / 10]))
    assert (row["verdict"], row["models"], row["repeats"]) == ("agrees", 12, 6)


def test_a_fall_after_zero_training_error_is_a_geometric_mean(trained: Tables) -> None:
    row = decided(
        trained, quantity="collapse.nc1", statistic="fall", start="fitted", **LAZY, above=5.0
    )
    falls = 10 / (1 + SEEDS / 10)
    assert row["value"] == pytest.approx(np.exp(np.log(falls).mean()))
    assert row["verdict"] == "agrees"
    assert row["number"].startswith("collapse.nc1 at zero training error over that at the end")
    rich = decided(
        trained,
        quantity="collapse.nc1",
        statistic="fall",
        start="fitted",
        where={"architecture": ["rich"]},
        above=20.0,
    )
    falls = (5 + SEEDS) / (1 + SEEDS / 10)
    assert rich["value"] == pytest.approx(np.exp(np.log(falls).mean()))
    assert rich["verdict"] == "disagrees"


def test_groups_are_paired_by_their_seeds(trained: Tables) -> None:
    rich = {"where": {"architecture": ["rich"]}}
    row = decided(trained, quantity="collapse.nc1", **LAZY, against=rich, above=1.0)
    assert row["value"] == pytest.approx(0.9 * 1.25)
    assert (row["models"], row["repeats"]) == (12, 6)
    row = decided(
        trained, quantity="collapse.nc1", **LAZY, against=rich, compare="ratio", above=9.9
    )
    # One is ten times the other in every seed: nothing is left to vary.
    assert [row["value"], row["value.low"], row["value.high"]] == pytest.approx([10, 10, 10])
    assert row["verdict"] == "agrees"
    assert row["number"].endswith("over that of the same where architecture rich")


def test_when_a_level_is_reached_and_what_the_delay_rises_with(trained: Tables) -> None:
    first: Any = {"quantity": "test_loss", "statistic": "first_below", "level": 1.0}
    assert decided(trained, **first, **LAZY, below=5.0)["value"] == 4
    row = decided(trained, **first, rises_with="alpha", above=0.5)
    assert np.isnan(row["value"])  # two models a seed
    assert row["note"] == "no seed has three models whose numbers differ"
    delayed = {"against": {"quantity": "train_loss"}, "where": {"architecture": ["lazy"]}}
    row = decided(trained, **first, **delayed, above=1.0)
    assert (row["value"], row["verdict"]) == (4, "agrees")  # 4 less 0, in every seed


def test_numbers_that_no_model_has_rise_with_nothing(trained: Tables) -> None:
    never: Any = {"statistic": "first_below", "level": -1.0, "against": {"quantity": "gap"}}
    row = decided(trained, quantity="test_loss", **never, rises_with="alpha", above=0.0)
    assert (row["verdict"], row["note"]) == ("no number", "12 of 12 models have no number")


def test_models_that_never_come_there_are_no_number_but_have_a_rank(trained: Tables) -> None:
    where = {"architecture": ["lazy"]}
    first: Any = {"quantity": "test_loss", "statistic": "first_below", "level": 0.1}
    row = decided(trained, **first, where=where, above=1.0)
    assert row["verdict"] == "no number"
    assert row["note"] == "6 of 6 models never come to 0.1"


def test_rising_with_a_column_is_tau_within_every_seed(make_models: Any, make_tables: Any) -> None:
    parts = [make_models(5, seed=a, weight_decay=0.1 * a).assign(seed=range(5)) for a in range(4)]
    models = pd.concat(parts, ignore_index=True)
    rising = models["weight_decay"] * np.where(models["seed"] == 0, -1, 1)
    tables = make_tables(models, {"collapse.nc1": rising})
    row = decided(tables, quantity="collapse.nc1", rises_with="weight_decay", above=0.0)
    assert (row["value"], row["models"], row["repeats"]) == (pytest.approx(0.6), 20, 5)
    assert row["verdict"] == "undecided"


def test_correlation_along_training_and_of_changes(trained: Tables) -> None:
    other: Any = {"quantity": "collapse.nc1", "statistic": "correlation", "other": "test_loss"}
    row = decided(trained, **other, where={"architecture": ["rich"]}, above=0.9)
    tied = 5 / np.sqrt(6 * 5)  # of seed 5, whose NC1 stands still for an epoch
    assert (row["value"], row["verdict"]) == (pytest.approx((5 + tied) / 6), "agrees")
    row = decided(trained, **other, changes=True, where={"architecture": ["rich"]}, above=0.9)
    changes = np.diff([2.0, 0.9, 0.8, 0.5])
    own = [np.diff([10, 1, 0.5 + s / 10, 0.1 + s / 100]) for s in SEEDS]
    pairs = ((0, 1), (0, 2), (1, 2))
    taus = [
        np.mean([np.sign((n[i] - n[j]) * (changes[i] - changes[j])) for i, j in pairs]) for n in own
    ]
    assert row["value"] == pytest.approx(np.mean(taus))


def test_noise_is_undecided_and_one_seed_has_no_interval(
    make_models: Any, make_tables: Any
) -> None:
    models = make_models(8).assign(seed=range(8))
    noise = np.random.default_rng(2).normal(size=8)
    tables = make_tables(models, {"collapse.nc1": noise})
    assert decided(tables, quantity="collapse.nc1", above=0.0)["verdict"] == "undecided"
    one = make_tables(models.assign(seed=0), {"collapse.nc1": noise + 100})
    row = decided(one, quantity="collapse.nc1", above=0.0)
    assert (row["verdict"], row["repeats"]) == ("undecided", 1)
    assert row["value"] > 99
    assert np.isnan(row["value.low"])


def test_the_interval_of_few_seeds_covers_the_mean(make_models: Any, make_tables: Any) -> None:
    """Of the means of five normal numbers about one in twenty intervals misses."""
    models, missed = make_models(5).assign(seed=range(5)), 0
    for trial in range(100):
        noise = np.random.default_rng([7, trial]).normal(size=5)
        row = decided(
            make_tables(models, {"collapse.nc1": noise}), quantity="collapse.nc1", above=0.0
        )
        missed += row["verdict"] == "agrees"
    assert missed <= 8  # one side: 2.5 expected, and 8 has a probability of 0.4 %


def test_options_and_missing_values_choose_models(trained: Tables) -> None:
    by_option = decided(trained, quantity="collapse.nc1", where={"alpha": [4]}, above=1.0)
    assert by_option["value"] == pytest.approx(1.25)
    models = trained.models.assign(rho=[0.05, np.nan] * 6)
    tables = dataclasses.replace(trained, models=models)
    row = decided(tables, quantity="collapse.nc1", where={"rho": ["none"]}, above=0.0)
    assert row["models"] == 6


def test_what_the_tables_lack_is_refused(trained: Tables) -> None:
    with pytest.raises(InputError, match=r"report.claims: found 'collapse.nc9'"):
        decided(trained, quantity="collapse.nc9", above=0.0)
    with pytest.raises(InputError, match=r"'collapse.nc9' along training"):
        decided(trained, quantity="collapse.nc9", end=1, above=0.0)
    with pytest.raises(InputError, match=r"checkpoint 3, expected epoch 0, 1, 2, 4"):
        decided(trained, quantity="collapse.nc1", end=3, above=0.0)
    with pytest.raises(InputError, match=r"'outcome', which holds 'finished'"):
        decided(trained, quantity="outcome", above=0.0)
    alone = dataclasses.replace(trained, trajectory=pd.DataFrame())
    with pytest.raises(InputError, match="no checkpoints along training"):
        decided(alone, quantity="collapse.nc1", end=1, above=0.0)


@pytest.mark.parametrize(
    ("statement", "mistake"),
    [
        ({}, "no bound"),
        ({"above": 1, "statistic": "first_below"}, "level stands with first_below"),
        ({"above": 1, "level": 0.1}, "level stands with first_below"),
        ({"above": 1, "statistic": "correlation"}, "other stands with correlation"),
        ({"above": 1, "changes": True}, "changes stands with correlation alone"),
        ({"above": 1, "start": 1}, "a value has no start"),
        ({"above": 1, "statistic": "fall", "start": 4, "end": 2}, "start 4 is not before end 2"),
        ({"above": 1, "compare": "ratio"}, "a ratio to nothing"),
        (
            {"above": 1, "statistic": "fall", "against": {"quantity": "gap"}},
            'falls are compared with compare = "ratio"',
        ),
        (
            {"above": 1, "rises_with": "rho", "against": {"where": {"seed": [1]}}},
            "rises_with looks at one group",
        ),
        ({"above": 1, "against": {}}, "nothing to compare with; give quantity or where"),
    ],
)
def test_what_nothing_can_decide_is_refused(statement: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        Statement(says="it is so", quantity="collapse.nc1", **statement)


def test_both_kinds_stand_in_one_table(trained: Tables) -> None:
    both = (
        Statement(says="small", quantity="collapse.nc1", below=2.0),
        Claim(says="ranks", predictor="collapse.nc1", above=0.9),
    )
    tables = dataclasses.replace(trained, claims=both)
    table = claims(tables, population(tables), DRAWN)
    assert list(table["repeats"]) == [6, 0]
    assert list(table["says"]) == ["small", "ranks"]
