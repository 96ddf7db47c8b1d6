import math
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tiny

from gentheory.study import plan, trial
from gentheory.study.plan import Shard
from gentheory.study.spec import parse
from gentheory.study.trial import Cost, Kind


def shards(**sections: Any) -> list[Shard]:
    return plan.shards(parse(tiny.study(**sections), place="it"))


def kinds(**sections: Any) -> list[Kind]:
    return trial.kinds(shards(**sections))


GRID = {"n_train": [30, 60], "epochs": [2, 5], "label_noise": [0.0, 0.2], "seed": [0, 1, 2]}


def test_kinds_differ_in_what_takes_time() -> None:
    wide = tiny.net(label="wide", options={"depth": 2, "width": 5})
    found = kinds(architectures=[tiny.net(), wide], grid=GRID)
    assert [(k.point.architecture, k.point.data["n_train"]) for k in found] == [
        ("net", 30),
        ("net", 60),
        ("wide", 30),
        ("wide", 60),
    ]
    assert {(k.models, k.shards, k.epochs, k.trainings) for k in found} == {(12, 8, 42, 0)}
    assert [k.steps for k in found] == [1, 2, 1, 2]
    assert all(len(k.example.points) == 2 for k in found)


def test_rivals_are_trainings_too() -> None:
    (kind,) = kinds(rivals={"validation": [0.1, 0.2], "folds": 5})
    assert kind.trainings == 7


def test_a_trial_is_short_and_leaves_nothing(tmp_path: Path) -> None:
    (shard,) = shards(training=tiny.training(n_train=600, epochs=10**6), stack=4)
    with mock.patch("tempfile.tempdir", str(tmp_path)):
        cost = trial.try_out(shard)
    assert list(tmp_path.glob("gentheory-*")) == []
    assert all(math.isfinite(value) and value > 0 for value in vars(cost).values())
    num_params = shard.points[0].model["num_params"]
    assert cost.model_bytes > 2 * 4 * num_params  # final and initial, float32


def test_checkpoints_along_training_are_tried_too() -> None:
    training = tiny.training(epochs=8, checkpoints=[0, 2, 4, 8])
    measures = {"names": ["tic.exact"], "along": ["tic.exact"]}
    (shard,) = shards(training=training, measures=measures, stack=4)
    (plain,) = shards(training=tiny.training(epochs=8), measures={"names": ["tic.exact"]}, stack=4)
    cost, without = trial.try_out(shard), trial.try_out(plain)
    assert cost.model_bytes == pytest.approx(5 * without.model_bytes, rel=0.3)
    assert cost.measuring > without.measuring


COST = Cost(step=1e-3, measuring=0.5, shard=0.25, model_bytes=1000.0, shard_bytes=100.0)


def test_predictions_add_up() -> None:
    found = kinds(grid=GRID, rivals={"folds": 3})
    with mock.patch.object(trial, "try_out", return_value=COST):
        whole = trial.predict(found)
    assert whole.tried == (True, True)
    training = 42 * (1 + 2) * 1e-3
    assert whole.parts == {
        "training": pytest.approx(training),
        "rivals": pytest.approx(3 * training),
        "measures": 24 * 0.5,
        "the rest": 16 * 0.25,
    }
    assert whole.seconds(1) == pytest.approx(4 * training + 16)
    assert whole.seconds(2) == pytest.approx(whole.seconds(1) / 2)
    assert whole.seconds(16) == whole.seconds(100) == pytest.approx(whole.seconds(1) / 16)
    assert whole.bytes == 24 * 1000 + 16 * 100 + 84 * 12


def test_what_was_not_tried_costs_what_the_largest_that_was_does() -> None:
    wide = tiny.net(label="wide", options={"depth": 2, "width": 30})
    found = kinds(architectures=[wide, tiny.net()], grid=GRID)
    tried: list[str] = []
    with mock.patch.object(trial, "try_out", return_value=COST):
        whole = trial.predict(found, seconds=0.0, progress=tried.append)
    assert tried == ["net"]
    assert whole.tried == (False, False, True, False)
    large, _, small, other = whole.costs
    assert small == other == COST
    ratio = found[0].point.model["num_params"] / found[2].point.model["num_params"]
    assert large.step / small.step == pytest.approx(ratio)
    assert large.measuring == small.measuring


def test_every_architecture_is_tried_once_before_any_is_tried_again() -> None:
    wide = tiny.net(label="wide", options={"depth": 2, "width": 30})
    tried: list[str] = []
    with mock.patch.object(trial, "try_out", return_value=COST):
        trial.predict(kinds(architectures=[wide, tiny.net()], grid=GRID), progress=tried.append)
    assert tried == ["net", "wide", "net", "wide"]


def test_a_dry_run_prints_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tiny.write(tmp_path / "tiny.toml", tiny.study()), tmp_path / "out"
    command = ("run", file, "--out", out, "--dry-run", "--workers", 2)
    ended = tiny.main(capsys, *command)
    assert ended.code == 0
    head, columns, row, seconds, disk = ended.out.splitlines()
    assert head == "tiny: 4 models in 2 shards to do, of 2 shards"
    assert columns.split() == ["data", "architecture", "models", "shards", "s/model"]
    assert row.split()[:4] == ["digits", "net", "4", "2"]
    assert re.fullmatch(r"about \d+ s with 2 workers \(training .*, the rest \d+%\)", seconds)
    assert re.fullmatch(r"about [\d.]+ MB on the disk", disk)
    assert not out.exists()

    tiny.done(out, tiny.study())
    before = sorted(out.rglob("*"))
    ended = tiny.main(capsys, *command)
    assert ended.out == "tiny: 0 models in 0 shards to do, of 2 shards\n"
    assert sorted(out.rglob("*")) == before
