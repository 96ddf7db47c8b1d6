"""Attempts that fail are repeated; a model that always fails is found, and costs no other one."""

import json
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from gentheory.checkpoint import load
from gentheory.errors import InputError
from gentheory.report.population import population
from gentheory.study import plan
from gentheory.study import shard as shards
from gentheory.study.attempt import Attempt, Ended, died
from gentheory.study.retries import Finished, Retries
from gentheory.study.spec import parse
from gentheory.study.store import TRACE, Store
from gentheory.study.tables import read_tables

RAW = tiny.study(stack=4)
PLANNED = plan.shards(parse(RAW, place="it"))[0]
BAD = PLANNED.points[2].id
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"
Patch = Callable[[Callable[[plan.Shard], None]], None]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny.done(tmp_path_factory.mktemp("retries") / "out", RAW)


@pytest.fixture
def before_work(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Have something done before each shard's work."""
    work = shards.work

    def patch(first: Callable[[plan.Shard], None]) -> None:
        def patched(shard: plan.Shard, *rest: Any) -> None:
            first(shard)
            work(shard, *rest)

        monkeypatch.setattr(shards, "work", patched)

    return patch


def command(tmp_path: Path, *options: object) -> tuple[object, ...]:
    file = tiny.write(tmp_path / "study.toml", RAW)
    return ("run", file, "--out", tmp_path / "out", "--engine", "serial", *options)


def test_what_strikes_twice_leaves_no_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: Store, before_work: Patch
) -> None:
    struck = Counter[str]()

    def strike(shard: plan.Shard) -> None:
        struck[shard.id] += 1
        if struck[shard.id] <= 2:
            raise RuntimeError("struck")

    before_work(strike)
    ended = tiny.main(capsys, *command(tmp_path))
    assert (ended.code, ended.out) == (0, f"4 of 4 models done in {tmp_path / 'out'}\n")
    store = Store.open(tmp_path / "out")
    tiny.assert_same(store, reference)
    note = {"models": [point.id for point in PLANNED.points], "reason": "RuntimeError: struck"}
    assert store.attempts() == {PLANNED.id: {"attempts": [note] * 2, "given_up": []}}
    assert "struck" not in tiny.main(capsys, "status", store.path).out


@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError("too much")])
def test_the_model_to_blame_is_found_and_given_up(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    reference: Store,
    before_work: Patch,
    error: Exception,
) -> None:
    tried: list[int] = []

    def fail(shard: plan.Shard) -> None:
        tried.append(len(shard.points))
        if BAD in [point.id for point in shard.points]:
            raise error

    before_work(fail)
    ended = tiny.main(capsys, *command(tmp_path, "--retries", 1))
    reason = f"{type(error).__name__}: {error}"
    told = f"model {BAD} of shard {PLANNED.id}: given up: {reason}\n"
    assert (ended.code, ended.out) == (0, f"4 of 4 models done in {tmp_path / 'out'}\n")
    assert told in ended.err
    # The whole twice, each half once, then the models of one half, the bad one twice.
    assert tried == [4, 4, 2, 2, 1, 1, 1]
    store = Store.open(tmp_path / "out")
    assert [f.name for f in store.path.glob("pieces/*")] == []
    assert told in tiny.main(capsys, "status", store.path).out
    _assert_only_the_bad_one_is_missing(store, reference, reason)
    assert tiny.main(capsys, *command(tmp_path)).code == 0
    assert len(tried) == 7


def _assert_only_the_bad_one_is_missing(store: Store, reference: Store, reason: str) -> None:
    for name in tiny.SAME:
        mine, whole = store.table(name), reference.table(name)
        assert mine.dtypes.equals(whole.dtypes)
        good, expected = (frame.loc[frame["model"] != BAD] for frame in (mine, whole))
        for column in whole.columns:
            if whole[column].dtype == float:
                np.testing.assert_allclose(good[column], expected[column], rtol=1e-4)
            elif column != "stats":
                assert good[column].tolist() == expected[column].tolist(), column
    models = store.table("models")
    assert models["model"].tolist() == reference.table("models")["model"].tolist()
    lost = models.loc[models["model"] == BAD].iloc[0]
    assert (lost["outcome"], lost["steps"], lost["position"]) == ("failed", 0, 2)
    assert np.isnan(lost["train_loss"])
    assert np.isnan(lost["gap"])
    rows = store.table("measures")
    rows = rows.loc[rows["model"] == BAD]
    assert rows["measure"].tolist() == ["tic.exact", "norms.distance"]
    assert set(rows["status"]) == {"failed"}
    assert set(rows["reason"]) == {f"the model was given up: {reason}"}
    assert rows["value"].isna().all()
    assert BAD not in set(store.table("curves")["model"])
    assert (population(read_tables(store)).models["excluded"] == ["", "", "failed", ""]).all()
    weights = [s.path / "shards" / PLANNED.id / "weights.safetensors" for s in (store, reference)]
    for place in (0, 1, 3):
        mine, whole = (load(file, place) for file in weights)
        np.testing.assert_allclose(mine.risk.theta, whole.risk.theta, rtol=1e-4, atol=1e-6)
        assert mine.record == whole.record
    with pytest.raises(InputError, match=r"found model 2, which was given up \(.*; choose another"):
        load(weights[0], 2)


def test_a_stack_that_is_too_large_is_done_in_halves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before_work: Patch
) -> None:
    def too_large(shard: plan.Shard) -> None:
        if len(shard.points) > 2:
            raise MemoryError

    before_work(too_large)
    assert tiny.main(capsys, *command(tmp_path)).code == 0
    store = Store.open(tmp_path / "out")
    assert set(store.table("models")["outcome"]) == {"finished"}
    assert store.table("models")["position"].tolist() == [0, 1, 2, 3]
    assert set(store.table("models")["shard"]) == {PLANNED.id}


def test_data_that_are_not_there_are_no_models_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "out", parse(RAW, place="it"))
    planned = plan.shards(store.study)

    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError("no such data")

    monkeypatch.setattr(plan, "shards", lambda _: planned)
    monkeypatch.setattr("gentheory.data.load", gone)
    ended = tiny.main(capsys, *command(tmp_path, "--retries", 1))
    assert ended.code == 1
    assert store.failures() == {PLANNED.id: "FileNotFoundError: no such data"}
    assert len(store.attempts()[PLANNED.id]["attempts"]) == 2


def test_a_shard_that_another_runner_has_done_meanwhile_needs_no_more(reference: Store) -> None:
    work = Retries.of(reference, [PLANNED], limit=2, time_limit=None)
    assert work.after(work.waiting[0], Ended("too late")) == Finished(PLANNED.id)
    assert work.after(Attempt(PLANNED, PLANNED.id), Ended("later still")) is None
    assert PLANNED.id not in reference.attempts()


def test_a_full_disk_is_not_tried_again(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "out", parse(RAW, place="it"))
    work = Retries.of(store, [PLANNED], limit=2, time_limit=None)
    full = Ended("full", fatal=True)
    assert work.after(work.waiting.popleft(), full) == Finished(PLANNED.id, "full", fatal=True)
    assert work.waiting == deque()


def test_the_serial_engine_has_no_process_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "--time-limit: found the engine serial, which cannot end its own process, .*; choose"
    tiny.refused(tiny.main(capsys, *command(tmp_path, "--time-limit", 5)), message)
    assert not (tmp_path / "out").exists()


HUNG = """Timeout (0:00:07)!
Thread 0x00007f5d820e96c0 (most recent call first):
  File "/x/connection.py", line 395 in _recv

Thread 0x00007f5d817e86c0 (most recent call first):
  File "/x/loop.py", line 25 in spin
  File "/x/attempt.py", line 70 in perform
"""
CRASHED = HUNG.replace("Timeout (0:00:07)!", "Fatal Python error: Segmentation fault\n")
PLACE = ', in "/x/loop.py", line 25 in spin'


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (HUNG, f"not done within 7 s{PLACE}"),
        (CRASHED, f"the worker process crashed (Segmentation fault){PLACE}"),
        ("Timeout (0:00:07)!\n", "not done within 7 s"),
        ("", "the worker process died: out of memory, or ended from outside"),
        (None, "the worker process died: out of memory, or ended from outside"),
    ],
)
def test_how_a_process_died(tmp_path: Path, trace: str | None, reason: str) -> None:
    store = Store.create(tmp_path / "out", parse(RAW, place="it"))
    attempt = Attempt(PLANNED, PLANNED.id, 7.0)
    assert Attempt.from_dict(json.loads(json.dumps(attempt.to_dict()))).nonce == attempt.nonce
    if trace is not None:
        folder = store.inflight_folder(attempt.shard, attempt.nonce)
        folder.mkdir(parents=True)
        (folder / TRACE).write_text(trace)
    assert died(store, attempt) == Ended(reason)
