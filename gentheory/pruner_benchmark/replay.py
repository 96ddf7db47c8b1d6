"""One study replayed: Optuna's own code through ask and tell, under a simulated clock."""

import heapq
import math
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from gentheory.pruner_benchmark.arms import Candidates
from gentheory.pruner_benchmark.bases import BASES, compares
from gentheory.pruner_benchmark.curves import Array

PRUNED, COMPLETE, DIVERGED, UNKNOWN = range(4)
"""How a trial ended; unknown: trained to the end, but without a final value of the signal."""


@dataclass(frozen=True)
class Replay:
    """What became of n trials that W workers ran. Clocks are in epoch-equivalents."""

    epochs: NDArray[np.intp]
    """Trained, shape [n]."""
    looks: NDArray[np.intp]
    """Taken at the signal, shape [n]."""
    ended: Array
    """Clock at each trial's end, shape [n]."""
    outcome: NDArray[np.intp]
    """`PRUNED`, `COMPLETE`, `DIVERGED` or `UNKNOWN`, shape [n]."""
    finish: Array
    """Clock at which each worker found no more trials, shape [W]; none idles before."""

    def spent(self, clock: Array) -> Array:
        """Epoch-equivalents of all workers together until a clock; any shape."""
        return np.minimum(clock[..., None], self.finish).sum(axis=-1)


def replay(seen: Candidates, base: str, *, workers: int, name: str) -> Replay:
    """Run the trials in their order on `workers` asynchronous workers, pruned by `base`.

    Every worker trains its trial epoch by epoch as a user's loop would, reports the signal where
    the pruner looks, and asks for the next trial when one ends. A diverged model ends its trial
    at once, whatever the pruner; an unknown value is not reported, so the trial goes on, and where
    the signal was not measured for any trial nobody looks. A trial trained to the end is looked
    at there, for the final choice. `name` is the study's, on which Hyperband's brackets depend.
    `base` is one of `BASES`.
    """
    pruner = BASES[base](seen.horizon)
    study = optuna.create_study(pruner=pruner, sampler=RandomSampler(seed=0), study_name=name)
    return run(study, seen, workers=workers)


def run(study: Study, seen: Candidates, *, workers: int) -> Replay:
    """The same in a study of one's own without trials."""
    count = len(seen.signal)
    record = Replay(
        epochs=np.zeros(count, dtype=np.intp),
        looks=np.zeros(count, dtype=np.intp),
        ended=np.zeros(count),
        outcome=np.zeros(count, dtype=np.intp),
        finish=np.zeros(workers),
    )
    waiting = iter(range(count))
    simulate([_worker(study, seen, waiting, record) for _ in range(workers)], record.finish)
    return record


Work = Generator[float, float, None]
"""Yields what each piece of work costs, and is sent the clock at its end."""


def simulate(workers: Sequence[Work], finish: Array) -> None:
    """Run them side by side from clock 0, in turn where clocks are equal; fill in their ends."""
    queue = [(next(work, None), place) for place, work in enumerate(workers)]
    queue = [(cost, place) for cost, place in queue if cost is not None]
    heapq.heapify(queue)
    while queue:
        clock, place = heapq.heappop(queue)
        finish[place] = clock
        try:
            heapq.heappush(queue, (clock + workers[place].send(clock), place))
        except StopIteration:
            continue


def _worker(study: Study, seen: Candidates, waiting: Iterator[int], record: Replay) -> Work:
    for number in waiting:
        trial = study.ask()
        assert trial.number == number
        record.outcome[number], record.ended[number] = yield from _trial(study, trial, seen, record)


def _trial(
    study: Study, trial: Trial, seen: Candidates, record: Replay
) -> Generator[float, float, tuple[int, float]]:
    """How the trial ended, and when."""
    number, value, clock = trial.number, math.nan, 0.0
    for epoch in range(1, seen.horizon + 1):
        clock = yield seen.epoch_cost[number]
        record.epochs[number] = epoch
        value = math.nan
        if seen.diverged[number, epoch - 1]:
            study.tell(trial, state=TrialState.PRUNED)
            return DIVERGED, clock
        measured = seen.measured[epoch - 1]
        compared = measured and compares(study, trial, epoch)
        if compared or (measured and epoch == seen.horizon):
            value = float(seen.signal[number, epoch - 1])
            clock = yield seen.look_cost[number]
            record.looks[number] += 1
        if compared and not math.isnan(value):
            trial.report(value, epoch)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return PRUNED, clock
    if math.isnan(value):
        study.tell(trial, state=TrialState.FAIL)
        return UNKNOWN, clock
    study.tell(trial, value)
    return COMPLETE, clock


@contextmanager
def quiet() -> Generator[None, None, None]:
    """For many studies: neither a line for each, nor that `PatientPruner` is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
