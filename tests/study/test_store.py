import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import tiny

from gentheory.errors import InputError
from gentheory.study import files, owner
from gentheory.study.files import read_json, write_json
from gentheory.study.spec import parse
from gentheory.study.store import FORMAT, Store

STUDY = parse(tiny.study(), place="it")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "study", STUDY)


def commit(store: Store, shard: str, value: float = 1.0) -> None:
    with store.writing(shard) as folder:
        files.write_table(folder / "models.parquet", [{"x": value}], {"x": "double"})


def unfinished(store: Store, shard: str, owner: dict[str, Any]) -> Path:
    folder = store.path / "inflight" / f"{shard}.abc"
    folder.mkdir(parents=True)
    write_json(owner_file(folder), owner)
    return folder


def owner_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def test_a_folder_is_made_opened_and_recognized(store: Store) -> None:
    assert Store.open(store.path) == store
    assert Store.create(store.path, STUDY) == store
    assert list(store.sizes.values()) == [2, 2]
    assert [shard.id for shard in store.missing()] == list(store.sizes)


def test_another_study_is_not_written_over(store: Store) -> None:
    before = (store.path / "study.json").read_bytes()
    message = r"found the study 'tiny' with another specification, .* choose another --out"
    with pytest.raises(InputError, match=message):
        Store.create(store.path, parse(tiny.study(seed=1), place="it"))
    assert (store.path / "study.json").read_bytes() == before


def test_a_description_left_half_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "study.json.1234.tmp").write_text("{")
    assert Store.create(tmp_path, STUDY).study == STUDY


def test_the_folder_of_another_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"format": 99, "study": {}}')
    message = r"found a study's folder of format 99, expected format \d+; use the version"
    with pytest.raises(InputError, match=message):
        Store.open(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", f'{{"format": {FORMAT}}}'])
def test_a_damaged_description_is_told_and_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text)
    message = r"found a damaged study\.json, expected the folder of a study; give the folder"
    with pytest.raises(InputError, match=message):
        Store.open(tmp_path)
    with pytest.raises(InputError, match=message):
        Store.create(tmp_path, STUDY)
    assert (tmp_path / "study.json").read_text() == text


def test_a_study_that_cannot_be_planned_leaves_no_folder(tmp_path: Path) -> None:
    study = parse(tiny.study(architectures=[tiny.net(model="mlpp")]), place="it")
    with pytest.raises(InputError, match=r"architectures\.net: model: found 'mlpp', expected one"):
        Store.create(tmp_path / "new", study)
    assert not (tmp_path / "new").exists()


def test_a_study_planned_otherwise_is_not_mixed(store: Store) -> None:
    record = json.loads((store.path / "study.json").read_text())
    record["shards"] = {"0" * 16: 4}
    write_json(store.path / "study.json", record)
    message = "found a study planned by another version of gentheory, or for other data"
    with pytest.raises(InputError, match=message):
        Store.open(store.path).missing()


def test_json_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(file, {"a": 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    assert read_json(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_sees_half_a_json_file(tmp_path: Path) -> None:
    file, over = tmp_path / "a.json", threading.Event()
    write_json(file, {"n": -1, "filling": "x" * 100_000})

    def rewrite() -> None:
        for number in range(100):
            write_json(file, {"n": number, "filling": "x" * 100_000})
        over.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen: list[int] = []
    while not over.is_set():
        seen.append(json.loads(file.read_text())["n"])
    writer.join()
    assert seen == sorted(seen)
    assert json.loads(file.read_text())["n"] == 99


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\udc80"])
def test_damaged_json_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_json(tmp_path / "a.json") is None


def test_a_shard_appears_whole_when_its_block_ends_well(store: Store) -> None:
    shard = next(iter(store.sizes))
    with store.writing(shard) as folder:
        (folder / "models.parquet").write_text("x")
        assert not store.is_done(shard)
        (mine,) = store.inflight()
        assert (mine.shard, mine.alive, mine.owner["pid"]) == (shard, True, os.getpid())
    assert store.is_done(shard)
    assert store.done() == [shard]
    assert store.inflight() == []
    assert {f.name for f in (store.path / "shards" / shard).iterdir()} == {
        "models.parquet",
        "shard.json",
    }


def test_a_block_that_breaks_leaves_nothing(store: Store) -> None:
    shard = next(iter(store.sizes))
    with pytest.raises(RuntimeError, match="broke"), store.writing(shard) as folder:  # noqa: PT012
        (folder / "models.parquet").write_text("x")
        raise RuntimeError("broke")
    assert not store.is_done(shard)
    assert list((store.path / "inflight").iterdir()) == []


def test_the_second_to_finish_a_shard_leaves_the_first_ones(store: Store) -> None:
    shard = next(iter(store.sizes))
    with store.writing(shard) as folder:
        commit(store, shard, 1.0)
        files.write_table(folder / "models.parquet", [{"x": 2.0}], {"x": "double"})
    assert store.table("models")["x"].tolist() == [1.0]
    assert list((store.path / "inflight").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "gone", "no record", "empty record", "half a record"])
def test_a_damaged_shard_is_missing_and_can_be_done_again(store: Store, damage: str) -> None:
    shard = next(iter(store.sizes))
    commit(store, shard)
    file = store.path / "shards" / shard / "models.parquet"
    record = file.with_name("shard.json")
    match damage:
        case "cut":
            os.truncate(file, file.stat().st_size // 2)
        case "gone":
            file.unlink()
        case "no record":
            record.unlink()
        case "empty record":
            record.write_text("{}")
        case _:
            record.write_text(record.read_text()[:10])
    assert not store.is_done(shard)
    assert shard in [missing.id for missing in store.missing()]
    commit(store, shard, 3.0)
    assert store.table("models")["x"].tolist() == [3.0]


def test_a_table_is_in_the_studys_order_whatever_came_first(store: Store) -> None:
    for number, shard in reversed(list(enumerate(store.sizes))):
        commit(store, shard, float(number))
    assert store.table("models")["x"].tolist() == [0.0, 1.0]


def test_a_table_of_nothing_and_a_table_of_garbage(store: Store) -> None:
    with pytest.raises(InputError, match="found no finished shard, expected at least one; run"):
        store.table("models")
    shard = next(iter(store.sizes))
    commit(store, shard)
    file = store.path / "shards" / shard / "models.parquet"
    file.write_bytes(b"x" * file.stat().st_size)
    message = rf"found a damaged models\.parquet \(.*{shard}.*delete the shard that is named"
    with pytest.raises(InputError, match=message):
        store.table("models")


def test_paths_with_characters_that_mean_something_elsewhere(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "it's [1] {a,b} *? ü" / "~", STUDY)
    for shard in store.sizes:
        commit(store, shard)
    assert len(store.table("models")) == 2


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "x": 0.1 + 0.2, "t": "a'b\n", "o": None},
        {"n": None, "x": float("nan"), "t": "", "o": 2**40},
    ]
    columns = {"n": "integer", "x": "double", "t": "varchar", "o": "bigint"}
    files.write_table(tmp_path / "a.parquet", rows, columns)
    frame = _duck(tmp_path / "a.parquet")
    assert list(frame.columns) == list(columns)
    assert frame["x"][0] == 0.1 + 0.2
    assert frame["t"].tolist() == ["a'b\n", ""]
    assert frame["n"].isna().tolist() == [False, True]
    assert int(frame["o"][1]) == 2**40
    files.write_table(tmp_path / "none.parquet", [], columns)
    assert list(_duck(tmp_path / "none.parquet").columns) == list(columns)


def test_a_failure_is_remembered_until_the_shard_is_done(store: Store) -> None:
    shard, other = store.sizes
    store.fail(shard, "it broke")
    store.fail(other, "it broke too")
    assert store.failures() == {shard: "it broke", other: "it broke too"}
    commit(store, shard)
    assert store.failures() == {other: "it broke too"}
    assert not (store.path / "failures" / f"{shard}.json").exists()


def test_who_is_alive_on_this_host(store: Store) -> None:
    shard, other = store.sizes
    with subprocess.Popen([sys.executable, "-c", "pass"]) as over:
        over.wait()
    host = socket.gethostname()
    unfinished(store, other, {"pid": over.pid, "host": host, "born": "1"})
    with store.writing(shard):
        assert {i.shard: i.alive for i in store.inflight()} == {shard: True, other: False}
        store.sweep()
        assert [i.shard for i in store.inflight()] == [shard]


@pytest.mark.parametrize("moment", ["before its folder is made", "while it is committed"])
def test_a_runner_killed_at_any_moment_is_known_to_be_dead(store: Store, moment: str) -> None:
    shard = next(iter(store.sizes))
    code = f"""
import os, pathlib, signal
from gentheory.study import store as s

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

store = s.Store.open(pathlib.Path({str(store.path)!r}))
if {moment!r} == "before its folder is made":
    (store.path / "inflight").mkdir()
    pathlib.Path.mkdir = lambda self, *a, **k: die() if {shard!r} in self.name else None
with store.writing({shard!r}) as folder:
    (folder / "models.parquet").write_text("x")
    pathlib.Path.rename = die
"""
    child = subprocess.run([sys.executable, "-c", code], check=False)
    assert child.returncode == -signal.SIGKILL
    (left,) = store.inflight()
    assert (left.shard, left.alive, left.owner["host"]) == (shard, False, socket.gethostname())
    store.sweep()
    assert list((store.path / "inflight").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_number_given_again_is_not_the_owner(store: Store) -> None:
    shard = next(iter(store.sizes))
    with store.writing(shard) as folder:
        mine = read_json(owner_file(folder))
    assert mine is not None
    later = {**mine, "born": str(int(mine["born"]) - 1)}
    folder = unfinished(store, shard, later)
    assert [i.alive for i in store.inflight()] == [False]
    write_json(owner_file(folder), mine)
    assert [i.alive for i in store.inflight()] == [True]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_zombie_is_not_alive(store: Store) -> None:
    code = "import json, gentheory.study.owner as o; print(json.dumps(o.owner()), flush=True)"
    # Nobody waits for it, so that its number stays taken.
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        owner = json.loads(child.stdout.readline())
        unfinished(store, next(iter(store.sizes)), owner)
        stat = Path(f"/proc/{owner['pid']}/stat")
        tiny.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert [i.alive for i in store.inflight()] == [False]


def test_another_host_is_judged_by_its_silence(store: Store) -> None:
    shard = next(iter(store.sizes))
    folder = unfinished(store, shard, {"pid": os.getpid(), "host": "elsewhere"})
    assert [i.alive for i in store.inflight()] == [True]
    long_ago = time.time() - owner.SILENT_AFTER - 1
    os.utime(owner_file(folder), (long_ago, long_ago))
    assert [i.alive for i in store.inflight()] == [False]
    write_json(folder / "progress.json", {"measured": 1})
    assert [(i.alive, i.progress) for i in store.inflight()] == [(True, {"measured": 1})]


def test_another_kernel_is_another_host_whatever_its_name(store: Store) -> None:
    here = owner.owner()
    unfinished(store, next(iter(store.sizes)), {**here, "pid": 2**22 + 1, "kernel": "elsewhere"})
    assert [i.alive for i in store.inflight()] == [True]


@pytest.mark.parametrize("jump", [-86400.0, -200.0, 200.0, 86400.0])
def test_a_clock_that_jumps_takes_no_work_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Every file's time and this machine's are off by the jump, and a living process works on."""
    mine, theirs = store.sizes
    other = unfinished(store, theirs, {"pid": 1, "host": "elsewhere"})
    watch, clock = owner.Watch(), [1000.0]
    monkeypatch.setattr(owner.time, "monotonic", lambda: clock[0])
    with store.writing(mine) as folder:
        store.sweep(watch)
        _put_clock(monkeypatch, jump)
        stamp = time.time()
        os.utime(owner_file(folder), (stamp - jump, stamp - jump))
        os.utime(owner_file(other), (stamp - jump, stamp - jump))
        for _ in range(3):  # it gives signs of life, by a clock of its own
            clock[0] += owner.SILENT_AFTER - 1
            store.sweep(watch)
            os.utime(owner_file(other), (stamp - 2 * jump, stamp - 2 * jump + clock[0]))
        assert {i.shard for i in store.inflight()} == {mine, theirs}
        assert next(i.alive for i in store.inflight() if i.shard == mine)
        store.sweep(watch)
        clock[0] += owner.SILENT_AFTER
        store.sweep(watch)  # silent for as long as this process has looked on
        assert {i.shard for i in store.inflight()} == {mine}
    assert store.is_done(mine)


def _put_clock(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)


def test_the_age_of_a_sign_is_taken_by_the_clock_of_the_files(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unfinished(store, next(iter(store.sizes)), {"pid": 1, "host": "elsewhere"})
    _put_clock(monkeypatch, -3600.0)
    assert [i.alive for i in store.inflight()] == [True]
    ahead = time.time() + 2 * 3600.0
    os.utime(owner_file(folder), (ahead, ahead))
    assert [i.alive for i in store.inflight()] == [False]
    assert list((store.path / "inflight").glob("*.tmp")) == []


def test_a_process_at_work_gives_signs_of_life(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "BEAT", 0.01)
    with store.writing(next(iter(store.sizes))) as folder:
        os.utime(owner_file(folder), (1.0, 1.0))
        tiny.until(lambda: owner_file(folder).stat().st_mtime > 1.0)
    assert not owner_file(folder).exists()


def test_runs_are_told_oldest_first(store: Store) -> None:
    store.note_run("b", {"started": "2026-01-02", "seconds": None})
    store.note_run("a", {"started": "2026-01-03", "seconds": 1.0})
    store.note_run("b", {"started": "2026-01-02", "seconds": 2.0})
    (store.path / "runs" / "c.json").write_text("{")
    assert [run["seconds"] for run in store.runs()] == [2.0, 1.0]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("IO Error: Could not write file: No space left on device"),
    ],
)
def test_every_way_of_saying_that_the_disk_is_full(tmp_path: Path, error: Exception) -> None:
    message = r"found no space left on the device, expected room for the results; free some space"
    with pytest.raises(files.DiskFullError, match=message), files.full_disk(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EACCES, "Permission denied"), InputError("a", "No space left", "b", "c")],
)
def test_another_error_is_left_as_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error), match=r"Permission denied|No space left") as caught:  # noqa: SIM117
        with files.full_disk(tmp_path):
            raise error
    assert caught.value is error


def _duck(path: Path) -> pd.DataFrame:
    with duckdb.connect() as connection:
        return connection.execute("select * from read_parquet(?)", [str(path)]).df()
