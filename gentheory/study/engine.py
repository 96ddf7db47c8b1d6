"""Who does the shards: this process, or a Dask cluster of processes on this machine."""

import signal
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from gentheory.errors import InputError
from gentheory.study.plan import Shard
from gentheory.study.store import DiskFullError, Store

ENGINES = ("serial", "local")


@dataclass(frozen=True)
class Finished:
    """What became of one shard: done where `reason` is empty."""

    shard: str
    reason: str = ""
    fatal: bool = False
    """Nothing else will do better: a full disk. The run ends."""


def do_shard(path: str, record: dict[str, Any]) -> Finished:
    """Do one shard of the study in the folder; runs in whatever process an engine has chosen."""
    # Imported here: a scheduler passes this function on without having to load torch.
    from gentheory.study.shard import run_shard

    shard = Shard.from_dict(record)
    try:
        run_shard(Store.open(Path(path)), shard)
    except DiskFullError as error:
        return Finished(shard.id, str(error), fatal=True)
    except Exception as error:
        return Finished(shard.id, f"{type(error).__name__}: {error}")
    return Finished(shard.id)


def check(name: str) -> None:
    """Raise `InputError` unless there is an engine of this name."""
    if name not in ENGINES:
        raise InputError("engine", repr(name), f"one of {', '.join(ENGINES)}", "choose one")


def run(
    name: str, path: Path, shards: Sequence[Shard], *, workers: int
) -> Generator[Finished, None, None]:
    """Do the shards, yielding each as it ends, in whatever order that is."""
    check(name)
    if name == "serial":
        for shard in shards:
            yield do_shard(str(path), shard.to_dict())
    else:
        yield from _local(path, shards, workers=workers)


def _local(path: Path, shards: Sequence[Shard], *, workers: int) -> Iterator[Finished]:
    """A worker is one process with one task at a time; a killed one is replaced and its shard
    tried again, until a shard has cost three workers."""
    import dask.config
    from distributed import Client, KilledWorker, as_completed

    threads = shards[0].threads
    settings = {
        "distributed.scheduler.allowed-failures": 2,
        "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": threads,
        "distributed.nanny.pre-spawn-environ.MKL_NUM_THREADS": threads,
        "distributed.worker.daemon": True,
        "distributed.logging.distributed": "critical",
    }
    with (
        tempfile.TemporaryDirectory(prefix="gentheory-") as scratch,
        dask.config.set(settings),
        _cluster(min(workers, len(shards)), scratch) as cluster,
        Client(cluster) as client,
    ):
        futures = {
            client.submit(do_shard, str(path), shard.to_dict(), key=f"shard-{shard.id}"): shard.id
            for shard in shards
        }
        for future in as_completed(futures):
            try:
                yield future.result()
            except KilledWorker:
                reason = "three worker processes died on it: out of memory, or killed from outside"
                yield Finished(futures[future], reason)


def _cluster(workers: int, scratch: str) -> Any:
    from distributed import LocalCluster

    with _deaf_to_interrupts():
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            # Any free port: two runs on one machine must not quarrel over the usual one.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            local_directory=scratch,
            silence_logs=50,
        )


@contextmanager
def _deaf_to_interrupts() -> Generator[None, None, None]:
    """What starts in here leaves Ctrl-C to the run, which then ends its workers in good order.

    The threads of the cluster inherit the block, and so does every worker that they start.
    """
    resource_tracker.ensure_running()  # started later, by a thread of the cluster, it unblocks
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
