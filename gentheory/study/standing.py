"""Where a study stands: models by state, how fast they come, and how long the rest will take."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gentheory.study.catalogue import Commit
from gentheory.study.store import InFlight, Store


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


@dataclass(frozen=True)
class Standing:
    """A study's folder, looked at once."""

    counts: Counts
    flying: tuple[InFlight, ...]
    """Shards that somebody works on, and those that were stopped and are not done since."""
    failures: Mapping[str, str]
    """Reasons by shard, of those that nobody works on now."""
    rate: float | None
    """Models a second since the last run began; None before its first commit."""

    @property
    def seconds_left(self) -> float | None:
        """For what is neither done nor failed, at the rate of this run; None when none runs."""
        if not self.rate or not self.counts.running:
            return None
        return (self.counts.waiting + self.counts.running) / self.rate


def standing(store: Store) -> Standing:
    """Where a study stands, read from its files."""
    done = store.commits()
    flying = tuple(item for item in store.inflight() if item.alive or item.shard not in done)
    running = {item.shard for item in flying if item.alive} - set(done)
    failures = {s: why for s, why in store.noted_failures().items() if s not in done}
    failures = {shard: why for shard, why in failures.items() if shard not in running}
    some = (done, running, failures)
    counts = Counts(
        sum(store.sizes.values()), *(sum(store.sizes.get(s, 0) for s in states) for states in some)
    )
    return Standing(counts, flying, failures, _rate(store, done))


def count(store: Store) -> Counts:
    """Models by state, read from the study's files."""
    return standing(store).counts


def _rate(store: Store, done: Mapping[str, Commit]) -> float | None:
    runs = store.runs()
    if not runs:
        return None
    start = datetime.fromisoformat(runs[-1]["started"]).timestamp()
    since = {shard: each.time for shard, each in done.items() if each.time > start}
    if not since:
        return None
    return sum(store.sizes[shard] for shard in since) / (max(since.values()) - start)
