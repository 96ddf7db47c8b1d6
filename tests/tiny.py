"""A study of a few tiny nets, and gentheory's command line in this process and in another."""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import psutil
import pytest

from gentheory import cli
from gentheory.study import runner
from gentheory.study.spec import parse
from gentheory.study.store import InFlight, Store

SAME = ("models", "measures", "curves")
"""Tables that depend on the study alone; `costs` holds times."""


def study(**sections: Any) -> dict[str, Any]:
    """Four models in two shards; a section that is given replaces the whole one."""
    return {
        "name": "tiny",
        "title": "Tiny",
        "stack": 2,
        "data": {"name": "digits"},
        "architectures": [net()],
        "training": training(),
        "grid": {"learning_rate": [0.01, 0.1], "seed": [0, 1]},
        "measures": {"names": ["tic.exact", "norms.distance"]},
        **sections,
    }


def net(**changes: Any) -> dict[str, Any]:
    return {"label": "net", "model": "mlp", "options": {"depth": 2, "width": 3}, **changes}


def training(**changes: Any) -> dict[str, Any]:
    return {"n_train": 60, "epochs": 2, **changes}


def slow() -> dict[str, Any]:
    """Eight models in four shards of some tenths of a second: long enough to be hit by a signal."""
    grid = {"learning_rate": [0.03, 0.1], "seed": [0, 1, 2, 3]}
    return study(training=training(epochs=200), grid=grid)


def write(path: Path, raw: dict[str, Any]) -> Path:
    """The study as TOML."""
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in raw.items()))
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inside = (f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(inside)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return (
        repr(value) if isinstance(value, float) and not math.isfinite(value) else json.dumps(value)
    )


def done(path: Path, raw: dict[str, Any]) -> Store:
    """The study, run to its end in this process."""
    store = Store.create(path, parse(raw, place="test"))
    counts = runner.run(store, engine_name="serial")
    assert counts.done == counts.planned
    return store


def files(store: Store) -> dict[str, bytes]:
    """What every committed shard holds, but for the times it took."""
    found = store.path.glob("shards/*/*")
    kept = (file for file in found if file.stem in (*SAME, "weights"))
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in sorted(kept)}


def assert_same(store: Store, reference: Store) -> None:
    """The same tables to the last digit, in files of the same bytes."""
    for name in SAME:
        pd.testing.assert_frame_equal(store.table(name), reference.table(name), check_exact=True)
    assert files(store) == files(reference)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def main(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """`gentheory ARGUMENTS` in this process; only exceptions that it should have caught escape."""
    capsys.readouterr()
    with mock.patch.object(sys, "argv", ["gentheory", *map(str, arguments)]):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, *capsys.readouterr())


def refused(ended: Ended, message: str) -> None:
    """Status 2 and one sentence that says so; no traceback."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err, ended.err
    sentences = [line for line in ended.err.splitlines() if line.startswith("gentheory: ")]
    assert len(sentences) == 1
    assert re.search(message, sentences[0]), sentences[0]


@contextmanager
def process(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`gentheory ARGUMENTS` in a process of its own, in a process group of its own."""
    # What a shell starts in the background ignores SIGINT, and so would all that this starts.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    with python(
        f"{heed}; from gentheory.cli import main; main()", *arguments, **options
    ) as running:
        yield running


@contextmanager
def python(code: str, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`python -c CODE ARGUMENTS` in a process of its own, in a process group of its own."""
    with (
        # A cluster that is killed leaves its scratch folder behind.
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": scratch},
            **options,
        ) as running,
    ):
        try:
            yield running
        finally:
            running.kill()


def until(condition: Callable[[], Any], *, seconds: float = 150.0) -> Any:
    """What the condition says as soon as it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    pytest.fail(f"not so after {seconds} s: {condition}")


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that is over and not yet waited for does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def at_work(out: Path) -> InFlight | None:
    """A shard in flight with signs of life: some process is in the midst of its training."""
    if not (out / "study.json").exists():
        return None
    found = Store.open(out).inflight()
    return next((item for item in found if item.alive and item.progress), None)
