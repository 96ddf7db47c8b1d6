"""Running a study to its end, or as far as it gets: plan, do what is missing, tell of it."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from gentheory.study import engine
from gentheory.study.provenance import cores, provenance
from gentheory.study.spec import Study
from gentheory.study.standing import Counts, count
from gentheory.study.store import DiskFullError, Store, full_disk


def number_of_workers(study: Study, asked: int | None) -> int:
    """As many as asked for, or as use all cores."""
    return asked or max(1, cores() // study.threads)


def run(
    store: Store,
    *,
    engine_name: str = "local",
    workers: int | None = None,
    command: str = "",
    on_shard: Callable[[engine.Finished], None] | None = None,
) -> Counts:
    """Do every shard that is missing, and say where the study then stands.

    Failures are noted in the folder and tried again by the next run. Raises `InputError` when
    the disk is full; whatever stops the run, committed shards stay.
    """
    engine.check(engine_name)
    store.sweep()
    missing = store.missing()
    if not missing:
        return count(store)
    workers = number_of_workers(store.study, workers)
    name, start = uuid.uuid4().hex[:12], time.monotonic()
    record: dict[str, Any] = {
        **provenance(),
        "command": command,
        "engine": engine_name,
        "workers": workers,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "shards": len(missing),
        "seconds": None,
    }
    with (
        full_disk(store.path),
        closing(engine.run(engine_name, store.path, missing, workers=workers)) as finished,
    ):
        store.note_run(name, record)
        for item in finished:
            if item.fatal:
                raise DiskFullError(store.path)
            if item.reason:
                store.fail(item.shard, item.reason)
            else:
                store.gather(item.shard)
            if on_shard is not None:
                on_shard(item)
        store.note_run(name, {**record, "seconds": time.monotonic() - start})
    store.sweep()
    return count(store)
