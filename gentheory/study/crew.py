"""The workers of a Dask cluster: who may be given an attempt, who has one, who is gone.

Each worker has one attempt at a time, handed out from here, so that an attempt ends with its
worker and never runs twice. Workers come and go; each is looked at before its first attempt.
"""

import asyncio
import queue
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gentheory.errors import InputError
from gentheory.study.attempt import Attempt, Ended, died, perform
from gentheory.study.provenance import made_with
from gentheory.study.store import Store

LOOK_EVERY = 0.5
"""Seconds between two looks at the cluster."""
_SEEN_WITHIN = 15.0
"""Seconds within which a new file is seen by every machine that shares its folder."""

Tell = Callable[[str], None]


class SchedulerLostError(InputError):
    """The scheduler went away in the midst of a run; what was committed before is untouched."""

    def __init__(self, address: str) -> None:
        super().__init__(
            address,
            "no scheduler any more",
            "the one that this run began with",
            "start a scheduler and workers again, and run the same command: finished shards are "
            "kept",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.place,)


@dataclass
class Crew:
    """The workers that a client sees, in one run of a study."""

    client: Any
    store: Store
    address: str
    most: int
    """Use at most so many of them at a time."""
    note: Path
    """A file of this run, by which a worker shows that it shares the study's folder."""
    tell: Tell
    idle: list[str] = field(default_factory=list[str])
    busy: dict[str, tuple[Attempt, Any]] = field(default_factory=dict[str, tuple[Attempt, Any]])
    _misfits: set[str] = field(default_factory=set[str])
    _failed: dict[str, set[str]] = field(default_factory=lambda: defaultdict[str, set[str]](set))
    """Workers by the stack that failed on them: others are asked first."""
    _again: set[str] = field(default_factory=set[str])
    """Stacks whose worker was gone before it began, once each: a worker may die of its imports."""
    _ended: "queue.SimpleQueue[str]" = field(default_factory=lambda: queue.SimpleQueue[str]())

    def work(self, waiting: deque[Attempt]) -> Generator[tuple[Attempt, Ended], None, None]:
        """Make the attempts, yielding each as it ends; whoever is told may add more.

        Raises `InputError` for a worker there from the start that cannot be used, and
        `SchedulerLostError`. One that comes later and cannot be used is told of and left alone.
        """
        self._look(strict=True)
        if not self.idle:
            self.tell(f"Waiting for workers of {self.address} …")
        looked = time.monotonic()
        while waiting or self.busy:
            if time.monotonic() - looked >= LOOK_EVERY:
                yield from self._lost(self._look(), waiting)
                looked = time.monotonic()
            self._hand_out(waiting)
            try:
                worker = self._ended.get(timeout=LOOK_EVERY)
            except queue.Empty:
                continue
            if worker in self.busy and self.busy[worker][1].done():
                # A worker that died of it may still be on the scheduler's list for a while.
                if not _died_of(self.busy[worker][1]):
                    self.idle.append(worker)
                yield self._end(worker)

    def _lost(
        self, gone: list[str], waiting: deque[Attempt]
    ) -> Generator[tuple[Attempt, Ended], None, None]:
        """The attempts of workers that are gone; one that was not begun is made elsewhere."""
        for worker in gone:
            attempt, future = self.busy[worker]
            begun = future.done() or self.store.was_begun(attempt.shard, attempt.nonce)
            if begun or attempt.stack.id in self._again:
                yield self._end(worker)
                continue
            del self.busy[worker]
            future.cancel()
            self._again.add(attempt.stack.id)
            waiting.appendleft(attempt.at(attempt.stack))

    def _look(self, *, strict: bool = False) -> list[str]:
        """Meet newcomers; those that have an attempt and are gone."""
        try:
            there = set(self.client.nthreads())
            self._meet(there - {*self.idle, *self.busy, *self._misfits}, strict)
        except (OSError, TimeoutError, ValueError) as error:  # the last from a closed client
            if isinstance(error, InputError):
                raise
            raise SchedulerLostError(self.address) from error
        self.idle = [worker for worker in self.idle if worker in there]
        self._misfits &= there
        return [worker for worker in self.busy if worker not in there]

    def _meet(self, newcomers: set[str], strict: bool) -> None:
        if not newcomers:
            return
        note, options = str(self.note), {"workers": [*newcomers], "on_error": "return"}
        for worker, answer in self.client.run(_introduce, note, **options).items():
            if isinstance(answer, OSError):
                continue  # gone again
            misfit = _misfit(worker, answer, self.note)
            if misfit is None:
                self.idle.append(worker)
            elif strict:
                raise misfit
            else:
                self._misfits.add(worker)
                self.tell(f"Not used: {misfit}")

    def _hand_out(self, waiting: deque[Attempt]) -> None:
        for worker in [*self.idle]:
            attempt = self._next(worker, waiting) if len(self.busy) < self.most else None
            if attempt is not None:
                waiting.remove(attempt)
                self.idle.remove(worker)
                self._submit(worker, attempt)

    def _next(self, worker: str, waiting: deque[Attempt]) -> Attempt | None:
        """The first attempt whose stack has not failed here, or has failed everywhere."""
        everybody = {*self.idle, *self.busy}
        for attempt in waiting:
            failed = self._failed.get(attempt.stack.id, set[str]())
            if worker not in failed or everybody <= failed:
                return attempt
        return None

    def _submit(self, worker: str, attempt: Attempt) -> None:
        future = self.client.submit(
            perform,
            str(self.store.path),
            attempt.to_dict(),
            key=f"shard-{attempt.shard}-{attempt.nonce}",
            workers=[worker],
            allow_other_workers=False,
        )
        self.busy[worker] = attempt, future
        future.add_done_callback(lambda _: self._ended.put(worker))

    def _end(self, worker: str) -> tuple[Attempt, Ended]:
        """How the worker's attempt ended. Raises `SchedulerLostError` where nobody can know."""
        from distributed import KilledWorker

        attempt, future = self.busy.pop(worker)
        if not future.done():
            future.cancel()
            ended = died(self.store, attempt)
        elif future.cancelled():
            raise SchedulerLostError(self.address)
        else:
            try:
                ended = future.result()
            except KilledWorker:
                ended = died(self.store, attempt)
            except Exception as error:
                ended = Ended(f"{type(error).__name__}: {error}")
        if ended.reason:
            self._failed[attempt.stack.id].add(worker)
            self.store.forget(attempt.shard, attempt.nonce)
        return attempt, ended


def _died_of(future: Any) -> bool:
    """Whether the worker went down with the attempt."""
    from distributed import KilledWorker

    return not future.cancelled() and isinstance(future.exception(), KilledWorker)


async def _introduce(note: str, dask_worker: Any) -> dict[str, Any]:
    """What a worker says of itself; runs there."""
    end = time.monotonic() + _SEEN_WITHIN
    while not (sees := Path(note).exists()) and time.monotonic() < end:
        await asyncio.sleep(0.2)
    return {
        "host": socket.gethostname(),
        "sees": sees,
        "threads": dask_worker.state.nthreads,
        "made_with": made_with(),
    }


def _misfit(worker: str, answer: Any, note: Path) -> InputError | None:
    """Why this worker cannot be used, by what it said; None where it can."""
    mine, place = made_with(), f"worker {worker}"
    cure = "install the same versions on all machines, and start the worker again"
    if isinstance(answer, Exception):
        found = f"no usable gentheory ({type(answer).__name__}: {answer})"
        return InputError(place, found, f"gentheory {mine['gentheory']}", cure)
    place = f"{place} on {answer['host']}"
    if not answer["sees"]:
        return InputError(
            place,
            f"no {note}, which this run has just written",
            "a folder that all machines share, under one path",
            "give an --out on a file system that is mounted there too, as an absolute path",
        )
    theirs = answer["made_with"]
    if names := [name for name in mine if theirs.get(name) != mine[name]]:
        found, expected = (
            ", ".join(f"{name} {made.get(name)}" for name in names) for made in (theirs, mine)
        )
        return InputError(place, found, f"{expected} as here", cure)
    if answer["threads"] != 1:
        return InputError(
            place,
            f"{answer['threads']} threads",
            "one, because a shard needs the process for itself",
            "start it with --nthreads 1, and as many workers as the cores can feed",
        )
    return None
