"""Checkpoints along training: kept, evaluated and measured as the end of training is."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny

from gentheory.checkpoint import load
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.measures import measure
from gentheory.seeds import seed_of
from gentheory.study import plan, runner, spec
from gentheory.study.store import TABLES_ALONG, Store
from gentheory.study.tables import read_tables
from gentheory.training import snapshots

STEPS = [0, 1, 2, 3, 4]
"""Of two epochs."""
ALONG = ["tic.diagonal", "spectra.trace"]
MEASURES = {
    "names": ["norms.distance", *ALONG],
    "along": ALONG,
    "options": {"tic.diagonal": {"damping": 0.1}, "spectra.trace": {"num_probes": 4}},
}


def study(**sections: Any) -> dict[str, Any]:
    chosen = {"checkpoints": [0, 1, 2], "checkpoint_steps": [1, 2, 3]}
    training = tiny.training(dtype="float64", label_noise=0.2, **chosen)
    return tiny.study(**{"training": training, "measures": MEASURES, **sections})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny.done(tmp_path_factory.mktemp("along") / "study", study())


def without_times(store: Store) -> dict[str, bytes]:
    files = store.path.glob("shards/*/*")
    return {
        f"{file.parent.name}/{file.name}": file.read_bytes()
        for file in files
        if file.name not in ("costs.parquet", "shard.json")
    }


def assert_same(name: str, store: Store, other: Store) -> None:
    """The same table, but for the names of the shards."""
    tables = [each.table(name).drop(columns="shard", errors="ignore") for each in (store, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def weights(store: Store, shard: plan.Shard, step: int) -> Path:
    return store.path / "shards" / shard.id / f"weights.step-{step}.safetensors"


def test_the_last_checkpoint_is_the_end(store: Store):
    models, measures, trajectory, along = (
        store.table(name) for name in ("models", "measures", *TABLES_ALONG)
    )
    for _, own in trajectory.groupby("model"):
        assert own["steps"].tolist() == STEPS
        assert own["epoch"].tolist() == [step // 2 for step in STEPS]
    last = trajectory[trajectory["steps"] == 4].set_index("model")
    assert last["validation_loss"].isna().all()
    for name in last.columns.drop(["epoch", "validation_loss"]):
        assert last[name].tolist() == models.set_index("model").loc[last.index, name].tolist()
    chosen = measures[measures["measure"].isin(ALONG)].reset_index(drop=True)
    found = along[along["steps"] == 4].drop(columns=["epoch", "steps"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, chosen, check_exact=True)


def test_the_numbers_are_those_of_the_loaded_checkpoint(store: Store):
    trajectory, along = (store.table(name) for name in TABLES_ALONG)
    assert set(along["status"]) == {"ok"}
    for shard in plan.shards(store.study):
        for place, point in enumerate(shard.points):
            for step in STEPS:
                subject = load(weights(store, shard, step), place)
                row = trajectory.query("model == @point.id and steps == @step").iloc[0]
                assert row["train_loss"] == pytest.approx(float(subject.risk.value()), rel=1e-12)
                assert (row["steps"], row["training_time"]) == (
                    subject.steps,
                    subject.training_time,
                )
                assert subject.record["epoch"] == row["epoch"] == step // 2
                outcome = "training" if step < STEPS[-1] else "finished"
                assert row["outcome"] == subject.record["outcome"] == outcome
                for data, name in ((Recipe.test, "test"), (Recipe.clean_test, "clean_test")):
                    moved = load(weights(store, shard, step), place, data=data(point_data(point)))
                    loss = float(moved.risk.example_losses().mean())
                    assert row[f"{name}_loss"] == pytest.approx(loss, rel=1e-12)
                assert row["gap"] == row["test_loss"] - row["train_loss"]
                options = MEASURES["options"]
                anew = measure(subject, ALONG, seed=seed_of(point.id), options=options)
                own = along.query("model == @point.id and steps == @step").set_index("measure")
                for name, estimate in anew.items():
                    assert own.loc[name, "value"] == pytest.approx(estimate.value, rel=1e-12)
                    assert own.loc[name, "stderr"] == pytest.approx(estimate.stderr, rel=1e-9)


def point_data(point: plan.Point) -> Recipe:
    return Recipe(**point.data)


def test_the_end_is_measured_once(store: Store, tmp_path: Path):
    last = study(training={**study()["training"], "checkpoints": [2], "checkpoint_steps": []})
    only = tiny.done(tmp_path / "out", last)

    def seconds(store: Store) -> list[float]:
        costs = store.table("costs")
        return costs.loc[costs["what"] == "along training", "seconds"].tolist()

    assert seconds(only) == [0.0] * 4
    assert min(seconds(store)) > 0
    for name in TABLES_ALONG:
        rows = store.table(name).query("steps == 4").reset_index(drop=True)
        pd.testing.assert_frame_equal(only.table(name), rows, check_exact=True)


def test_a_checkpoint_is_measured_from_the_command_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shard, file = plan.shards(store.study)[0], tmp_path / "found.json"
    address = f"{weights(store, shard, 1)}@1"
    ended = tiny.main(capsys, "measure", address, "-m", "norms.parameters", "--json", file)
    assert ended.code == 0
    value = measure(load(weights(store, shard, 1), 1), "norms.parameters")["norms.parameters"].value
    assert f'"value": {value}' in file.read_text()


def test_no_model_depends_on_what_is_kept_along_its_way(store: Store, tmp_path: Path):
    plain = study(
        training={**study()["training"], "checkpoints": [], "checkpoint_steps": []},
        measures={**MEASURES, "along": []},
    )
    reference = tiny.done(tmp_path / "plain", plain)
    for name in tiny.SAME:
        assert_same(name, store, reference)
    kept = {Path(file).name for file in without_times(reference)}
    assert kept == {f"{name}.parquet" for name in tiny.SAME} | {"weights.safetensors"}
    assert read_tables(reference).trajectory.empty
    assert len(read_tables(store).trajectory) == 20


def test_weights_need_not_be_kept(store: Store, tmp_path: Path):
    lean = tiny.done(
        tmp_path / "lean", study(training={**study()["training"], "keep_checkpoints": False})
    )
    for name in (*tiny.SAME, *TABLES_ALONG):
        assert_same(name, store, lean)
    assert [f.name for f in lean.path.glob("shards/*/weights*")] == 2 * ["weights.safetensors"]


def test_losses_alone_are_enough(tmp_path: Path):
    measures = {"names": ["norms.distance"]}
    store = tiny.done(tmp_path / "out", study(measures=measures, grid={"seed": [0, 1]}))
    assert store.table("trajectory")["gap"].notna().all()
    assert store.table("measures_along").empty


def test_parts_have_checkpoints_of_their_own(tmp_path: Path):
    grid, bare = {"seed": [0]}, {"names": ["norms.distance"]}
    parts = [
        {"training": {"checkpoints": [1]}},
        {},
        {"training": {"epochs": 4, "checkpoints": [3]}},
    ]
    raw = study(training=tiny.training(), grid=grid, measures=bare, parts=parts)
    trajectory = tiny.done(tmp_path / "out", raw).table("trajectory")
    assert trajectory["epoch"].tolist() == [1, 3]
    assert trajectory["outcome"].tolist() == ["training"] * 2


def test_stacks_have_epochs_of_their_own_and_steps_in_common(tmp_path: Path):
    grid, bare = {"batch_size": [10, 30], "seed": [0, 1]}, {"names": ["norms.distance"]}
    training = tiny.training(checkpoints=[1], checkpoint_steps=[2, 4])
    store = tiny.done(tmp_path / "out", study(training=training, grid=grid, measures=bare))
    trajectory, models = store.table("trajectory"), store.table("models")
    expected = {10: [[0, 2], [0, 4], [1, 6]], 30: [[1, 2], [2, 4]]}
    for model, batch in zip(models["model"], models["batch_size"], strict=True):
        own = trajectory.loc[trajectory["model"] == model, ["epoch", "steps"]]
        assert own.to_numpy().tolist() == expected[batch]
    assert trajectory["gap"].notna().all()


def test_the_same_bytes_whoever_makes_them(store: Store, tmp_path: Path):
    other = Store.create(tmp_path / "local", store.study)
    assert runner.run(other, engine_name="local", workers=2).done == 4
    assert without_times(other) == without_times(store)


def test_trap_17_a_model_that_has_ended_has_no_numbers_and_harms_nobody(tmp_path: Path):
    training = tiny.training(
        dtype="float64", epochs=8, checkpoints=[0, 1, 4, 8], stop_at_loss=2.0, momentum=0.9
    )
    training["checkpoint_steps"] = [1, 9]
    grid = {"learning_rate": [0.001, 1e4, 0.1], "seed": [0]}
    store = tiny.done(tmp_path / "out", study(training=training, grid=grid, stack=3))
    trajectory, along = (store.table(name) for name in TABLES_ALONG)
    slow, lost, fast = store.table("models")["model"]
    outcomes = trajectory.groupby("model", sort=False)["outcome"].apply(list)
    assert trajectory["steps"].tolist() == [s for s in (0, 1, 2, 8, 9, 16) for _ in range(3)]
    assert outcomes[slow] == ["training"] * 5 + ["finished"]
    assert outcomes[lost] == ["training"] * 2 + ["diverged"] * 4
    assert outcomes[fast] == ["training"] * 3 + ["target"] * 3
    known = trajectory.set_index("model")[["gap", "training_time"]].notna()
    assert (known["gap"] == known["training_time"]).all()
    # The target was reached in epoch 4, where the model still is.
    assert known["gap"].groupby("model", sort=False).sum().tolist() == [6, 2, 4]
    assert along["model"].value_counts().reindex([slow, lost, fast]).tolist() == [12, 4, 8]
    (shard,) = plan.shards(store.study)
    with pytest.raises(InputError, match=r"model 1, which had ended before step 8, .* choose an"):
        load(weights(store, shard, 8), 1)
    alone = study(training=training, grid={**grid, "learning_rate": [0.001]}, stack=3)
    single = tiny.done(tmp_path / "alone", alone).table("trajectory")
    own = trajectory[trajectory["model"] == slow].reset_index(drop=True)
    for name in ("train_loss", "test_loss", "gap"):
        np.testing.assert_allclose(own[name], single[name], rtol=1e-10)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "in disorder": ({"training": tiny.training(checkpoints=[2, 1])}, "numbers that do not rise; "),
    "twice": ({"training": tiny.training(checkpoints=[1, 1])}, "numbers that do not rise; sort"),
    "steps in disorder": (
        {"training": tiny.training(checkpoint_steps=[2, 1])},
        "checkpoint_steps = .*numbers that do not rise; sort",
    ),
    "a step of no whole number": (
        {"training": tiny.training(checkpoint_steps=[1.5])},
        "checkpoint_steps.* should be a valid integer",
    ),
    "negative": ({"training": tiny.training(checkpoints=[-1])}, "greater than or equal to 0"),
    "too late": ({"training": tiny.training(checkpoints=[1, 3])}, "3 is beyond epoch 2; drop it"),
    "too late for some": (
        {"training": tiny.training(checkpoints=[2]), "grid": {"epochs": [1, 4]}},
        "2 is beyond epoch 1; drop it",
    ),
    "an axis": ({"grid": {"checkpoints": [[1]]}}, r"grid\.checkpoints = .*unknown key"),
    "nothing to measure at": (
        {"measures": MEASURES, "training": tiny.training()},
        r"measures\.along: no training\.checkpoints to measure at; give some",
    ),
    "a measure of the way alone": (
        {"measures": {"names": ["norms.distance"], "along": ["tic.exact"]}},
        r"along: \['tic\.exact'\] are not among \['norms\.distance'\]; add them there",
    ),
    "a measure twice": (
        {"measures": {"names": ["tic.exact"], "along": ["tic.exact"] * 2}},
        "along: a measure stands twice; give each once",
    ),
}


@pytest.mark.parametrize(
    ("grid", "last"), [({"seed": [0]}, 4), ({"epochs": [1, 4]}, 2), ({"batch_size": [10, 60]}, 2)]
)
def test_steps_beyond_the_training_of_any_stack_are_refused_before_it(
    grid: dict[str, Any], last: int, tmp_path: Path
):
    def create(step: int) -> Store:
        training = tiny.training(checkpoint_steps=[1, step])
        parsed = spec.parse(study(training=training, grid=grid), place="it")
        return Store.create(tmp_path / str(step), parsed)

    assert create(last).sizes
    message = rf"checkpoint_steps: found step {last + 1}, expected at most the {last} steps of net "
    with pytest.raises(InputError, match=message):
        create(last + 1)


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_told(case: str):
    sections, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        spec.parse(study(**sections), place="it")


def test_trap_39_a_stack_too_large_to_keep_is_refused_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    needed = 5 * 2 * (64 * 3 + 3 + 3 * 10 + 10) * 8
    monkeypatch.setattr(snapshots, "MAX_MEMORY", needed - 1)
    parsed = spec.parse(study(), place="it")
    with pytest.raises(InputError, match=r"training\.checkpoints: found 5 checkpoints of a stack"):
        Store.create(tmp_path / "out", parsed)
    monkeypatch.setattr(snapshots, "MAX_MEMORY", needed)
    assert Store.create(tmp_path / "out", parsed).sizes


def test_held_out_measures_along_training(tmp_path: Path) -> None:
    measures = {
        "names": ["tic.trace_ratio"],
        "held_out": 40,
        "on_held_out": ["tic.trace_ratio", "tic.diagonal"],
        "along": ["tic.trace_ratio", "tic.diagonal:held-out"],
    }
    store = tiny.done(tmp_path / "study", study(measures=measures))
    along, ended = store.table("measures_along"), store.table("measures")
    assert set(along["measure"]) == set(measures["along"])
    last = along.loc[along["steps"] == 4].set_index(["model", "measure"])["value"]
    final = ended.set_index(["model", "measure"])["value"]
    np.testing.assert_allclose(last, final[last.index], rtol=1e-12)
    with pytest.raises(InputError, match="along: none of names, on the training examples"):
        spec.parse(study(measures={**measures, "along": ["tic.diagonal:held-out"]}), place="it")


def test_class_means_are_those_of_the_training_data_where_these_are_measured(
    tmp_path: Path,
) -> None:
    measures = {"names": ["collapse.nc1"], "held_out": 60, "on_held_out": ["collapse.nc1"]}
    found = tiny.done(tmp_path / "study", study(measures=measures)).table("measures")
    told = found["warnings"].str.contains("not of the training data")
    assert list(told) == list(found["measure"].str.endswith(":held-out"))
