import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from gentheory.checkpoint import load
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.study import plan, runner
from gentheory.study import shard as shards
from gentheory.study.retries import Finished
from gentheory.study.spec import parse
from gentheory.study.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny study, done."""
    return tiny.done(tmp_path_factory.mktemp("runner") / "tiny", tiny.study())


def create(path: Path, **sections: Any) -> Store:
    return Store.create(path, parse(tiny.study(**sections), place="it"))


def run(store: Store) -> runner.Counts:
    return runner.run(store, engine_name="serial")


def test_what_a_study_leaves(store: Store) -> None:
    models, measures, curves = (store.table(name) for name in tiny.SAME)
    planned = [point.id for shard in plan.shards(store.study) for point in shard.points]
    assert models["model"].tolist() == planned
    assert set(models["outcome"]) == {"finished"}
    assert models["steps"].tolist() == [4] * 4  # 2 epochs of 60 examples in batches of 32
    assert models["num_parameters"].tolist() == [64 * 3 + 3 + 3 * 10 + 10] * 4
    time = models["steps"] * models["learning_rate"] / (1 - models["momentum"])
    np.testing.assert_allclose(models["training_time"], time, rtol=1e-15)
    np.testing.assert_allclose(models["gap"], models["test_loss"] - models["train_loss"])
    assert measures["measure"].tolist() == ["tic.exact", "norms.distance"] * 4
    assert set(measures["status"]) == {"ok"}
    assert curves["epoch"].tolist() == [0, 1, 2] * 4
    last = curves[curves["epoch"] == 2]["train_loss"]
    np.testing.assert_allclose(last, models["train_loss"], rtol=1e-6)
    assert store.inflight() == []
    assert store.failures() == {}


def test_the_test_loss_is_on_noisy_labels_and_the_clean_one_on_clean_ones(tmp_path: Path) -> None:
    grid = {"label_noise": [0.0, 0.4], "seed": [0, 1]}
    store = tiny.done(
        tmp_path / "out", tiny.study(grid=grid, measures={"names": ["norms.parameters"]})
    )
    models = store.table("models")
    noisy = models["label_noise"] > 0
    assert noisy.sum() == 2
    assert (models["test_loss"] == models["clean_test_loss"])[~noisy].all()
    np.testing.assert_allclose(models["gap"], models["test_loss"] - models["train_loss"])
    for shard in plan.shards(store.study):
        weights = store.path / "shards" / shard.id / "weights.safetensors"
        for place, point in enumerate(shard.points):
            recipe = Recipe(**point.data)
            row = models[models["model"] == point.id].iloc[0]
            for data, column in ((recipe.test(), ""), (recipe.clean_test(), "clean_")):
                loss = load(weights, place, data=data).risk.example_losses().mean().item()
                assert row[f"{column}test_loss"] == pytest.approx(loss, rel=1e-5)


def test_a_run_is_noted_with_how_it_was_made(store: Store) -> None:
    (record,) = store.runs()
    assert record["engine"] == "serial"
    assert record["shards"] == 2
    assert record["seconds"] > 0
    assert record["versions"]["torch"].startswith("2.")
    assert record["cores"] >= 1


def test_running_twice_does_nothing_the_second_time(store: Store) -> None:
    def state() -> dict[Path, int]:
        return {f: f.stat().st_mtime_ns for f in store.path.rglob("*") if f.is_file()}

    before = state()
    counts = runner.run(Store.open(store.path), engine_name="local")
    assert (counts.done, counts.waiting) == (4, 0)
    assert state() == before


def test_an_unknown_engine_changes_nothing(tmp_path: Path) -> None:
    store = create(tmp_path / "out")
    with pytest.raises(InputError, match="engine: found 'mpi', expected one of serial, local, tcp"):
        runner.run(store, engine_name="mpi")
    assert [file.name for file in store.path.iterdir()] == ["study.json"]


def test_each_shard_is_told_as_it_ends(tmp_path: Path) -> None:
    store, told = create(tmp_path / "out"), list[tuple[Finished, int]]()

    def on_shard(item: Finished) -> None:
        told.append((item, len(store.done())))

    runner.run(store, engine_name="serial", on_shard=on_shard)
    assert told == [(Finished(s), n) for n, s in enumerate(store.sizes, 1)]


def test_a_shard_cut_in_half_is_done_again(tmp_path: Path) -> None:
    store = tiny.done(tmp_path / "out", tiny.study())
    whole, (shard, other) = tiny.files(store), store.sizes
    file = store.path / "shards" / shard / "measures.parquet"
    os.truncate(file, file.stat().st_size // 2)
    kept = store.path / "shards" / other / "measures.parquet"
    before = kept.stat().st_mtime_ns
    assert run(store).done == 4
    assert tiny.files(store) == whole
    assert kept.stat().st_mtime_ns == before


def test_a_shard_that_raises_is_told_and_done_by_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tiny.write(tmp_path / "study.toml", tiny.study()), tmp_path / "out"
    command = ("run", file, "--out", out, "--engine", "serial")
    work, first = shards.work, plan.shards(parse(tiny.study(), place="it"))[0]

    def first_breaks(shard: Any, *rest: Any) -> None:
        if shard.points[0] in first.points:
            raise RuntimeError("the first one broke")
        work(shard, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(shards, "work", first_breaks)
        ended = tiny.main(capsys, *command)
    assert ended.code == 1
    assert ended.out == f"2 of 4 models done in {out}\n"
    why = f"shard {first.id}: every model failed: RuntimeError: the first one broke"
    assert f"failed: {why}\nThe same command tries the failed shards again.\n" in ended.err
    status = tiny.main(capsys, "status", out).out
    assert "done          2\n" in status
    assert "failed        2\n" in status
    assert why.replace(": every", ": failed: every") in status
    # Three of the whole stack, three of each of its two models.
    again = f"shard {first.id}: an attempt at 2 models: RuntimeError: the first one broke\n"
    assert again * 3 + again.replace("2 models", "1 model") * 6 in status
    assert tiny.main(capsys, *command).code == 0
    assert "failed        0\n" in tiny.main(capsys, "status", out).out
    tiny.assert_same(Store.open(out), tiny.done(tmp_path / "reference", tiny.study()))


def test_a_model_that_diverges_is_a_row_and_harms_nobody(tmp_path: Path) -> None:
    def grid(*rates: float) -> dict[str, Any]:
        return {"learning_rate": list(rates), "seed": [0]}

    wild = tiny.done(tmp_path / "wild", tiny.study(grid=grid(0.01, 1e4, 0.1), stack=3))
    tame = tiny.done(tmp_path / "tame", tiny.study(grid=grid(0.01, 0.1), stack=3))
    models = wild.table("models").set_index("model")
    assert models["outcome"].tolist() == ["finished", "diverged", "finished"]
    lost = models.index[1]
    assert models.loc[lost, ["train_loss", "test_loss", "gap"]].isna().all()
    rows = wild.table("measures").set_index(["model", "measure"])
    assert rows.loc[lost, "status"].tolist() == ["refused"] * 2
    assert rows.loc[lost, "reason"].tolist() == ["the model's training diverged"] * 2
    assert rows.loc[lost, "value"].isna().all()
    curve = wild.table("curves").set_index("model").loc[[lost]]
    assert curve["epoch"].tolist() == [0]
    others = tame.table("models").set_index("model")
    for column in ("train_loss", "test_loss", "training_time"):
        np.testing.assert_allclose(
            models.loc[others.index, column], others[column], rtol=1e-6, atol=0
        )
    expected = tame.table("measures").set_index(["model", "measure"])
    np.testing.assert_allclose(rows.loc[expected.index, "value"], expected["value"], rtol=1e-5)


def test_a_stack_of_nothing_but_diverged_models(tmp_path: Path) -> None:
    store = create(tmp_path / "out", grid={"learning_rate": [1e4, 1e5], "seed": [0]})
    assert run(store).done == 2
    assert set(store.table("models")["outcome"]) == {"diverged"}
    assert set(store.table("measures")["status"]) == {"refused"}


def test_a_measure_that_refuses_is_a_row_with_its_reason(tmp_path: Path) -> None:
    options = {"tic.exact": {"max_params": 10}}
    names = ["tic.exact", "norms.distance"]
    store = tiny.done(tmp_path / "o", tiny.study(measures={"names": names, "options": options}))
    rows = store.table("measures")
    assert rows["status"].tolist() == ["refused", "ok"] * 4
    assert rows["reason"][0].startswith("tic.exact: found 235 parameters")
    assert math.isnan(rows["value"][0])


def test_leftovers_of_stopped_runs_are_swept(tmp_path: Path) -> None:
    store = create(tmp_path / "out")
    with store.writing(next(iter(store.sizes))) as folder:
        owner = folder.with_name(f"{folder.name}.json").read_text()
    left = store.path / "inflight" / "0123.abc"
    left.mkdir()
    left.with_name(f"{left.name}.json").write_text(owner.replace('"born": "', '"born": "9'))
    (left / "models.parquet").write_text("half")
    run(store)
    assert list((store.path / "inflight").iterdir()) == []
