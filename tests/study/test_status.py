import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import tiny

from gentheory.study import runner
from gentheory.study.files import write_json
from gentheory.study.spec import parse
from gentheory.study.standing import standing
from gentheory.study.store import FORMAT, Store

STUDY = parse(tiny.study(), place="it")


def test_counts_of_models_by_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.create(tmp_path / "out", parse(tiny.study(stack=1), place="it"))
    first, second, third, _ = store.sizes
    with store.writing(first):
        pass
    store.fail(second, "ValueError: it broke")
    store.fail(third, "ValueError: that is tried again now")
    with store.writing(third):
        assert runner.count(store) == runner.Counts(planned=4, done=1, running=1, failed=1)
        ended = tiny.main(capsys, "status", store.path)
    assert ended.code == 0
    host = f"process {os.getpid()} on "
    assert re.fullmatch(
        "tiny: 4 models in 4 shards\n"
        "  done          1\n"
        "  running       1\n"
        "  waiting       1\n"
        "  failed        1\n"
        rf"shard {third}: running \({host}.*\)" + "\n"
        rf"shard {second}: failed: ValueError: it broke\n",
        ended.out,
    ), ended.out


def test_what_was_stopped_is_told_until_it_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.create(tmp_path / "out", STUDY)
    shard = next(iter(store.sizes))
    with store.writing(shard) as folder:
        owner = folder.with_name(f"{folder.name}.json").read_text()
    left = store.path / "inflight" / f"{shard}.abc"
    left.mkdir()
    left.with_name(f"{left.name}.json").write_text(owner.replace('"born": "', '"born": "9'))
    (store.path / "shards" / shard / "shard.json").unlink()
    told = f"shard {shard}: stopped before its end, will be done again (process {os.getpid()} on "
    assert told in tiny.main(capsys, "status", store.path).out
    with store.writing(shard):
        pass
    assert "shard" not in tiny.main(capsys, "status", store.path).out.split("\n", 1)[1]


def test_status_needs_neither_the_data_nor_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "out", STUDY)
    record = {"format": FORMAT, "study": STUDY.model_dump(mode="json"), "shards": dict(store.sizes)}
    record["study"]["parts"][0]["data"]["name"] = "mnist"
    write_json(store.path / "study.json", record)
    monkeypatch.delenv("GENTHEORY_DATA", raising=False)
    ended = tiny.main(capsys, "status", store.path)
    assert ended.out.startswith("tiny: 4 models in 2 shards\n  done          0\n")


def test_a_killed_runner_and_a_killed_process_group_cost_only_what_was_in_flight(
    tmp_path: Path, undisturbed: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tiny.write(tmp_path / "slow.toml", tiny.slow()), tmp_path / "out"
    command = ("run", file, "--out", out, "--workers", 2)
    with tiny.process(*command) as running:
        tiny.until(lambda: list(out.glob("shards/*/shard.json")) and tiny.at_work(out))
        family = psutil.Process(running.pid).children(recursive=True)
        running.kill()
    # Its workers may still end and commit what they had, so that nothing need be lost here.
    _, before, _ = _stopped(out, family, capsys)
    assert before

    with tiny.process(*command) as running:
        tiny.until(lambda: _frozen_at_work(running.pid, out))
        family = psutil.Process(running.pid).children(recursive=True)
        os.killpg(running.pid, signal.SIGKILL)
    store, after, lost = _stopped(out, family, capsys)
    assert lost
    assert len(store.done()) < 4
    assert after.items() >= before.items()

    ended = tiny.main(capsys, "run", file, "--out", out, "--engine", "serial")
    assert (ended.code, ended.out) == (0, f"8 of 8 models done in {out}\n")
    assert tiny.files(store).items() >= after.items()
    tiny.assert_same(store, undisturbed)
    assert store.inflight() == []


def _frozen_at_work(group: int, out: Path) -> bool:
    """Whether all processes of the group are held in the midst of a shard; else they go on."""
    os.killpg(group, signal.SIGSTOP)
    if tiny.at_work(out):
        return True
    os.killpg(group, signal.SIGCONT)
    time.sleep(0.02)
    return False


def _stopped(
    out: Path, family: list[psutil.Process], capsys: pytest.CaptureFixture[str]
) -> tuple[Store, dict[str, bytes], set[str]]:
    """What is there once the last process is gone, and what is lost: `status` tells it as it is."""
    assert len(family) >= 2
    # Delivering a signal takes the kernel a moment; until then a worker is alive and told so.
    tiny.until(lambda: not any(map(tiny.alive, family)), seconds=30)
    store, status = Store.open(out), tiny.main(capsys, "status", out).out
    lost = {item.shard for item in store.inflight()} - set(store.done())
    assert f"  done          {2 * len(store.done())}\n  running       0\n" in status
    told = re.findall(r"shard (\w+): stopped before its end, will be done again \(pro", status)
    assert sorted(told) == sorted(lost)
    return store, tiny.files(store), lost


def test_rate_and_time_left_are_those_of_the_last_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.create(tmp_path / "out", parse(tiny.study(stack=1), place="it"))
    old, new, running, _ = store.sizes
    start = datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC)
    store.note_run("a", {"started": (start - timedelta(hours=1)).isoformat()})
    store.note_run("b", {"started": start.isoformat()})
    for shard, seconds in ((old, -600), (new, 50)):
        with store.writing(shard):
            pass
        moment = start.timestamp() + seconds
        os.utime(store.path / "shards" / shard / "shard.json", (moment, moment))
    assert standing(store).rate == 1 / 50
    assert standing(store).seconds_left is None
    assert "left" not in tiny.main(capsys, "status", store.path).out
    with store.writing(running):
        assert standing(store).seconds_left == 100
        ended = tiny.main(capsys, "status", store.path)
    assert "0.02 models a second, about 100 s left\n" in ended.out


def test_a_clock_that_went_back_gives_no_rate(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "out", STUDY)
    with store.writing(next(iter(store.sizes))):
        pass
    later = datetime.now(UTC) + timedelta(hours=1)
    store.note_run("a", {"started": later.isoformat()})
    assert standing(store).rate is None
