"""The table of learning curves, out of a study of tiny nets."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny

from gentheory.errors import InputError
from gentheory.pruner_benchmark.table import curves
from gentheory.study.store import Store

CRITERIA = ["tic.diagonal", "tic.leave_one_out:training"]
OPTIONS = {
    "tic.leave_one_out:training": {
        "damping": "training",
        "residuals": "training",
        "outputs": "apart",
    }
}


def study(**sections: Any) -> dict[str, Any]:
    training = tiny.training(
        epochs=3, checkpoints=[1, 3], validation=20, keep_trajectory=True, test=50
    )
    measures = {"names": CRITERIA, "along": CRITERIA, "options": OPTIONS, "alone": True}
    draws = {"count": 2, "repeats": 2, "learning_rate": [0.1, 1e5], "batch_size": [16, 60]}
    return tiny.study(
        **{
            "stack": 4,
            "training": training,
            "measures": measures,
            "grid": {"n_train": [60, 80]},
            "draws": draws,
            **sections,
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    draws = {**study()["draws"], "method": "sobol"}
    return tiny.done(tmp_path_factory.mktemp("table") / "study", study(draws=draws))


@pytest.fixture(scope="module")
def rows(store: Store) -> pd.DataFrame:
    return curves(store).rows


def test_there_is_a_row_for_every_model_and_epoch(rows: pd.DataFrame):
    assert len(rows) == 2 * 2 * 2 * 3
    assert sorted(set(rows["seed"])) == [0, 1]
    assert sorted(set(rows["config"])) == ["0000", "0001"]
    assert set(rows["setting"]) == {"net"}
    assert set(rows["data"]) == {"training", "all"}
    axes = rows.groupby("config")[["learning_rate", "batch_size"]].nunique()
    assert (axes == 1).all().all()
    assert set(rows["regime"]) == {"rich"}
    assert set(rows["params_per_example"]) == {(64 * 3 + 3 + 3 * 10 + 10) / 60}


def test_losses_are_those_of_the_study(rows: pd.DataFrame, store: Store):
    models, trajectory = store.table("models"), store.table("trajectory")
    last = rows[(rows["epoch"] == 3) & rows["train_loss"].notna()]
    ended = models[models["outcome"] == "finished"]
    assert len(last) == len(ended) > 0
    for name in ("train_loss", "test_loss", "training_time"):
        assert sorted(last[name]) == pytest.approx(sorted(ended[name]), rel=1e-6)
    assert sorted(last["test_error"]) == pytest.approx(sorted(1 - ended["test_accuracy"]))
    held = rows[rows["data"] == "training"]["validation_loss"].dropna()
    own = trajectory.merge(models[models["n_train"] == 60][["model"]], on="model")
    assert sorted(held) == sorted(own["validation_loss"].dropna())
    assert rows.loc[rows["data"] == "all", "validation_loss"].isna().all()


def test_between_checkpoints_only_the_training_loss_and_time_are_known(rows: pd.DataFrame):
    alive = rows.groupby(["data", "config", "seed"])["train_loss"].transform("count") == 3
    between = rows[alive & (rows["epoch"] == 2)]
    assert between["train_loss"].notna().all()
    assert between[[*CRITERIA, "validation_loss", "test_loss"]].isna().all().all()
    rates = rows[alive].assign(rate=rows["training_time"] / rows["epoch"])
    spread = rates.groupby(["data", "config", "seed"])["rate"].agg(np.ptp)
    assert spread.max() < 1e-12 * rates["rate"].max()


def test_a_criterion_is_training_loss_plus_gap(rows: pd.DataFrame, store: Store):
    along = store.table("measures_along").merge(store.table("trajectory"), on=["model", "epoch"])
    for name in CRITERIA:
        own = along[along["measure"] == name]
        wanted = (own["value"] + own["train_loss"])[own["status"] == "ok"]
        assert sorted(rows[name].dropna()) == pytest.approx(sorted(wanted), rel=1e-5)


def test_trap_17_a_diverged_model_has_nan_from_there_on(rows: pd.DataFrame):
    lost = rows[rows["learning_rate"] == 1e5]
    assert len(lost) > 0
    assert lost[["train_loss", "test_loss", *CRITERIA]].isna().all().all()


def test_seconds_are_those_of_one_model_alone(rows: pd.DataFrame, store: Store):
    costs = store.table("costs")
    alone = costs[costs["what"].str.endswith(" alone")]
    own = rows[rows["train_loss"].notna()]
    names = ["epoch_seconds", *(f"{name} seconds" for name in CRITERIA)]
    assert (own[names] > 0).all().all()
    known = set(alone.loc[alone["what"] == "training alone", "seconds"])
    assert set(own["epoch_seconds"]) <= known
    cheap, dear = (own[f"{name} seconds"] for name in CRITERIA)
    assert cheap.median() > alone.loc[alone["what"] == "tic.diagonal alone", "seconds"].min()
    assert dear.notna().all()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no draws": ({"draws": None}, r"parts\[0\]: found no draws, expected all of them; give them"),
    "no end": (
        {"training": {**study()["training"], "checkpoints": [1, 2]}},
        "found no checkpoint at the end",
    ),
    "no costs": (
        {"measures": {**study()["measures"], "alone": False}},
        r"costs: found no model alone, expected one of each stack; set measures\.alone",
    ),
    "other data": (
        {"grid": {"n_train": [60, 70]}},
        "found n_train 70, expected 60 and 80, with the validation examples",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_study_without_what_is_needed_is_refused(case: str, tmp_path: Path):
    changes, message = REFUSED[case]
    raw = study(draws={"count": 1, "repeats": 1, "learning_rate": [0.1]})
    raw = {name: value for name, value in {**raw, **changes}.items() if value is not None}
    store = tiny.done(tmp_path / "study", raw)
    with pytest.raises(InputError, match=message):
        curves(store)
