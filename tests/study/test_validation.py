"""Validation examples, measures on few of the training examples, and what one model alone takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from gentheory.checkpoint import Checkpoint, load
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.measures import measure
from gentheory.seeds import seed_of
from gentheory.study import plan, spec
from gentheory.study.alone import ALONE
from gentheory.study.store import Store
from gentheory.training import snapshots

RESIDUALS = "tic.leave_one_out:training"
OPTIONS = {RESIDUALS: {"damping": "training", "residuals": "training"}}
ALONG = ["tic.kfac", RESIDUALS]


def study(**sections: Any) -> dict[str, Any]:
    training = tiny.training(
        dtype="float64",
        epochs=3,
        checkpoints=[1, 2, 3],
        keep_trajectory=True,
        validation=20,
        test=30,
    )
    measures = {"names": ALONG, "along": ALONG, "options": OPTIONS, "examples": 24, "alone": True}
    grid = {"n_train": [60, 80], "seed": [0, 1]}
    return tiny.study(**{"training": training, "measures": measures, "grid": grid, **sections})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny.done(tmp_path_factory.mktemp("validation") / "study", study())


def checkpoints(store: Store, epoch: int) -> dict[str, Checkpoint]:
    return {
        point.id: load(
            store.path
            / "shards"
            / shard.id
            / f"weights.step-{epoch * point.epoch_steps}.safetensors",
            place,
        )
        for shard in plan.shards(store.study)
        for place, point in enumerate(shard.points)
    }


def test_the_larger_training_sees_the_same_examples_first_and_then_the_validation_ones():
    recipe = Recipe("digits", n_train=60, seed=3)
    own, held, both = recipe.train(), recipe.following(20), recipe.with_following(20).train()
    assert both.inputs.equal(torch.cat([own.inputs, held.inputs]))
    assert both.targets.equal(torch.cat([own.targets, held.targets]))
    assert replace(recipe, n_train=80).train().inputs.equal(both.inputs)
    assert replace(recipe, n_train=80).test().inputs.equal(recipe.test().inputs)


def test_validation_loss_is_the_mean_loss_of_the_examples_that_follow(store: Store):
    trajectory = store.table("trajectory")
    for epoch in (1, 3):
        rows = trajectory[trajectory["epoch"] == epoch].set_index("model")["validation_loss"]
        for model, subject in checkpoints(store, epoch).items():
            held = Recipe(**subject.record["data"]).following(20)
            outputs = subject.risk.outputs(subject.risk.theta, held.inputs.double())
            loss = torch.nn.functional.cross_entropy(outputs, held.targets)
            assert rows[model] == pytest.approx(float(loss), rel=1e-12)


def test_checkpoints_are_tested_on_the_first_examples_and_the_end_on_all(store: Store):
    trajectory, models = store.table("trajectory"), store.table("models").set_index("model")
    rows = trajectory[trajectory["epoch"] == 3].set_index("model")["test_loss"]
    for model, subject in checkpoints(store, 3).items():
        test = Recipe(**subject.record["data"]).test()
        outputs = subject.risk.outputs(subject.risk.theta, test.inputs.double())
        losses = torch.nn.functional.cross_entropy(outputs, test.targets, reduction="none")
        assert rows[model] == pytest.approx(float(losses[:30].mean()), rel=1e-12)
        assert models.loc[model, "test_loss"] == pytest.approx(float(losses.mean()), rel=1e-12)


def test_measures_look_at_the_first_examples_for_a_training_on_all(store: Store):
    along = store.table("measures_along")
    assert set(along["status"]) == {"ok"}
    for epoch in (1, 3):
        rows = along[along["epoch"] == epoch].set_index(["model", "measure"])["value"]
        for model, whole in checkpoints(store, epoch).items():
            data, kept = Recipe(**whole.record["data"]).train(), whole.trajectory
            assert kept is not None
            risk = load_risk(whole, data.take(torch.arange(24)))
            subject = replace(
                whole, risk=risk, trajectory=kept.of_first(24), num_train=whole.risk.num_examples
            )
            found = measure(subject, ALONG, seed=seed_of(model), options=OPTIONS)
            for name in ALONG:
                assert rows[model, name] == pytest.approx(found[name].value, rel=1e-9)
                assert found[name].stats["num_examples"] == 24


def load_risk(whole: Checkpoint, data: Any) -> Any:
    kind = type(whole.risk)
    decay = whole.risk.weight_decay
    return kind(
        whole.risk.module, "cross_entropy", data, theta=whole.risk.theta, weight_decay=decay
    )


def test_the_first_model_of_each_stack_is_priced_alone(store: Store):
    costs = store.table("costs")
    alone = costs[costs["what"].str.endswith(ALONE)]
    first = [shard.points[0].id for shard in plan.shards(store.study)]
    assert list(alone["model"].unique()) == first
    names = [*ALONG, "training", "keeping the trajectory", "training loss", "validation"]
    assert set(alone["what"]) == {f"{name} alone" for name in names}
    known = alone[alone["what"] != "keeping the trajectory alone"]
    assert (known["seconds"] > 0).all()


def test_nothing_but_the_table_of_costs_depends_on_it(store: Store, tmp_path: Path):
    measures = {**study()["measures"], "alone": False}
    other = tiny.done(tmp_path / "other", study(measures=measures))
    for name in (*tiny.SAME, "trajectory", "measures_along"):
        tables = [
            each.table(name).drop(columns="shard", errors="ignore") for each in (store, other)
        ]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert not other.table("costs")["what"].str.endswith(ALONE).any()


def test_trap_17_a_stack_that_diverges_has_no_price(tmp_path: Path):
    grid = {"learning_rate": [1e6], "seed": [0, 1]}
    store = tiny.done(tmp_path / "study", study(grid=grid))
    assert set(store.table("models")["outcome"]) == {"diverged"}
    assert not store.table("costs")["what"].str.endswith(ALONE).any()
    assert np.isnan(store.table("trajectory")["validation_loss"]).all()


def test_trap_39_trajectories_along_training_count_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    parameters = 64 * 3 + 3 + 3 * 10 + 10
    needed = 3 * 2 * (parameters + 3 * (1 + 80 * 12 + parameters)) * 8
    monkeypatch.setattr(snapshots, "MAX_MEMORY", needed - 1)
    parsed = spec.parse(study(), place="it")
    with pytest.raises(InputError, match=r"training\.checkpoints: found 3 checkpoints of a stack"):
        Store.create(tmp_path / "out", parsed)
    monkeypatch.setattr(snapshots, "MAX_MEMORY", needed)
    assert tiny.done(tmp_path / "out", study()).sizes


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no checkpoint to validate at": (
        {"training": tiny.training(validation=5), "measures": {"names": ["norms.distance"]}},
        r"training\.validation: no training\.checkpoints to measure at; give some",
    ),
    "more validation examples than there are": (
        {"training": tiny.training(validation=1200, checkpoints=[1])},
        r"data\.n_train: found 1260, expected 1 to 1200",
    ),
    "more test examples than there are": (
        {"training": tiny.training(test=598, checkpoints=[1])},
        r"training\.test: found 598 examples, expected at most the 597 there are",
    ),
    "more examples to measure on than to train on": (
        {"measures": {"names": ["norms.distance"], "examples": 61}},
        r"measures\.examples: found 61 examples, expected at most the 60 trained on",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_told(case: str):
    sections, message = REFUSED[case]
    sections = {"training": tiny.training(), "grid": {"seed": [0]}, **sections}
    with pytest.raises(InputError, match=message):
        plan.shards(spec.parse(tiny.study(**sections), place="it"))
