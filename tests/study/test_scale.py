"""What a look at a large study touches; its seconds are measured elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import duckdb
import pytest
import synthetic
import tiny

from gentheory.study import catalogue, gather
from gentheory.study.query import ask
from gentheory.study.spec import parse
from gentheory.study.standing import Counts, count
from gentheory.study.store import TABLES, TABLES_ALONG, Store

MANY = pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])


@pytest.mark.parametrize("models", [20_000, MANY])
def test_planned_counted_and_asked(tmp_path: Path, models: int) -> None:
    """`pytest -s -m slow` tells the seconds for a million models."""
    grid = {
        "learning_rate": [0.01 * k for k in range(1, 11)],
        "momentum": [0.0, 0.5],
        "n_train": [30, 60, 90, 120, 150],
        "seed": list(range(models // 100)),
    }
    study = parse(tiny.study(grid=grid, stack=16), place="it")
    with told("planning"):
        store = Store.create(tmp_path / "many", study)
    assert sum(store.sizes.values()) == models
    assert len(store.sizes) == models // 16
    with told("making the shards"):
        synthetic.commit(store)
    with told("gathering, which a run does as each block of shards is whole"):
        shards = [*store.sizes]
        for last in {*shards[gather.BLOCK - 1 :: gather.BLOCK], shards[-1]}:
            gather.extend(store.path, (*TABLES, *TABLES_ALONG), shards, last)
    with told("status"):
        assert count(Store.open(store.path)).done == models
    sql = "select architecture, count(*) from models group by 1 order by 1"
    each = models // 16
    for what in ("the first question", "the next question"):
        with told(what):
            assert ask(store, sql).rows == (("a", 6 * each), ("b", 5 * each), ("c", 5 * each))
    with told("all of it again, planning included"):
        assert store.missing() == []


@contextmanager
def told(what: str) -> Iterator[None]:
    start, busy = time.perf_counter(), time.process_time()
    yield
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{what}: {seconds:.2f} s, {busy:.2f} s of them at work")


def test_twenty_thousand_models_are_counted_with_one_look_at_each_shard(tmp_path: Path) -> None:
    store = synthetic.planned(tmp_path / "many", models=20_000)
    some = list(store.sizes)[:600]
    synthetic.commit(store, some)
    with mock.patch.object(catalogue, "commit", side_effect=catalogue.commit) as looked:
        assert count(store) == Counts(planned=20_000, done=9_600, running=0, failed=0)
    assert looked.call_count == len(some)


def test_a_question_opens_few_files_and_there_are_few_a_model(tmp_path: Path) -> None:
    store = synthetic.planned(tmp_path / "many", models=20_000)
    synthetic.commit(store)
    sql = "select architecture, count(*) from models group by 1 order by 1"
    first = ask(store, sql).rows
    assert first == (("a", 7_500), ("b", 6_250), ("c", 6_250))
    opened: list[str] = []

    def seen(*arguments: object) -> object:
        files = gather_files(*arguments)
        opened.extend(files)
        return files

    gather_files = gather._gathered
    with mock.patch.object(gather, "_gathered", side_effect=seen):
        assert ask(store, sql).rows == first
    assert len(opened) == 5
    assert all(Path(file).parent.name == "cache" for file in opened)
    files = sum(1 for _ in store.path.rglob("*"))
    assert files < 0.5 * 20_000


def test_gathered_rows_are_those_of_the_shards(tmp_path: Path) -> None:
    store = synthetic.planned(tmp_path / "many", models=2_000)
    synthetic.commit(store)
    pattern = str(store.path / "shards" / "*" / "models.parquet")
    expected = duckdb.sql(f"select * from '{pattern}' order by substr(model, 3), model").fetchall()
    assert ask(store, "select * from models", most=5_000).rows == tuple(expected)
