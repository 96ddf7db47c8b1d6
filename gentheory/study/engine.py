"""Who makes the attempts: this process, processes on this machine, or a Dask cluster."""

import os
import sys
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from gentheory.errors import InputError
from gentheory.study import cluster
from gentheory.study.attempt import Attempt, Ended, perform
from gentheory.study.crew import Crew, Tell
from gentheory.study.provenance import cores
from gentheory.study.store import Store


@dataclass(frozen=True)
class Engine:
    """An engine by its name, and how many workers it may use."""

    name: str = "local"
    """`serial`, `local`, or the address of a scheduler: tcp://host:port or tls://host:port."""
    workers: int | None = None
    """Processes of the local engine, one a core or CUDA device unless given; of a scheduler's
    workers, use at most so many."""

    def check(self, time_limit: float | None = None) -> None:
        """Raise `InputError` unless there is such an engine, and it can end what takes longer."""
        if self.name not in ("serial", "local") and not self.name.startswith(cluster.SCHEMES):
            expected = "one of serial, local, tcp://host:port, tls://host:port"
            raise InputError("engine", repr(self.name), expected, "choose one")
        if self.name == "serial" and time_limit is not None:
            raise InputError(
                "--time-limit",
                "the engine serial, which cannot end its own process",
                "an engine with processes of its own",
                "choose --engine local, or drop the limit",
            )

    def processes(self, threads: int) -> int | None:
        """Workers of as many threads that it will use; None for all that a scheduler has."""
        if self.name == "serial":
            return 1
        if self.workers is None and self.name == "local":
            return len(cluster.devices()) or max(1, cores() // threads)
        return self.workers

    def run(
        self, store: Store, waiting: deque[Attempt], note: Path, tell: Tell
    ) -> Generator[tuple[Attempt, Ended], None, None]:
        """Make the attempts, yielding each as it ends; whoever is told may add more."""
        if self.name == "serial":
            while waiting:
                attempt = waiting.popleft()
                yield attempt, perform(str(store.path), attempt.to_dict(), own_process=False)
            return
        # Another process may stand in another folder; links may lead elsewhere on other machines.
        here = Path(os.path.abspath(store.path))
        store, note = replace(store, path=here), here / note.relative_to(store.path)
        threads = store.study.threads
        most = self.processes(threads) or sys.maxsize
        if self.name == "local":
            devices = cluster.devices()
            opened = cluster.local(min(most, len(waiting)), threads=threads, devices=devices)
        else:
            opened = cluster.remote(self.name)
        with opened as client:
            tell(cluster.dashboard(client))
            yield from Crew(client, store, self.name, most, note, tell).work(waiting)
