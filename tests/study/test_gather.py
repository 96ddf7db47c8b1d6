import os
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import duckdb
import pandas as pd
import pytest
import synthetic

from gentheory.errors import InputError
from gentheory.study import gather
from gentheory.study.store import TABLES, Store


@pytest.fixture(autouse=True)
def small_blocks() -> Iterator[None]:
    with mock.patch.multiple(gather, BLOCK=4, FEWEST=3):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Ten shards, which are three blocks, the last one too small to be gathered."""
    return synthetic.planned(tmp_path / "many", models=20, stack=2)


def gathered(store: Store, name: str = "models") -> list[Path]:
    return sorted((store.path / "cache").glob(f"{name}-*.parquet"))


def models(store: Store) -> list[str]:
    return [f"{m:02d}{shard[2:]}" for shard in store.sizes for m in range(2)]


def forget(store: Store) -> None:
    for file in (store.path / "cache").iterdir():
        file.unlink()


def test_rows_are_in_the_studys_order_from_gathered_files_and_from_shards(store: Store) -> None:
    synthetic.commit(store, reversed(list(store.sizes)))
    first, second = store.table("models"), store.table("models")
    assert first["model"].tolist() == models(store)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert len(gathered(store)) == 2
    with mock.patch.object(gather, "FEWEST", 100):
        forget(store)
        pd.testing.assert_frame_equal(store.table("models"), first, check_exact=True)
    assert gathered(store) == []


def test_gathered_files_are_read_instead_of_shards(store: Store) -> None:
    synthetic.commit(store)
    before = store.table("models")
    files = [f"{store.path}/shards/{s}/models.parquet" for s in list(store.sizes)[:8]]
    for file in files:
        Path(file).write_bytes(b"x" * os.path.getsize(file))
    pd.testing.assert_frame_equal(store.table("models"), before)


def test_a_new_shard_changes_its_own_block_only_and_nothing_stale_stays(store: Store) -> None:
    *most, last = list(store.sizes)[:8]
    synthetic.commit(store, most)
    assert len(store.table("models")) == 14
    before = gathered(store)
    synthetic.commit(store, [last])
    assert store.table("models")["model"].tolist() == models(store)[:16]
    after = gathered(store)
    assert len(before) == len(after) == 2
    assert len({*before} & {*after}) == 1


def test_a_shard_that_is_cut_in_half_is_in_no_table(store: Store) -> None:
    synthetic.commit(store)
    assert len(store.table("models")) == 20
    cut = list(store.sizes)[1]
    file = store.path / "shards" / cut / "models.parquet"
    os.truncate(file, file.stat().st_size // 2)
    kept = [m for m in models(store) if m[2:] != cut[2:]]
    assert store.table("models")["model"].tolist() == kept


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "gone while reading"])
def test_damaged_gathered_files_are_made_anew_from_the_shards(store: Store, damage: str) -> None:
    synthetic.commit(store)
    before = store.table("models")
    (file, _) = gathered(store)
    match damage:
        case "garbage":
            file.write_bytes(b"x" * file.stat().st_size)
        case "cut":
            os.truncate(file, file.stat().st_size // 2)
        case "empty":
            os.truncate(file, 0)
        case _:
            file.unlink()
            file.symlink_to("nowhere")
            with mock.patch.object(Path, "exists", return_value=True):
                pd.testing.assert_frame_equal(store.table("models"), before)
            return
    pd.testing.assert_frame_equal(store.table("models"), before)
    pd.testing.assert_frame_equal(store.table("models"), before)
    assert len(gathered(store)) == 2


def test_where_nothing_can_be_written_the_shards_are_read(store: Store) -> None:
    synthetic.commit(store)
    (store.path / "cache").write_text("in the way")
    assert store.table("models")["model"].tolist() == models(store)


def test_an_error_while_gathering_leaves_no_half_file(store: Store) -> None:
    synthetic.commit(store)
    with mock.patch.object(Path, "replace", side_effect=OSError(28, "No space left on device")):
        assert store.table("models")["model"].tolist() == models(store)
    assert list((store.path / "cache").iterdir()) == []


def test_the_last_shard_of_a_block_gathers_all_tables(store: Store) -> None:
    *most, last = list(store.sizes)[:4]
    synthetic.commit(store, most)
    store.gather(most[-1])
    assert not (store.path / "cache").exists()
    synthetic.commit(store, [last])
    store.gather(last)
    assert [len(gathered(store, name)) for name in TABLES] == [1] * 4
    made = gathered(store)
    assert store.table("models")["model"].tolist() == models(store)[:8]
    assert gathered(store) == made


def test_many_may_gather_at_once(store: Store) -> None:
    synthetic.commit(store)
    found: list[list[str]] = []

    def read() -> None:
        for _ in range(5):
            found.append(store.table("models")["model"].tolist())
            gather.discard(store.path)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [models(store)] * 20
    assert not list((store.path / "cache").glob("*.tmp"))


def test_what_is_no_fault_of_the_files_is_not_blamed_on_them(store: Store) -> None:
    synthetic.commit(store)
    store.table("models")
    made = gathered(store)
    error = duckdb.InvalidInputException("Invalid Input Error: missing )")
    with pytest.raises(duckdb.InvalidInputException, match="missing"):
        gather.reading(
            store.path, ["models"], store.sizes, store.commits(), mock.Mock(side_effect=error)
        )
    assert gathered(store) == made


def test_a_table_of_nothing(store: Store) -> None:
    with pytest.raises(InputError, match="found no finished shard, expected at least one"):
        store.table("models")
