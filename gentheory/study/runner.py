"""Running a study to its end, or as far as it gets: plan, do what is missing, tell of it."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gentheory.study import engine
from gentheory.study.provenance import cores, provenance
from gentheory.study.store import DiskFullError, Store, full_disk


@dataclass(frozen=True)
class Counts:
    """Models by state. A failed shard's models are neither done nor running."""

    planned: int
    done: int
    running: int
    failed: int

    @property
    def waiting(self) -> int:
        """Neither done, nor running, nor failed."""
        return self.planned - self.done - self.running - self.failed


def count(store: Store) -> Counts:
    """Where a study stands, read from its files."""
    done = set(store.done())
    running = {item.shard for item in store.inflight() if item.alive} - done
    failed = set(store.failures()) - running
    return Counts(
        sum(store.sizes.values()),
        *(sum(store.sizes.get(shard, 0) for shard in some) for some in (done, running, failed)),
    )


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
    workers = workers or max(1, cores() // store.study.threads)
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
            if on_shard is not None:
                on_shard(item)
        store.note_run(name, {**record, "seconds": time.monotonic() - start})
    store.sweep()
    return count(store)
