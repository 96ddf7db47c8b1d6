"""Environments, imbalance and augmentation as axes of a study."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from idx_files import fake

from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.study import plan
from gentheory.study.job import Job
from gentheory.study.spec import Study, parse


def study(**sections: Any) -> Study:
    return parse(tiny.study(**sections), place="it")


def test_the_model_of_each_data_set_has_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path))
    fake(tmp_path, labels=tuple(range(10)) * 2)
    for name, shape, classes in (("colored_mnist", [2, 7, 7], 2), ("rotated_mnist", [1, 7, 7], 10)):
        data = {"name": name, "options": {"downsize": 7}}
        found = plan.points(study(data=data, training=tiny.training(n_train=None)))
        assert found[0].model["shape"] == shape
        assert found[0].model["num_classes"] == classes
        assert found[0].data["n_train"] == 20


def test_accuracy_under_shift_is_in_the_table_where_there_is_a_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path))
    fake(tmp_path, labels=tuple(range(10)) * 2)
    shifted = {"name": "rotated_mnist", "options": {"downsize": 7}}
    parts = [{"data": shifted}, {"data": {"name": "digits"}}]
    raw = tiny.study(parts=parts, training=tiny.training(n_train=15))
    table = tiny.done(tmp_path / "study", raw).table("models")
    assert list(table["data"]) == ["rotated_mnist, downsize 7"] * 4 + ["digits"] * 4
    assert table["shifted_accuracy"][:4].between(0, 1).all()
    assert (table["shifted_loss"][:4] > 0).all()
    assert table[["shifted_loss", "shifted_accuracy"]][4:].isna().all(axis=None)
    assert table["test_loss"].map(math.isfinite).all()


def test_imbalance_is_an_axis_and_the_number_of_examples_is_what_it_leaves() -> None:
    training = tiny.training(n_train=None, imbalance="step")
    grid = {"imbalance_ratio": [1.0, 10.0]}
    points = plan.points(study(training=training, grid=grid))
    counts = [point.data["n_train"] for point in points]
    assert counts == [len(Recipe(**point.data).train()) for point in points]
    assert counts[1] < 0.6 * counts[0]
    assert len(plan.shards(study(training=training, grid=grid))) == 2


@pytest.mark.parametrize(
    ("training", "match"),
    [
        (
            {"imbalance_ratio": 10.0},
            "imbalance_ratio: 10.0 is read with imbalance exponential or step alone",
        ),
        (
            {"imbalance": "step", "imbalance_ratio": 10.0, "n_train": 1000},
            "n_train: found 1000, expected at most the .* of digits with step imbalance 10",
        ),
    ],
)
def test_an_imbalance_that_cannot_be_is_refused_before_training(
    training: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        plan.shards(study(training=tiny.training(**training)))


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"training": tiny.training(imbalance="some")}, "imbalance = .*'none', 'exponential'"),
        ({"training": tiny.training(imbalance_ratio=0.5)}, "imbalance_ratio = 0.5 .*greater"),
        ({"training": tiny.training(mixup=-1.0)}, "mixup = -1.0 .*greater"),
        ({"training": tiny.training(crops=0.5)}, "crops = 0.5 .*integer"),
        (
            {"training": tiny.training(mixup=0.2, keep_trajectory=True)},
            "keep_trajectory: mixup trains on other examples than those it is for; drop one",
        ),
        (
            {"training": tiny.training(keep_trajectory=True), "grid": {"crops": [0, 1]}},
            "keep_trajectory: crops trains on other examples",
        ),
        (
            {"training": tiny.training(mixup=0.2, optimizer="saf", epochs=9)},
            "mixup: optimizer saf is for single examples of one class",
        ),
        (
            {"training": tiny.training(flips=True, pof_epochs=1)},
            "pof_epochs: flips trains on other examples",
        ),
    ],
)
def test_mistakes_are_named(sections: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        study(**sections)


def test_augmentation_makes_other_models_of_the_same_start() -> None:
    training = tiny.training(mixup=0.5, flips=True, crops=1)
    plain, augmented, again = (
        Job.of(tuple(plan.points(study(training=each))))
        for each in (tiny.training(), training, training)
    )
    assert torch.equal(plain.initial, augmented.initial)
    assert plain.order_seeds == augmented.order_seeds
    found = [job.train().theta for job in (plain, augmented, again)]
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[1])


def test_rivals_are_trained_with_the_augmentation_of_their_model(tmp_path: Path) -> None:
    training, rivals = tiny.training(mixup=0.5, crops=1), {"validation": [0.2], "folds": 2}
    raw = tiny.study(training=training, rivals=rivals)
    table = tiny.done(tmp_path / "a", raw).table("measures")
    own = table.loc[table["measure"].isin(["validation:0.2", "cross_validation:2"])]
    assert len(own) == 8
    assert (own["status"] == "ok").all()
    alone = tiny.done(tmp_path / "b", {**raw, "stack": 1}).table("measures")
    merged = own.merge(alone, on=["model", "measure"])
    assert merged["value_x"].to_numpy() == pytest.approx(merged["value_y"].to_numpy(), rel=1e-4)
