"""Dask clusters: one of processes on this machine, and one that somebody else has started."""

import logging
import os
import signal
import tempfile
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from gentheory.errors import InputError

SCHEMES = ("tcp://", "tls://")


@contextmanager
def local(workers: int, *, threads: int, devices: Sequence[str]) -> Generator[Any, None, None]:
    """A client of as many new processes, which end with the block.

    The devices go round among them, one a worker. Numerical libraries get `threads`.
    """
    import dask.config
    from distributed import Client

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": threads,
        "distributed.nanny.pre-spawn-environ.MKL_NUM_THREADS": threads,
        "distributed.worker.daemon": True,
        "distributed.logging.distributed": "critical",
    }
    with (
        tempfile.TemporaryDirectory(prefix="gentheory-") as scratch,
        dask.config.set(settings),
        _cluster(workers, scratch, devices) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _cluster(workers: int, scratch: str, devices: Sequence[str]) -> Any:
    from distributed import Nanny, Scheduler, SpecCluster

    common: dict[str, Any] = {"host": "127.0.0.1", "protocol": "tcp://"}
    worker = {"nthreads": 1, "memory_limit": 0, "local_directory": scratch, "silence_logs": 50}
    # Any free port: two runs on one machine must not quarrel over the usual one.
    scheduler = {**common, "port": 0, "dashboard": True, "dashboard_address": "127.0.0.1:0"}
    environments = [{"CUDA_VISIBLE_DEVICES": device} for device in devices] or [{}]
    specification = {
        number: {
            "cls": Nanny,
            "options": {
                **common,
                **worker,
                "dashboard": False,
                "env": environments[number % len(environments)],
            },
        }
        for number in range(workers)
    }
    quiet: Any = 50  # a level, whatever the signature says
    with _deaf_to_interrupts():
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": scheduler},
            workers=specification,
            silence_logs=quiet,
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


@contextmanager
def remote(address: str) -> Generator[Any, None, None]:
    """A client of the scheduler at the address; its certificates, for tls, are as Dask is told.

    Raises `InputError` where none answers.
    """
    from distributed import Client

    # What Dask logs of a scheduler that is gone, the run says in one sentence.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            "--engine",
            f"no scheduler at {address} ({str(error).strip().splitlines()[0][:200]})",
            "the address that `dask scheduler` printed",
            "start one, and check the address, the firewall and, for tls, the certificates",
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=5)


def devices() -> list[str]:
    """The CUDA devices that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]


def dashboard(client: Any) -> str:
    """A line that says where the cluster can be watched, or how to get there."""
    link = client.dashboard_link
    # The machine's proxies lead out, and the scheduler is within.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(link, timeout=10) as page:
            served = b"Dask needs" not in page.read()
    except (OSError, ValueError):
        return f"Dask dashboard: not to be reached from here, or not served ({link})"
    if served:
        return f"Dask dashboard: {link}"
    return "Dask dashboard: needs `python -m pip install bokeh` where the scheduler runs"
