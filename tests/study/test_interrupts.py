"""Runs that are hit from outside, or that share a folder, end as the undisturbed one does."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import tiny

from gentheory.study.store import Store


def test_two_runners_on_one_folder(
    tmp_path: Path, undisturbed: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tiny.write(tmp_path / "slow.toml", tiny.slow())
    command = ("run", file, "--out", tmp_path / "out", "--engine", "serial")
    with tiny.process(*command) as one, tiny.process(*command) as other:
        ends = [running.communicate(timeout=240) for running in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], ends
    assert all(out == f"8 of 8 models done in {tmp_path / 'out'}\n" for out, _ in ends)
    store = Store.open(tmp_path / "out")
    tiny.assert_same(store, undisturbed)
    assert len(list(store.path.glob("shards/*"))) == 4
    assert store.inflight() == []
    assert [run["shards"] for run in store.runs()] <= [4, 4]


def test_an_interrupt_and_a_killed_worker_cost_nothing_and_both_engines_agree(
    tmp_path: Path, undisturbed: Store
) -> None:
    file, out = tiny.write(tmp_path / "slow.toml", tiny.slow()), tmp_path / "out"
    command = ("run", file, "--out", out, "--workers", 2)
    with tiny.process(*command) as running:
        tiny.until(lambda: list(out.glob("shards/*/shard.json")))
        family = psutil.Process(running.pid).children(recursive=True)
        os.killpg(running.pid, signal.SIGINT)
        printed, err = running.communicate(timeout=150)
    store = Store.open(out)
    count = 2 * len(store.done())
    assert running.returncode == 130, err
    assert printed == ""
    assert err.endswith(
        f"Stopped: {count} of 8 models are done and kept in {out}; "
        "the same command goes on from there.\n"
    )
    assert "Traceback" not in err
    tiny.until(lambda: not any(map(tiny.alive, family)), seconds=30)
    before = tiny.files(store)

    with tiny.process(*command) as running:
        item = tiny.until(lambda: tiny.at_work(out))
        os.kill(item.owner["pid"], signal.SIGKILL)
        assert item.path.exists()  # it was hit in the midst of the shard
        printed, err = running.communicate(timeout=240)
    assert (running.returncode, printed) == (0, f"8 of 8 models done in {out}\n"), err
    assert "Traceback" not in err
    assert "Warning" not in err
    assert tiny.files(store).items() >= before.items()
    tiny.assert_same(store, undisturbed)
    assert store.inflight() == []
