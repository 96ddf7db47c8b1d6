"""Running a study to its end, or as far as it gets: plan, do what is missing, tell of it."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from gentheory.study.engine import Engine
from gentheory.study.files import DiskFullError, full_disk
from gentheory.study.owner import Watch
from gentheory.study.provenance import provenance
from gentheory.study.retries import Finished, Retries
from gentheory.study.standing import Counts, count
from gentheory.study.store import Store


def run(
    store: Store,
    *,
    engine_name: str = "local",
    workers: int | None = None,
    retries: int = 2,
    time_limit: float | None = None,
    command: str = "",
    on_shard: Callable[[Finished], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Counts:
    """Do every shard that is missing, and say where the study then stands.

    An attempt at a stack that fails or is not done within `time_limit` seconds is repeated up to
    `retries` times; then the stack is split until the model to blame is found and given up.
    Shards that still fail are noted in the folder and tried again by the next run. Raises
    `InputError` when the disk is full, or the engine cannot be used or is lost; whatever stops
    the run, committed shards stay.
    """
    engine = Engine(engine_name, workers)
    engine.check(time_limit)
    watch = Watch()
    store.sweep(watch)
    missing = store.missing()
    if not missing:
        return count(store)
    name, start = uuid.uuid4().hex[:12], time.monotonic()
    record: dict[str, Any] = {
        **provenance(),
        "command": command,
        "engine": engine.name,
        "workers": engine.processes(store.study.threads),
        "retries": retries,
        "time_limit": time_limit,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "shards": len(missing),
        "seconds": None,
    }
    work = Retries.of(store, missing, limit=retries, time_limit=time_limit)
    with (
        full_disk(store.path),
        closing(engine.run(store, work.waiting, store.run_note(name), tell)) as ended,
    ):
        store.note_run(name, record)
        for attempt, end in ended:
            item = work.after(attempt, end)
            if item is None:
                continue
            if item.fatal:
                raise DiskFullError(store.path)
            if item.reason:
                store.fail(item.shard, item.reason)
            else:
                store.gather(item.shard)
            if on_shard is not None:
                on_shard(item)
        store.note_run(name, {**record, "seconds": time.monotonic() - start})
    store.sweep(watch)
    return count(store)
